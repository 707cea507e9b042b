"""The training loop. It knows nothing of 4-D: a task gives data, loss and files.

Data order and noise are functions of (seed, step, rank), so that a run that stops and starts again is the
same run.
"""

import logging
import math
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from more4d.files.checkpoints import CheckpointFolder
from more4d.foundation.errors import ConfigError, More4DError
from more4d.foundation.seeding import derive_seed, torch_generator
from more4d.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from more4d.training.config import LoopConfig
from more4d.training.ema import ExponentialMovingAverage
from more4d.training.journal import Journal
from more4d.training.optim import build_optimiser, set_learning_rate
from more4d.training.runtime import Runtime
from more4d.training.task import Task

log = logging.getLogger(__name__)


class StepSampler:
    """Indices of the batches from step `start` on: part p of step s on rank r is one contiguous run."""

    def __init__(self, config: LoopConfig, start: int, rank: int, processes: int) -> None:
        self._config, self._start, self._rank, self._processes = config, start, rank, processes

    def __len__(self) -> int:
        return (self._config.steps - self._start) * self._config.accumulate

    def __iter__(self) -> Iterator[list[int]]:
        size, parts = self._config.batch_size, self._config.accumulate
        for number in range(self._start * parts, self._config.steps * parts):
            first = (number * self._processes + self._rank) * size
            yield list(range(first, first + size))


def train(
    task: Task,
    config: LoopConfig,
    output: Path,
    runtime: Runtime | None = None,
    *,
    settings: dict[str, Any] | None = None,
) -> bool:
    """Train `task`, checkpointing into `output`; run again, it goes on where it stopped.

    Returns whether it came to the end: asked to stop (SIGTERM, Ctrl-C), it saves and returns False. What was
    learned is in the checkpoints (`checkpoint.load_trained`); the task's own weights may be spread over
    processes by then. `settings` are what the result depends on: a run goes on only with the same.

    Raises:
        More4DError: the loss is not finite.
        WeightsError: there are checkpoints that cannot be gone on from.
    """
    runtime = runtime or Runtime(config)
    module, optimiser = runtime.prepare(task, build_optimiser(task, config))
    layout = runtime.layout(optimiser)
    average = ExponentialMovingAverage(task, layout, config.ema_decay) if config.ema_decay else None
    state = TrainingState(module=task, layout=layout, average=average, settings=settings or {})
    folder = CheckpointFolder(output, keep_last=config.keep_last, keep_every=config.keep_every)
    start = load_checkpoint(folder, state, runtime)
    if start > config.steps:
        raise ConfigError(f"{output} stands at step {start} already, beyond loop.steps={config.steps}")
    batches = iter(_loader(task, config, start, runtime))
    module.train()
    updates = Updates(runtime=runtime, module=module, optimiser=optimiser, config=config)
    samples = config.batch_size * config.accumulate * runtime.processes
    journal = Journal(config, output, start, samples=samples, show=runtime.is_main)
    with _requests_to_stop() as asked:
        for step in range(start, config.steps):
            metrics = updates.take(batches, step)
            if average:
                average.update(task)
            journal.note(step, metrics, runtime.peak_memory_gib())
            done = step + 1
            stop = runtime.any(bool(asked))
            if stop or done % config.save_every == 0 or done == config.steps:
                save_checkpoint(folder, done, state, runtime)
            if stop and done < config.steps:
                log.warning("stopped after step %d, which is saved; the same command goes on", done)
                journal.close()
                return False
    journal.close()
    return True


def rehearse(task: Task, config: LoopConfig, runtime: Runtime) -> tuple[float, dict[str, float]]:
    """Two steps that are not kept: how many seconds the second, warm one takes, and its metrics."""
    module, optimiser = runtime.prepare(task, build_optimiser(task, config))
    batches = iter(_loader(task, config, 0, runtime))
    module.train()
    updates = Updates(runtime=runtime, module=module, optimiser=optimiser, config=config)
    for step in range(min(2, config.steps)):
        started = time.monotonic()
        metrics = updates.take(batches, step)
    return time.monotonic() - started, metrics


@dataclass(frozen=True, kw_only=True)
class Updates:
    """Steps of a prepared module and optimiser."""

    runtime: Runtime
    module: nn.Module
    optimiser: torch.optim.Optimizer
    config: LoopConfig

    def take(self, batches: Iterator[Any], step: int) -> dict[str, float]:
        """Update the weights once; returns the mean metrics of the step's parts on this process.

        Raises:
            More4DError: the loss is not finite; nothing was updated.
        """
        set_learning_rate(self.optimiser, step, self.config)
        totals: dict[str, float] = defaultdict(float)
        for part in range(self.config.accumulate):
            for name, value in self._part(next(batches), step, part).items():
                totals[name] += float(value.detach()) / self.config.accumulate
        totals["gradient"] = self.runtime.clip_gradients(self.module, self.config.gradient_clip)
        if self.runtime.any(not math.isfinite(totals["gradient"])):
            raise More4DError(
                f"the gradient at step {step} is {totals['gradient']}; nothing was saved since the last"
                " checkpoint: lower learning_rate or gradient_clip and start again from there"
            )
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return totals

    def _part(self, batch: Any, step: int, part: int) -> dict[str, Tensor]:
        place = (self.config.seed, step, part, self.runtime.rank)
        torch.manual_seed(derive_seed("global", *place))  # for layers that draw without a generator
        with self.runtime.part_of_step(self.module):
            metrics = self.module(batch.to(self.runtime.device), torch_generator("noise", *place))
            loss = float(metrics["loss"].detach())
            if self.runtime.any(not math.isfinite(loss)):
                raise More4DError(
                    f"the loss at step {step} is {loss} on process {self.runtime.rank}; nothing was updated."
                    f" The batch: {describe(batch)}"
                )
            self.runtime.backward(metrics["loss"])
        return metrics


def describe(batch: Any, most: int = 8) -> str:
    """What a batch holds, as far as it says so: names or captions."""
    told = getattr(batch, "names", None) or getattr(batch, "captions", None) or ()
    return "; ".join(map(str, told[:most])) or type(batch).__name__


def _loader(task: Task, config: LoopConfig, start: int, runtime: Runtime) -> DataLoader:
    return DataLoader(
        task.dataset(),
        batch_sampler=StepSampler(config, start, runtime.rank, runtime.processes),
        collate_fn=task.collate,
        num_workers=config.workers,
        multiprocessing_context="forkserver" if config.workers else None,
        prefetch_factor=4 if config.workers else None,
        worker_init_fn=_leave_interrupts_to_the_parent,
    )


def _leave_interrupts_to_the_parent(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal, but only the training process saves and ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _requests_to_stop() -> Iterator[list[int]]:
    """Collects SIGTERM and the first SIGINT instead of dying; a second SIGINT interrupts at once."""
    asked: list[int] = []

    def note(number: int, frame: object) -> None:
        if number == signal.SIGINT and signal.SIGINT in asked:
            raise KeyboardInterrupt
        asked.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: signals are somebody else's
        yield asked
        return
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
