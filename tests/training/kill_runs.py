"""Starts a tiny training run again and again and kills it at random moments, until it has come to its end.

    python -m tests.training.kill_runs FOLDER --kills 30

Children are forked from a process that has imported everything, so that a start costs nothing.
"""

import argparse
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import torch

from more4d.training.loop import train
from tests.training.fit_line import LOOP, FitLine

CONFIG = replace(LOOP, steps=200, save_every=2, learning_rate=0.02, log_every=1000)


class ToldLine(FitLine):
    """Tells its parent of every step it begins."""

    def __init__(self, told: int) -> None:
        super().__init__()
        self._told = told

    def forward(self, batch, generator):
        os.write(self._told, b".")
        return super().forward(batch, generator)


def start(folder: Path) -> tuple[int, int]:
    """Fork a child that trains to the end; returns its process number and where to hear of its steps."""
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(heard)
        os._exit(0 if train(ToldLine(told), CONFIG, folder) else 3)
    os.close(told)
    return child, heard


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    draw = random.Random(options.seed)
    saving = 0
    for _ in range(options.kills):
        child, heard = start(options.folder)
        for _ in range(draw.randint(1, 5)):
            os.read(heard, 1)
        time.sleep(draw.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"the run ended ({status}) before it was killed"
        os.close(heard)
        saving += any(options.folder.glob(".step-*"))
    child, heard = start(options.folder)
    while os.read(heard, 4096):
        pass
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    print(saving)


if __name__ == "__main__":
    main()
