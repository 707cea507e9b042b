"""The training loop, independent of what is trained: a task defines data, loss and exported files.

Data order and noise are functions of (seed, step, rank), so that a resumed run equals an uninterrupted one.
"""

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from more4d.foundation.config import derive_seed, torch_generator
from more4d.foundation.errors import ConfigError, More4DError
from more4d.training.batches import BatchStream, describe_batch
from more4d.training.checkpoint import CheckpointFolder, TrainingState, load_checkpoint, save_checkpoint
from more4d.training.config import LoopConfig
from more4d.training.journal import Journal
from more4d.training.optim import ExponentialMovingAverage, build_optimiser, set_learning_rate
from more4d.training.runtime import Runtime
from more4d.training.task import StepMetrics, Task, step_metrics

log = logging.getLogger(__name__)


def train(
    task: Task,
    config: LoopConfig,
    output: Path,
    runtime: Runtime | None = None,
    *,
    settings: dict[str, Any] | None = None,
    on_checkpoint: Callable[[int], None] = lambda step: None,
) -> bool:
    """Train `task` with checkpoints in `output`; called again, it resumes from the newest one.

    Returns whether training is complete: on SIGTERM or Ctrl-C it saves and returns False. The trained weights
    are in the checkpoints (`checkpoint.load_trained`); those of `task` may be sharded over processes.
    `settings` are the values that the result depends on: a run resumes only with equal ones. `on_checkpoint`
    is called on every process after each checkpoint, with its step.

    Raises:
        More4DError: the loss or the gradient is not finite, or too many samples are bad.
        WeightsError: there are checkpoints, but training cannot resume from them.
    """
    runtime = runtime or Runtime(config)
    runner = StepRunner(task, config, runtime)
    sharding = runtime.sharding(runner.optimiser)
    average = ExponentialMovingAverage(task, sharding, config.ema_decay) if config.ema_decay else None
    state = TrainingState(module=task, sharding=sharding, average=average, settings=settings or {})
    folder = CheckpointFolder(output, keep_last=config.keep_last, keep_every=config.keep_every)
    start = load_checkpoint(folder, state, runtime)
    if start > config.steps:
        raise ConfigError(f"{output} stands at step {start} already, beyond loop.steps={config.steps}")
    batches = BatchStream(task, config, runtime, start=start, folder=output)
    samples = config.batch_size * config.accumulate * runtime.processes
    journal = Journal(config, output, start, samples=samples, show=runtime.is_main, gather=runtime.all_gather)
    with closing(batches), closing(journal), _catch_stop_signals() as stop_signals:
        for step in range(start, config.steps):
            metrics = runner.run(batches, step)
            if average:
                average.update(task)
            journal.record(step, metrics, memory_gib=runtime.peak_memory_gib(), bad=batches.bad)
            done = step + 1
            stop = runtime.any(bool(stop_signals))
            if stop or done % config.save_every == 0 or done == config.steps:
                save_checkpoint(folder, done, state, runtime)
                journal.draw(last=stop or done == config.steps)
                on_checkpoint(done)
            if stop and done < config.steps:
                log.warning("stopped after step %d, which is saved; the same command goes on", done)
                return False
    return True


def dry_run(task: Task, config: LoopConfig, runtime: Runtime) -> tuple[float, dict[str, float]]:
    """Take two steps without saving; returns the seconds of the second, warm one and its metrics."""
    runner, batches = StepRunner(task, config, runtime), BatchStream(task, config, runtime)
    for step in range(min(2, config.steps)):
        started = time.monotonic()
        metrics = runner.run(batches, step).metrics
        seconds = time.monotonic() - started
    batches.close()
    return seconds, metrics


def _knows_bfloat16() -> bool:
    """Whether the processor has the instructions that torch's kernels for bfloat16 need."""
    return bool(torch.cpu.get_capabilities().get("avx512_bw", True))  # others than x86 are not known


class StepRunner:
    """Prepares a task and its optimiser for the processes, and takes optimiser steps."""

    def __init__(self, task: Task, config: LoopConfig, runtime: Runtime) -> None:
        self.config, self.runtime = config, runtime
        # Measured without: 20 times the time of float32.
        if config.precision == "bf16" and runtime.device.type == "cpu" and not _knows_bfloat16():
            log.warning(
                "this processor computes bfloat16 in software, many times slower than float32; add"
                " loop.precision=no"
            )
        self.module, self.optimiser = runtime.prepare(task, build_optimiser(task, config))
        self.module.train()

    def run(self, batches: BatchStream, step: int) -> StepMetrics:
        """Update the weights once; returns the step's metrics on this process.

        Raises:
            More4DError: the loss or the gradient is not finite, or too many samples are bad. No weight has
                changed (DeepSpeed may have applied a gradient that is not finite), and nothing is saved.
        """
        set_learning_rate(self.optimiser, step, self.config)
        parts = [self._micro_step(batches.next(step), step, part) for part in range(self.config.accumulate)]
        metrics = step_metrics(parts)
        gradient = self.runtime.clip_gradients(self.module, self.config.gradient_clip)
        if self.runtime.any(not math.isfinite(gradient)):
            raise More4DError(
                f"the gradient at step {step} is {gradient}; nothing was saved since the last"
                " checkpoint: lower learning_rate or gradient_clip and start again from there"
            )
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return replace(metrics, metrics={**metrics.metrics, "gradient": gradient})

    def _micro_step(self, batch: Any, step: int, part: int) -> dict[str, Tensor]:
        place = (self.config.seed, step, part, self.runtime.rank)
        torch.manual_seed(derive_seed("global", *place))  # for layers that sample without a generator
        with self.runtime.accumulation_step(self.module):
            metrics = self.module(batch.to(self.runtime.device), torch_generator("noise", *place))
            loss = float(metrics["loss"].detach())
            if self.runtime.any(not math.isfinite(loss)):
                gathered = self.runtime.all_gather((self.runtime.rank, loss, describe_batch(batch)))
                odd = [
                    f"{value} on process {rank}, whose batch was: {batch}"
                    for rank, value, batch in gathered
                    if not math.isfinite(value)
                ]
                raise More4DError(f"the loss at step {step} is {'; '.join(odd)}. Nothing was updated")
            self.runtime.backward(metrics["loss"])
        return {name: value.detach() for name, value in metrics.items()}


@contextmanager
def _catch_stop_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and the first SIGINT instead of exiting; a second SIGINT interrupts immediately."""
    stop_signals: list[int] = []

    def note(number: int, frame: object) -> None:
        if number == signal.SIGINT and signal.SIGINT in stop_signals:
            raise KeyboardInterrupt
        stop_signals.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # only the main thread may set signal handlers
        yield stop_signals
        return
    try:
        yield stop_signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
