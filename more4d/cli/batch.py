"""Items one after the other, with progress, a summary, and no failure that stops the rest."""

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

from more4d.cli.messages import report_error
from more4d.cli.progress_bar import BatchProgress
from more4d.files.scene_folder import save_batch_sheet
from more4d.foundation.errors import DistributedError, More4DError, WeightsError
from more4d.pipeline import More4DPipeline
from more4d.runs.item import Result, run_job, stage_names
from more4d.runs.job import Job, camera_folders
from more4d.runs.record import RunRecord, locked, peak_memory_mib

SHEET_ITEMS = 12

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one item ended; `failure` is the reason if it did not end well.

    `process` made it, where several share the work.
    """

    job: Job
    seconds: float
    result: Result | None = None
    failure: str | None = None
    process: int | None = None


def run_batch(pipe: More4DPipeline, jobs: list[Job], output: Path, *, show: bool) -> int:
    """Make every item into a folder of its own in `output`; returns the exit code.

    Raises:
        WeightsError: a network cannot be loaded.
        InputError: the folder cannot be written to, another run is writing into it, or a foreign file is
            in the way.
    """
    for job in jobs:
        camera_folders(job)
    started = time.monotonic()
    with locked(output):
        record = RunRecord(output, {"kind": "batch"})
        progress = BatchProgress(sum(len(stage_names(job)) for job in jobs), show=show)
        outcomes = []
        try:
            for number, job in enumerate(jobs, start=1):
                label = f"{job.name} ({number} of {len(jobs)})" if len(jobs) > 1 else job.name
                outcomes.append(make_item(pipe, job, output, progress, label))
        finally:
            progress.close()
        return summarise(record, outcomes, started=started, memory_mib=peak_memory_mib())


def make_item(pipe: More4DPipeline, job: Job, output: Path, progress: BatchProgress, label: str) -> Outcome:
    """Make one item, and say how that ended.

    Raises:
        WeightsError: a network cannot be loaded, so that all other items would fail too.
        DistributedError: processes that work on the item together have lost each other.
    """
    started = time.monotonic()
    result, failure = None, None
    with progress.item(label, len(stage_names(job))) as report:
        # What one item can cause: bad input, files, memory, sizes that a network refuses.
        try:
            result = run_job(pipe, job, output / job.name, progress=report)
        except (WeightsError, DistributedError):
            raise
        except (More4DError, OSError, MemoryError, RuntimeError, ValueError) as error:
            failure = _one_line(error)
            _log.debug("%s failed", job.name, exc_info=True)
            group = pipe.components.parallel_group
            if group is not None and group.desynchronised:
                raise DistributedError(
                    f"{job.name}: {failure}; the processes that share it must stop"
                ) from error
            if os.environ.get("MORE4D_DEBUG"):
                raise
    return Outcome(job=job, seconds=time.monotonic() - started, result=result, failure=failure)


def summarise(record: RunRecord, outcomes: list[Outcome], *, started: float, memory_mib: int) -> int:
    """Write the record and the sheet of a whole run and tell its end; returns the exit code.

    Args:
        outcomes: one per item, in the order of the list.
        started: by `time.monotonic`.
        memory_mib: the most that a process has held.
    """
    record.about["items"] = [_described(outcome) for outcome in outcomes]
    good = [outcome for outcome in outcomes if outcome.result is not None]
    sheet = _sheet(record, good, record.folder) if len(good) > 1 else None
    failures = [f"{outcome.job.name}: {outcome.failure}" for outcome in outcomes if outcome.failure]
    if failures:
        record.fail("; ".join(failures))
    else:
        record.save()
    for outcome in good:
        print(f"{outcome.job.name}: {outcome.result.folder}/sheet.png")
    seconds = time.monotonic() - started
    shown = f" (the first {SHEET_ITEMS} of {len(good)})" if sheet and len(good) > SHEET_ITEMS else ""
    print(
        f"{len(good)} of {len(outcomes)} items in {seconds:.0f} s, at most {memory_mib} MiB of memory: "
        f"{sheet or record.folder}{shown}"
    )
    for failure in failures:
        report_error(failure)
    return 1 if failures else 0


def _sheet(record: RunRecord, good: list[Outcome], output: Path) -> Path:
    shown = [
        (_label(outcome.job), outcome.result.folder, list(camera_folders(outcome.job)))
        for outcome in good[:SHEET_ITEMS]
        if outcome.result is not None
    ]
    inputs = [outcome.result.fingerprint for outcome in good if outcome.result is not None]
    record.stage("sheet", inputs, ["sheet.png"], lambda: save_batch_sheet(output / "sheet.png", shown))
    return output / "sheet.png"


def _label(job: Job) -> str:
    return f"{job.name}: {job.prompt}" if job.prompt else job.name


def _described(outcome: Outcome) -> dict[str, object]:
    return {
        "name": outcome.job.name,
        **({} if outcome.process is None else {"process": outcome.process}),
        "state": "failed" if outcome.failure else "finished",
        "failure": outcome.failure,
        "seconds": round(outcome.seconds, 2),
        "stages_run": outcome.result.stages_run if outcome.result else None,
    }


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    expected = isinstance(error, (More4DError, OSError))
    return text if expected and text else f"{type(error).__name__}: {text} (set MORE4D_DEBUG=1 for details)"
