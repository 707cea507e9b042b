"""The batches of the training loop, in the order of the steps; bad samples are named, counted and limited."""

import logging
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from more4d.datasets.skip_bad_samples import Loaded, SkipBadSamples, collate_loaded
from more4d.files.atomic import append_json_line, filter_json_lines, read_json_lines
from more4d.foundation.errors import ConfigError, More4DError
from more4d.training.config import LoopConfig
from more4d.training.runtime import Runtime
from more4d.training.task import Task

log = logging.getLogger(__name__)
BAD_SAMPLES = "bad_samples.jsonl"
BAD_SAMPLE = {"step": int, "sample": str}
MIN_SEEN = 100
"""Minimum denominator of the fraction of bad samples; else the first bad one would end a run."""
MAX_NAMED = 5
"""Number of the most recent bad samples that the error names."""


def step_indices(config: LoopConfig, start: int, rank: int, processes: int) -> Iterator[list[int]]:
    """Indices of the batches from step `start` on: each micro batch of a rank is one contiguous range."""
    size, parts = config.batch_size, config.accumulate
    for number in range(start * parts, config.steps * parts):
        first = (number * processes + rank) * size
        yield list(range(first, first + size))


class BatchStream:
    """The batches of a run from step `start` on, one per micro step.

    Bad samples are listed in `bad_samples.jsonl` of the run's folder; a resumed run starts its count from
    that file. Over all processes at most loop.max_bad_fraction of the samples seen (at least MIN_SEEN) may be
    bad.

    Args:
        folder: folder of the run; None: nothing is written.
    """

    def __init__(
        self, task: Task, config: LoopConfig, runtime: Runtime, *, start: int = 0, folder: Path | None = None
    ) -> None:
        self._config, self._runtime = config, runtime
        self._per_part = config.batch_size * runtime.processes
        self._seen = start * config.accumulate * self._per_part
        self._path = folder / BAD_SAMPLES if folder else None
        lines: list[dict[str, Any]] = []
        if self._path and runtime.is_main:
            filter_json_lines(self._path, lambda line: line["step"] <= start, BAD_SAMPLE)
            lines = read_json_lines(self._path, BAD_SAMPLE)
        lines = runtime.all_gather(lines)[0]
        self._named: dict[str, None] = dict.fromkeys(line["sample"] for line in lines)  # an ordered set
        self.bad = len(lines)
        """Bad samples so far, over all processes."""
        self._batches = iter(_loader(task, config, start, runtime))

    def next(self, step: int) -> Any:
        """The next batch. Collective over the processes.

        Raises:
            More4DError: too many samples are bad, or one has no replacement; raised on every process.
        """
        loaded: Loaded = next(self._batches)
        self._seen += self._per_part
        if self._runtime.any(bool(loaded.bad)):
            self._count(step, loaded)
        return loaded.content

    def close(self) -> None:
        """End the workers. They ignore signals, so an iterator that outlives the run would block its exit."""
        # An error that a worker raised holds the iterator in its traceback: to let go of it is not enough.
        if end := getattr(self._batches, "_shutdown_workers", None):
            end()
        self._batches = iter(())

    def _count(self, step: int, loaded: Loaded) -> None:
        collected = self._runtime.all_gather((loaded.bad, loaded.content is None))
        for line in (line for bad, _ in collected for line in bad):
            if line not in self._named and self._runtime.is_main:
                log.warning("bad %s", line)
            self._named.pop(line, None)
            self._named[line] = None
            self.bad += 1
            if self._path and self._runtime.is_main:
                append_json_line(self._path, {"step": step + 1, "sample": line})
        last = "; ".join(list(self._named)[-MAX_NAMED:])
        if any(nothing for _, nothing in collected):
            raise More4DError(f"step {step}: no sample could stand in for a bad one; the last: {last}")
        allowed = self._config.max_bad_fraction
        if self.bad > allowed * max(self._seen, MIN_SEEN):
            raise More4DError(
                f"step {step}: {self.bad} of {self._seen} samples are bad, more than loop.max_bad_fraction"
                f" {allowed:g} allows; mend or remove them, or allow more; the last:"
                f" {last}"
            )


def describe_batch(batch: Any) -> str:
    """Names or captions of a batch's samples, for messages."""
    texts = [str(text) for text in getattr(batch, "names", None) or getattr(batch, "captions", None) or ()]
    return "; ".join(text or "(no caption)" for text in texts) or type(batch).__name__


def _loader(task: Task, config: LoopConfig, start: int, runtime: Runtime) -> DataLoader:
    data = task.dataset()
    group = getattr(data, "group", None)
    if group is not None and group % config.batch_size:
        raise ConfigError(
            f"loop.batch_size {config.batch_size} does not divide the {group} consecutive samples that have"
            f" one shape; set group of options.data or options.clips to {config.batch_size} (of a cache, make"
            " it again), or loop.batch_size to a divisor"
        )
    return DataLoader(
        SkipBadSamples(data, config.seed),
        batch_sampler=step_indices(config, start, runtime.rank, runtime.processes),
        collate_fn=partial(collate_loaded, task.collate),
        num_workers=config.workers,
        # With "forkserver" the server would receive the signals, too; its exit would look like the workers'.
        multiprocessing_context="spawn" if config.workers else None,
        prefetch_factor=4 if config.workers else None,
        worker_init_fn=_leave_signals_to_the_parent,
    )


def _leave_signals_to_the_parent(worker: int) -> None:
    """Ignore Ctrl-C (sent to every process of a terminal) and SIGTERM (sent to every process of a cluster
    job): only the training process saves a checkpoint and ends the workers.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
