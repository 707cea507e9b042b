"""Items shared by the processes of a launcher: each takes the next one that none has taken."""

import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from more4d.cli.batch import BatchProgress, Outcome, make_item, summarise
from more4d.cli.main import report_error
from more4d.cli.processes import Processes
from more4d.foundation.errors import InputError
from more4d.pipeline import More4DPipeline
from more4d.pipelines.work_queue import WorkerState, WorkQueue
from more4d.runs.item import Result
from more4d.runs.job import Job, camera_folders
from more4d.runs.record import RunRecord, locked, peak_memory_mib


def run_shared_batch(
    pipe: More4DPipeline, jobs: list[Job], output: Path, processes: Processes, *, show: bool
) -> int:
    """As `batch.run_batch`, called by all of several processes; all return the same exit code.

    The first process keeps other runs out of the folder, waits for the others at the end, and tells what
    became of all items, also of one that a process was killed at.

    Raises:
        WeightsError: a network cannot be loaded.
        InputError: the folder cannot be written to, another run is writing into it, or a foreign file is
            in the way.
        DistributedError: the processes cannot reach each other, or do not see the same folder.
    """
    for job in jobs:
        camera_folders(job)
    processes.connect()
    try:
        act = _run_first if processes.is_first else _run_worker
        return act(pipe, jobs, output, processes, show)
    finally:
        processes.disconnect()


def _run_first(pipe: More4DPipeline, jobs: list[Job], output: Path, processes: Processes, show: bool) -> int:
    started, queue = time.monotonic(), WorkQueue(output, 0)
    with ExitStack() as held:
        try:
            held.enter_context(locked(output))
            record = RunRecord(output, {"kind": "batch", "processes": processes.count})
            queue.prepare()
        except InputError:
            processes.broadcast_flag(False)
            raise
        processes.broadcast_flag(True)
        with queue.joined():
            try:
                processes.barrier()  # nobody looks for the others before all have come
                _run_items(pipe, jobs, queue, show)
                ended = queue.collect(processes.count, wait=True)
            except BaseException:
                _report_killed(record, queue.collect(processes.count, wait=False))
                raise
            memory_mib = max(worker.memory_mib for worker in ended)
            outcomes = _outcomes(ended, jobs, output)
            code = summarise(record, outcomes, started=started, memory_mib=memory_mib)
            queue.set_exit_code(code)
            _ignore_sigterm()
        queue.remove(worker.process for worker in ended if worker.process and worker.end is None)
    return code


def _run_worker(pipe: More4DPipeline, jobs: list[Job], output: Path, processes: Processes, show: bool) -> int:
    if not processes.broadcast_flag(None):
        return 1  # the first process says why
    queue = WorkQueue(output, processes.rank)
    with queue.joined():
        processes.barrier()
        _run_items(pipe, jobs, queue, show)
    code = queue.wait_exit_code()
    _ignore_sigterm()
    return code


def _run_items(pipe: More4DPipeline, jobs: list[Job], queue: WorkQueue, show: bool) -> None:
    progress = BatchProgress(0, show=show, lines=True)
    for index in queue.claim_items(len(jobs)):
        label = f"process {queue.rank}: {jobs[index].name} ({index + 1} of {len(jobs)})"
        outcome = make_item(pipe, jobs[index], queue.output, progress, label)
        queue.mark_done(index, _as_json(outcome), peak_memory_mib())


def _as_json(outcome: Outcome) -> dict[str, Any]:
    made = outcome.result
    return {
        "seconds": outcome.seconds,
        "failure": outcome.failure,
        "result": made
        and {"fingerprint": made.fingerprint, "files": list(made.files), "stages_run": made.stages_run},
    }


def _outcomes(workers: list[WorkerState], jobs: list[Job], output: Path) -> list[Outcome]:
    """What became of every item; one that nobody tells of was lost with the process that had it."""
    reported = {
        index: (worker, reported) for worker in workers for index, reported in worker.outcomes.items()
    }
    at = {worker.item: worker for worker in workers if worker.item is not None}
    outcomes = []
    for index, job in enumerate(jobs):
        if index not in reported:
            by = at.get(index)
            lost = f"{by.end} at it" if by else "the process that took it was killed"
            failure = f"{lost}; the same command goes on from here"
            outcomes.append(Outcome(job=job, seconds=0.0, failure=failure, process=by and by.process))
            continue
        worker, about = reported[index]
        made = about["result"] and Result(
            folder=output / job.name,
            fingerprint=about["result"]["fingerprint"],
            files=tuple(about["result"]["files"]),
            stages_run=about["result"]["stages_run"],
        )
        outcomes.append(
            Outcome(
                job=job,
                seconds=about["seconds"],
                result=made,
                failure=about["failure"],
                process=worker.process,
            )
        )
    return outcomes


def _report_killed(record: RunRecord, workers: list[WorkerState]) -> None:
    """A launcher ends all processes when one is killed; say which one that was."""
    killed = [worker.end for worker in workers if worker.process and worker.state == "working"]
    if killed:
        record.fail("; ".join(killed))
        report_error("; ".join(killed))


def _ignore_sigterm() -> None:
    """The first process to leave with a failure makes the launcher end the others: they are at their end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
