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


class ReportingLine(FitLine):
    """Tells its parent of every step it begins."""

    def __init__(self, write_end: int) -> None:
        super().__init__()
        self._pipe = write_end

    def forward(self, batch, generator):
        os.write(self._pipe, b".")
        return super().forward(batch, generator)


def start(folder: Path) -> tuple[int, int]:
    """Fork a child that trains to the end; returns its process number and where to hear of its steps."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        os._exit(0 if train(ReportingLine(write_end), CONFIG, folder) else 3)
    os.close(write_end)
    return child, read_end


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
        child, read_end = start(options.folder)
        for _ in range(draw.randint(1, 5)):
            os.read(read_end, 1)
        time.sleep(draw.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"the run ended ({status}) before it was killed"
        os.close(read_end)
        saving += any(options.folder.glob(".step-*"))
    child, read_end = start(options.folder)
    while os.read(read_end, 4096):
        pass
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    print(saving)


if __name__ == "__main__":
    main()
