"""Items one after the other, with progress, a summary, and no failure that stops the rest."""

import logging
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from more4d.cli.progress_bar import BatchProgress
from more4d.foundation.errors import More4DError, WeightsError
from more4d.pipelines.batch_sheet import save_batch_sheet
from more4d.pipelines.image_to_4d import Result, camera_folders, run_job, stage_names
from more4d.pipelines.job import Job
from more4d.pipelines.models import Models
from more4d.pipelines.run_lock import locked
from more4d.pipelines.run_record import RunRecord, peak_memory_mib

SHEET_ITEMS = 12

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one item ended; `failure` is the reason if it did not end well."""

    job: Job
    seconds: float
    result: Result | None = None
    failure: str | None = None


def run_batch(models: Models, jobs: list[Job], output: Path, *, show: bool) -> int:
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
        outcomes = _run_all(models, jobs, output, show)
        record.about["items"] = [_described(outcome) for outcome in outcomes]
        good = [outcome for outcome in outcomes if outcome.result is not None]
        sheet = _sheet(record, good, output) if len(good) > 1 else None
        failures = [f"{outcome.job.name}: {outcome.failure}" for outcome in outcomes if outcome.failure]
        if failures:
            record.fail("; ".join(failures))
        else:
            record.save()
    seconds = time.monotonic() - started
    for outcome in good:
        print(f"{outcome.job.name}: {outcome.result.folder}/sheet.png")
    print(
        f"{len(good)} of {len(jobs)} items in {seconds:.0f} s, at most {peak_memory_mib()} MiB of memory: "
        f"{sheet or output}"
    )
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _run_all(models: Models, jobs: list[Job], output: Path, show: bool) -> list[Outcome]:
    outcomes = []
    progress = BatchProgress(sum(len(stage_names(job)) for job in jobs), show=show)
    try:
        for number, job in enumerate(jobs, start=1):
            label = f"{job.name} ({number} of {len(jobs)})" if len(jobs) > 1 else job.name
            started = time.monotonic()
            result, failure = None, None
            with progress.item(label, len(stage_names(job))) as report:
                # What one item can cause: bad input, files, memory, sizes that a network refuses.
                try:
                    result = run_job(models, job, output / job.name, progress=report)
                except WeightsError:
                    raise  # the other items would fail of it too
                except (More4DError, OSError, MemoryError, RuntimeError, ValueError) as error:
                    failure = _one_line(error)
                    _log.debug("%s failed", job.name, exc_info=True)
                    if os.environ.get("MORE4D_DEBUG"):
                        raise
            seconds = time.monotonic() - started
            outcomes.append(Outcome(job=job, seconds=seconds, result=result, failure=failure))
    finally:
        progress.close()
    return outcomes


def _sheet(record: RunRecord, good: list[Outcome], output: Path) -> Path:
    shown = [
        (outcome.job.prompt or outcome.job.name, outcome.result.folder, list(camera_folders(outcome.job)))
        for outcome in good[:SHEET_ITEMS]
        if outcome.result is not None
    ]
    made_from = [outcome.result.identity for outcome in good if outcome.result is not None]
    record.stage("sheet", made_from, ["sheet.png"], lambda: save_batch_sheet(output / "sheet.png", shown))
    return output / "sheet.png"


def _described(outcome: Outcome) -> dict[str, object]:
    return {
        "name": outcome.job.name,
        "state": "failed" if outcome.failure else "finished",
        "failure": outcome.failure,
        "seconds": round(outcome.seconds, 2),
        "stages_run": outcome.result.stages_run if outcome.result else None,
    }


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    expected = isinstance(error, (More4DError, OSError))
    return text if expected and text else f"{type(error).__name__}: {text} (set MORE4D_DEBUG=1 for details)"
