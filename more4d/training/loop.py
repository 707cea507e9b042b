"""The training loop. It knows nothing of 4-D: a task gives data, loss and files.

Data order and noise are functions of (seed, step, rank), so that a run that stops and starts again is the
same run.
"""

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from more4d.files.checkpoints import CheckpointFolder
from more4d.foundation.errors import ConfigError, More4DError
from more4d.foundation.seeding import derive_seed, torch_generator
from more4d.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from more4d.training.config import LoopConfig
from more4d.training.ema import ExponentialMovingAverage
from more4d.training.intake import Intake, describe
from more4d.training.journal import Journal
from more4d.training.optim import build_optimiser, set_learning_rate
from more4d.training.runtime import Runtime
from more4d.training.task import Task
from more4d.training.window import Measured, measured

log = logging.getLogger(__name__)


def train(
    task: Task,
    config: LoopConfig,
    output: Path,
    runtime: Runtime | None = None,
    *,
    settings: dict[str, Any] | None = None,
    saved: Callable[[int], None] = lambda step: None,
) -> bool:
    """Train `task`, checkpointing into `output`; run again, it goes on where it stopped.

    Returns whether it came to the end: asked to stop (SIGTERM, Ctrl-C), it saves and returns False. What was
    learned is in the checkpoints (`checkpoint.load_trained`); the task's own weights may be spread over
    processes by then. `settings` are what the result depends on: a run goes on only with the same. `saved` is
    called on every process after each checkpoint, with its step.

    Raises:
        More4DError: the loss or the gradient is not finite, or too many samples are bad.
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
    intake = Intake(task, config, runtime, start=start, folder=output)
    module.train()
    updates = Updates(runtime=runtime, module=module, optimiser=optimiser, config=config)
    samples = config.batch_size * config.accumulate * runtime.processes
    journal = Journal(
        config, output, start, samples=samples, show=runtime.is_main, gather=runtime.told_by_all
    )
    with closing(journal), _requests_to_stop() as asked:
        for step in range(start, config.steps):
            seen = updates.take(intake, step)
            if average:
                average.update(task)
            journal.note(step, seen, memory_gib=runtime.peak_memory_gib(), bad=intake.bad)
            done = step + 1
            stop = runtime.any(bool(asked))
            if stop or done % config.save_every == 0 or done == config.steps:
                save_checkpoint(folder, done, state, runtime)
                journal.draw(last=stop or done == config.steps)
                saved(done)
            if stop and done < config.steps:
                log.warning("stopped after step %d, which is saved; the same command goes on", done)
                return False
    return True


def rehearse(task: Task, config: LoopConfig, runtime: Runtime) -> tuple[float, dict[str, float]]:
    """Two steps that are not kept: how many seconds the second, warm one takes, and its metrics."""
    module, optimiser = runtime.prepare(task, build_optimiser(task, config))
    intake = Intake(task, config, runtime)
    module.train()
    updates = Updates(runtime=runtime, module=module, optimiser=optimiser, config=config)
    for step in range(min(2, config.steps)):
        started = time.monotonic()
        metrics = updates.take(intake, step).metrics
    return time.monotonic() - started, metrics


@dataclass(frozen=True, kw_only=True)
class Updates:
    """Steps of a prepared module and optimiser."""

    runtime: Runtime
    module: nn.Module
    optimiser: torch.optim.Optimizer
    config: LoopConfig

    def take(self, intake: Intake, step: int) -> Measured:
        """Update the weights once; returns what the step measured on this process.

        Raises:
            More4DError: the loss or the gradient is not finite, or too many samples are bad. Nothing was
                updated, unless DeepSpeed did so with a gradient that was not finite; nothing is saved.
        """
        set_learning_rate(self.optimiser, step, self.config)
        seen = measured([self._part(intake.take(step), step, part) for part in range(self.config.accumulate)])
        gradient = self.runtime.clip_gradients(self.module, self.config.gradient_clip)
        if self.runtime.any(not math.isfinite(gradient)):
            raise More4DError(
                f"the gradient at step {step} is {gradient}; nothing was saved since the last"
                " checkpoint: lower learning_rate or gradient_clip and start again from there"
            )
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return replace(seen, metrics={**seen.metrics, "gradient": gradient})

    def _part(self, batch: Any, step: int, part: int) -> dict[str, Tensor]:
        place = (self.config.seed, step, part, self.runtime.rank)
        torch.manual_seed(derive_seed("global", *place))  # for layers that draw without a generator
        with self.runtime.part_of_step(self.module):
            metrics = self.module(batch.to(self.runtime.device), torch_generator("noise", *place))
            loss = float(metrics["loss"].detach())
            if self.runtime.any(not math.isfinite(loss)):
                told = self.runtime.told_by_all((self.runtime.rank, loss, describe(batch)))
                odd = [
                    f"{value} on process {rank}, whose batch was: {batch}"
                    for rank, value, batch in told
                    if not math.isfinite(value)
                ]
                raise More4DError(f"the loss at step {step} is {'; '.join(odd)}. Nothing was updated")
            self.runtime.backward(metrics["loss"])
        return {name: value.detach() for name, value in metrics.items()}


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
