"""A task that takes microseconds; run as a script it trains, so that tests can launch and kill it."""

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset

from more4d.foundation.errors import InputError, More4DError
from more4d.training.checkpoint import CheckpointFolder, load_trained
from more4d.training.config import LoopConfig
from more4d.training.loop import train
from more4d.training.runtime import Runtime
from more4d.training.task import NOISE_LEVELS, Task, noise_levels

LOOP = LoopConfig(steps=8, batch_size=2, workers=0, save_every=3, log_every=2, precision="no", warmup_steps=2)


class Points:
    """A batch of numbers."""

    def __init__(self, values):
        self.values = values

    def to(self, device):
        return Points(self.values.to(device))

    @staticmethod
    def collate(samples):
        return Points(torch.cat([sample.values for sample in samples]))


class Line(Dataset):
    """Endless; of samples in `bad` the files are damaged, and each takes some seconds."""

    def __init__(self, bad=(), seconds=0.0):
        self.bad, self.seconds = bad, seconds

    def __getitem__(self, index):
        time.sleep(self.seconds)
        if index in self.bad:
            raise InputError(f"point-{index}.txt is damaged")
        return Points(torch.tensor([[float(index % 7) / 7]]))


class FitLine(Task):
    name = "fit-line"

    def __init__(self, scale=1.0, bad=(), seconds=0.0):
        super().__init__()
        self.bad, self.seconds = bad, seconds
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Dropout(0.1), nn.Linear(6, 1))
        self.frozen = nn.Linear(1, 1).requires_grad_(False)
        self.register_buffer("seen", torch.zeros(1))
        self.scale = scale

    def dataset(self):
        return Line(self.bad, self.seconds)

    def forward(self, batch, generator):
        noise = 0.1 * torch.randn(batch.values.shape, generator=generator)
        error = self.layer(batch.values.to(self.layer[0].weight.dtype)).float() - 2 * batch.values - noise
        loss = self.scale * error.square().mean(1)
        return {"loss": loss.mean(), NOISE_LEVELS: noise_levels(batch.values[:, 0], loss)}

    def export(self, folder, notes):
        return []


def trained_parameters(folder: Path) -> dict[str, torch.Tensor]:
    """What the newest checkpoint in `folder` has trained_parameters."""
    task = FitLine()
    load_trained(CheckpointFolder(folder), task)
    return {name: p.detach() for name, p in task.named_parameters() if p.requires_grad}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--precision", default="no")
    parser.add_argument("--save-every", type=int, default=3)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--bad", type=int, nargs="*", default=[])
    parser.add_argument("--max-bad-fraction", type=float, default=0.0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.0, help="that a sample takes")
    options = parser.parse_args()
    config = replace(
        LOOP,
        steps=options.steps,
        precision=options.precision,
        save_every=options.save_every,
        accumulate=options.accumulate,
        learning_rate=0.02,
        schedule="constant",
        max_bad_fraction=options.max_bad_fraction,
        workers=options.workers,
    )
    torch.set_num_threads(1)
    runtime = Runtime(config)
    print(f"{runtime.kind}, {runtime.processes} processes, pid {os.getpid()}", file=sys.stderr)
    try:
        finished = train(FitLine(bad=options.bad, seconds=options.seconds), config, options.folder, runtime)
    except More4DError as error:
        print(f"rank {runtime.rank}: {error}", file=sys.stderr)
        finished = False
    runtime.close()
    sys.exit(0 if finished else 3)


if __name__ == "__main__":
    main()
