"""Several processes work through one list of items: who takes which, and what became of it.

They meet in a folder that all of them see. Nobody waits for anybody before its end, so an item that takes
long or a process that is gone holds up no other: a process holds the lock of its own file while it lives, and
the system releases it however it ends.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from more4d.files.atomic import write_bytes
from more4d.foundation.errors import DistributedError

FOLDER = ".more4d.processes"
NEXT, VERDICT = "next", "verdict.json"
POLL_S, PATIENCE_S = 0.05, 10.0


@dataclass(kw_only=True)
class WorkerState:
    """What one process has done.

    Attributes:
        process: its rank.
        pid: the system's number of it.
        state: "working", "finished", or why it stopped; one that is gone while working was killed.
        item: the index it is working on, or stopped at.
        outcomes: of each item it is done with, by index, what it had to tell.
        memory_mib: the most memory it has held.
    """

    process: int
    pid: int
    state: str = "working"
    item: int | None = None
    outcomes: dict[int, dict[str, Any]] = field(default_factory=dict)
    memory_mib: int = 0

    @property
    def end(self) -> str | None:
        """Why a process that has ended did not finish; None if it did."""
        if self.state == "finished":
            return None
        how = "was killed" if self.state == "working" else f"stopped: {self.state}"
        return f"process {self.process} (pid {self.pid}) {how}"


class WorkQueue:
    """The meeting place as one process sees it."""

    def __init__(self, output: Path, rank: int) -> None:
        self.output, self.folder, self.rank = output, output / FOLDER, rank
        self.worker = WorkerState(process=rank, pid=os.getpid())

    def prepare(self) -> None:
        """Begin anew; the first process does so before the others look.

        Raises:
            InputError: the folder cannot be written to.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        write_bytes(self.folder / NEXT, b"0")

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Take part; at the end say how this process ended.

        Raises:
            DistributedError: the folder is not here.
        """
        if not (self.folder / NEXT).is_file():
            raise DistributedError(
                f"process {self.rank} does not see {self.output} as process 0 does; give an --output "
                "on a disk that all processes share"
            )
        with _held(self._lock(self.rank)):
            self.publish()
            try:
                yield
                self.worker.state = "finished"
            except BaseException as error:
                self.worker.state = " ".join(str(error).split()) or type(error).__name__
                raise
            finally:
                with suppress(OSError):
                    self.publish()

    def claim_items(self, items: int) -> Iterator[int]:
        """Indices of items, each given to one process only, until all are given out."""
        while (index := self._take(items)) is not None:
            self.worker.item = index
            self.publish()
            yield index

    def mark_done(self, index: int, outcomes: dict[str, Any], memory_mib: int) -> None:
        """Be done with an item, and tell what became of it, as plain JSON values."""
        self.worker.outcomes[index], self.worker.item, self.worker.memory_mib = outcomes, None, memory_mib
        self.publish()

    def publish(self) -> None:
        """Let the others read this process's share."""
        write_bytes(self._file(self.rank), json.dumps(asdict(self.worker)).encode())

    def collect(self, processes: int, *, wait: bool) -> list[WorkerState]:
        """Every process's share, when each has ended; without `wait` those that have ended by now."""
        workers = []
        for rank in range(processes):
            while rank != self.rank and wait and _is_held(self._lock(rank)):
                time.sleep(POLL_S)
            if rank == self.rank:
                workers.append(self.worker)
            elif not _is_held(self._lock(rank)):
                workers.append(_read(self._file(rank)))
        return workers

    def set_exit_code(self, code: int) -> None:
        """Tell all processes how the whole run ended."""
        write_bytes(self.folder / VERDICT, str(code).encode())

    def wait_exit_code(self) -> int:
        """How the whole run ended, when the first process has said so.

        Raises:
            DistributedError: it ended without a word.
        """
        while not (self.folder / VERDICT).exists():
            if not _is_held(self._lock(0)) and not (self.folder / VERDICT).exists():
                raise DistributedError(
                    "process 0 ended before the run did; the same command goes on from here"
                )
            time.sleep(POLL_S)
        code = int((self.folder / VERDICT).read_text())
        self._lock(self.rank).unlink(missing_ok=True)  # heard
        return code

    def remove(self, ranks: Iterable[int]) -> None:
        """Clear up when these processes have heard the verdict, or soon after."""
        late = time.monotonic() + PATIENCE_S
        while any(self._lock(rank).exists() for rank in ranks) and time.monotonic() < late:
            time.sleep(POLL_S)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _take(self, items: int) -> int | None:
        with (self.folder / NEXT).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            index = int(file.read())
            if index >= items:
                return None
            file.seek(0)
            file.write(str(index + 1))
            file.flush()
        return index

    def _file(self, rank: int) -> Path:
        return self.folder / f"{rank}.json"

    def _lock(self, rank: int) -> Path:
        return self.folder / f"{rank}.lock"


@contextmanager
def _held(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_held(lock: Path) -> bool:
    try:
        with lock.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _read(path: Path) -> WorkerState:
    values = json.loads(path.read_text())
    values["outcomes"] = {int(index): outcomes for index, outcomes in values["outcomes"].items()}
    return WorkerState(**values)
