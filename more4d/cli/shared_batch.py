"""Items shared by the processes of a launcher: each takes the next one that none has taken."""

import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from more4d.cli.batch import Outcome, make_item, summarise
from more4d.cli.messages import say_failure
from more4d.cli.processes import Processes
from more4d.cli.progress_bar import BatchProgress
from more4d.foundation.errors import InputError
from more4d.pipelines.image_to_4d import Result, camera_folders
from more4d.pipelines.job import Job
from more4d.pipelines.models import Models
from more4d.pipelines.run_lock import locked
from more4d.pipelines.run_record import RunRecord, peak_memory_mib
from more4d.pipelines.work_shares import Share, WorkShares


def run_shared_batch(
    models: Models, jobs: list[Job], output: Path, processes: Processes, *, show: bool
) -> int:
    """As `batch.run_batch`, called by all of several processes; all return the same exit code.

    The first process keeps other runs out of the folder, waits for the others at the end, and tells what
    became of all items, also of one that a process was killed at.

    Raises:
        WeightsError: a network cannot be loaded.
        InputError: the folder cannot be written to, another run is writing into it, or a foreign file is
            in the way.
        ProcessesError: the processes cannot reach each other, or do not see the same folder.
    """
    for job in jobs:
        camera_folders(job)
    processes.meet()
    try:
        act = _lead if processes.is_first else _help
        return act(models, jobs, output, processes, show)
    finally:
        processes.part()


def _lead(models: Models, jobs: list[Job], output: Path, processes: Processes, show: bool) -> int:
    started, shares = time.monotonic(), WorkShares(output, 0)
    with ExitStack() as held:
        try:
            held.enter_context(locked(output))
            record = RunRecord(output, {"kind": "batch", "processes": processes.count})
            shares.prepare()
        except InputError:
            processes.told_by_first(False)
            raise
        processes.told_by_first(True)
        with shares.joined():
            try:
                processes.wait()  # nobody looks for the others before all have come
                _work(models, jobs, shares, show)
                ended = shares.gathered(processes.count, wait=True)
            except BaseException:
                _name_the_killed(record, shares.gathered(processes.count, wait=False))
                raise
            memory_mib = max(share.memory_mib for share in ended)
            outcomes = _outcomes(ended, jobs, output)
            code = summarise(record, outcomes, started=started, memory_mib=memory_mib)
            shares.judge(code)
            _nothing_left_to_interrupt()
        shares.remove(share.process for share in ended if share.process and share.end is None)
    return code


def _help(models: Models, jobs: list[Job], output: Path, processes: Processes, show: bool) -> int:
    if not processes.told_by_first(None):
        return 1  # the first process says why
    shares = WorkShares(output, processes.rank)
    with shares.joined():
        processes.wait()
        _work(models, jobs, shares, show)
    code = shares.verdict()
    _nothing_left_to_interrupt()
    return code


def _work(models: Models, jobs: list[Job], shares: WorkShares, show: bool) -> None:
    progress = BatchProgress(0, show=show, lines=True)
    for index in shares.taken(len(jobs)):
        label = f"process {shares.rank}: {jobs[index].name} ({index + 1} of {len(jobs)})"
        outcome = make_item(models, jobs[index], shares.output, progress, label)
        shares.done(index, _told(outcome), peak_memory_mib())


def _told(outcome: Outcome) -> dict[str, Any]:
    made = outcome.result
    return {
        "seconds": outcome.seconds,
        "failure": outcome.failure,
        "result": made
        and {"identity": made.identity, "files": list(made.files), "stages_run": made.stages_run},
    }


def _outcomes(shares: list[Share], jobs: list[Job], output: Path) -> list[Outcome]:
    """What became of every item; one that nobody tells of was lost with the process that had it."""
    told = {index: (share, told) for share in shares for index, told in share.told.items()}
    at = {share.item: share for share in shares if share.item is not None}
    outcomes = []
    for index, job in enumerate(jobs):
        if index not in told:
            by = at.get(index)
            lost = f"{by.end} at it" if by else "the process that took it was killed"
            failure = f"{lost}; the same command goes on from here"
            outcomes.append(Outcome(job=job, seconds=0.0, failure=failure, process=by and by.process))
            continue
        share, about = told[index]
        made = about["result"] and Result(
            folder=output / job.name,
            identity=about["result"]["identity"],
            files=tuple(about["result"]["files"]),
            stages_run=about["result"]["stages_run"],
        )
        outcomes.append(
            Outcome(
                job=job,
                seconds=about["seconds"],
                result=made,
                failure=about["failure"],
                process=share.process,
            )
        )
    return outcomes


def _name_the_killed(record: RunRecord, shares: list[Share]) -> None:
    """A launcher ends all processes when one is killed; say which one that was."""
    killed = [share.end for share in shares if share.process and share.state == "working"]
    if killed:
        record.fail("; ".join(killed))
        say_failure("; ".join(killed))


def _nothing_left_to_interrupt() -> None:
    """The first process to leave with a failure makes the launcher end the others: they are at their end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
