"""A job list over the machines of a Ray cluster: every item is a task, and what failed is tried once more.

All machines need this package and must see inputs, weights and the output folder at the same paths. An item
that an earlier run has finished is recognised by its run record, as without Ray.
"""

import argparse
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from more4d.cli.batch import (
    BatchProgress,
    Outcome,
    PipelineSettings,
    batch_record,
    make_item,
    reason_of,
    recorded,
    summarise,
)
from more4d.cli.main import ProgressBar
from more4d.cli.options import usable_cores
from more4d.datasets.from_video.ray_backend import connect
from more4d.foundation.errors import More4DError
from more4d.foundation.optional import require
from more4d.pipeline import More4DPipeline
from more4d.runs.job import Job
from more4d.runs.record import locked, peak_memory_mib

LOCAL = "local"
"""The address that stands for a Ray of this machine alone."""
MAX_CPUS_PER_ITEM = 4
"""More cores make one item hardly faster; more items at a time use them better."""

_pipelines: dict[str, More4DPipeline] = {}
"""What this worker process has opened: Ray runs many tasks in one process."""


def run_ray_batch(options: argparse.Namespace, jobs: Sequence[Job], settings: PipelineSettings) -> int:
    """Make the items of a list on the machines of Ray, as `batch.run_batch` does here; returns the exit code.

    Args:
        options: of `more4d infer`; `ray` is the address of a cluster, or `LOCAL`.
        jobs: the items.
        settings: what every worker opens.

    Raises:
        MissingPackageError: Ray is not installed.
        DistributedError: there is no cluster at the address.
        WeightsError, ConfigError: a network cannot be opened, so that all items would fail.
        InputError: the folder cannot be written to, or another run is writing into it.
    """
    ray = require("ray", extra="ray")
    started, show = time.monotonic(), not options.quiet
    loras = {
        component: [replace(lora, path=lora.path.absolute()) for lora in each]
        for component, each in settings.loras.items()
    }
    settings = replace(settings, folder=settings.folder.absolute(), loras=loras)
    with locked(options.output):
        record = batch_record(options.output, ray=options.ray)
        connected = ray.is_initialized()
        if not connected:
            address = None if options.ray == LOCAL else options.ray
            connect(ray, cpus=usable_cores(), device=options.device, address=address)
        try:
            with recorded(record):
                outcomes, memory_mib = _run(ray, options.output.absolute(), jobs, settings, show=show)
        finally:
            if not connected:
                ray.shutdown()  # ends the tasks, too
        return summarise(record, outcomes, started=started, memory_mib=memory_mib)


def _run(
    ray: Any, output: Path, jobs: Sequence[Job], settings: PipelineSettings, *, show: bool
) -> tuple[list[Outcome], int]:
    """The outcome of every item, in order, and the peak memory of a worker in MiB."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = max(1, min(MAX_CPUS_PER_ITEM, int(max(node.get("CPU", 1) for node in nodes))))
    gpus = int(settings.device != "cpu" and any(node.get("GPU") for node in nodes))
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(_work)

    def submit(numbers: Iterable[int]) -> dict[Any, int]:
        return {task.remote(settings, absolute(jobs[number]), output): number for number in numbers}

    outcomes: dict[int, Outcome] = {}
    memory_mib, failed = peak_memory_mib(), []
    bar = ProgressBar(len(jobs), show=show)
    pending = submit(range(len(jobs)))
    try:
        while pending or failed:
            if not pending:  # once more, when the machines have nothing else to do
                pending, failed = submit(failed), []
            (done,), _ = ray.wait(list(pending), num_returns=1)
            number = pending.pop(done)
            outcome, host, used_mib = _result(ray, done, jobs[number])
            memory_mib = max(memory_mib, used_mib)
            again = outcome.failure is not None and number not in outcomes
            outcomes[number] = replace(outcome, job=jobs[number])
            if again:
                failed.append(number)
            else:
                bar.bar.update()
            end = f"failed{', will be tried again' if again else ''}" if outcome.failure else "finished"
            where = f"{outcome.seconds:.1f} s{f', {host}' if host else ''}"
            bar.line(f"{jobs[number].name}: {end} ({where})")
    finally:
        for task_left in pending:
            ray.cancel(task_left, force=True)
        bar.close()
    return [outcomes[number] for number in range(len(jobs))], memory_mib


def _result(ray: Any, task: Any, job: Job) -> tuple[Outcome, str, int]:
    """What a task returned; an exception in it, or a worker that is gone, is a failure of its item."""
    try:
        value = ray.get(task)
    except ray.exceptions.RayTaskError as error:  # its own text is the traceback, of many lines
        return Outcome(job=job, seconds=0.0, failure=reason_of(error.cause)), "", 0
    except ray.exceptions.RayError as error:
        failure = f"the worker that made it was lost ({type(error).__name__})"
        return Outcome(job=job, seconds=0.0, failure=failure), "", 0
    if isinstance(value, More4DError):
        raise value
    return value


def _work(settings: PipelineSettings, job: Job, output: Path) -> tuple[Outcome, str, int] | More4DError:
    """Make one item in a worker process."""
    try:
        key = repr(settings)
        if key not in _pipelines:
            _pipelines[key] = More4DPipeline(settings.open())
        progress = BatchProgress(0, show=False, lines=True)
        outcome = make_item(_pipelines[key], job, output, progress, job.name)
    except More4DError as error:  # concerns all items; Ray would wrap it into many lines
        return error
    return outcome, socket.gethostname(), peak_memory_mib()


def absolute(job: Job) -> Job:
    """The job as a process with another working directory can read it.

    Links stay as they are: one that leads to itself is a file that is not there, and that item's matter.
    """

    def placed(each: Any, *names: str) -> Any:
        paths = {name: path for name in names if (path := getattr(each, name)) is not None}
        return replace(each, **{name: path.absolute() for name, path in paths.items()})

    return replace(
        placed(job, "image", "depth", "tracks"),
        cameras=tuple(placed(camera, "file") for camera in job.cameras),
        chooser=job.chooser and placed(job.chooser, "source"),
        masks=tuple(mask.absolute() for mask in job.masks),
        control=job.control.with_strokes(tuple(placed(each, "mask") for each in job.control.strokes)),
    )
