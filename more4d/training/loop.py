"""The training loop. It knows nothing of 4-D: a task gives data, loss and files.

Data order and noise are functions of (seed, step, rank), so that a run that stops and starts again is the
same run.
"""

import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path

from torch.utils.data import DataLoader
from tqdm import tqdm

from more4d.foundation.errors import More4DError
from more4d.foundation.seeding import torch_generator
from more4d.training.checkpoint import load_checkpoint, save_checkpoint
from more4d.training.config import LoopConfig
from more4d.training.ema import ExponentialMovingAverage
from more4d.training.optim import build_optimiser, learning_rate
from more4d.training.runtime import Runtime
from more4d.training.task import Task

log = logging.getLogger(__name__)


class StepSampler:
    """Indices of the batches from `start` on: step s and rank r take one contiguous run of the dataset."""

    def __init__(self, config: LoopConfig, start: int, rank: int, processes: int) -> None:
        self._config, self._start, self._rank, self._processes = config, start, rank, processes

    def __len__(self) -> int:
        return self._config.steps - self._start

    def __iter__(self) -> Iterator[list[int]]:
        size = self._config.batch_size
        for step in range(self._start, self._config.steps):
            first = (step * self._processes + self._rank) * size
            yield list(range(first, first + size))


def train(task: Task, config: LoopConfig, output: Path) -> None:
    """Train `task`, checkpointing into `output`; run again, it goes on where it stopped.

    The task is left with the averaged weights (if an average is kept), ready for `task.export`.

    Raises:
        More4DError: the loss is not finite.
    """
    runtime = Runtime(config)
    optimiser = build_optimiser(task, config)
    average = ExponentialMovingAverage(task, config.ema_decay) if config.ema_decay else None
    start = load_checkpoint(output, task, optimiser, average)
    module, optimiser = runtime.prepare(task, optimiser)
    loader = DataLoader(
        task.dataset(),
        batch_sampler=StepSampler(config, start, runtime.rank, runtime.processes),
        collate_fn=task.collate,
        num_workers=config.workers,
        multiprocessing_context="forkserver" if config.workers else None,
        prefetch_factor=4 if config.workers else None,
    )
    module.train()
    journal = Journal(config, start, show=runtime.is_main)
    for step, batch in enumerate(loader, start):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, config)
        generator = torch_generator("noise", config.seed, step, runtime.rank)
        with runtime.autocast():
            metrics = module(batch.to(runtime.device), generator)
        loss = float(metrics["loss"].detach())
        if not math.isfinite(loss):
            raise More4DError(f"the loss at step {step} is {loss}; nothing was updated")
        runtime.backward(metrics["loss"])
        norm = runtime.clip_gradients(module, config.gradient_clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if average:
            average.update(task)
        journal.note(step, {**{k: float(v.detach()) for k, v in metrics.items()}, "gradient": norm})
        done = step + 1
        if runtime.is_main and (done % config.save_every == 0 or done == config.steps):
            save_checkpoint(output, done, task, optimiser, average)
    journal.close()
    if average:
        average.swap(task)


class Journal:
    """Running means of the metrics, in a progress bar and in log lines."""

    def __init__(self, config: LoopConfig, start: int, *, show: bool) -> None:
        self._config, self._sums, self._count = config, {}, 0
        self._bar = tqdm(
            total=config.steps, initial=start, desc="training", unit="step", disable=not show or None
        )
        self._clock = time.monotonic()

    def note(self, step: int, metrics: dict[str, float]) -> None:
        for key, value in metrics.items():
            self._sums[key] = self._sums.get(key, 0.0) + (value if math.isfinite(value) else 0.0)
        self._count += 1
        self._bar.update()
        if (step + 1) % self._config.log_every == 0:
            means = {key: value / self._count for key, value in self._sums.items()}
            seconds = (time.monotonic() - self._clock) / self._count
            text = "  ".join(f"{key} {value:.4g}" for key, value in means.items())
            self._bar.set_postfix_str(text)
            log.info("step %d  %s  %.3f s/step", step + 1, text, seconds)
            self._sums, self._count, self._clock = {}, 0, time.monotonic()

    def close(self) -> None:
        self._bar.close()
