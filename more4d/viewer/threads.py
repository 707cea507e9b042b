"""What goes on beside the server: runs one at a time, the newest of many requests, and a clock that plays."""

import logging
import threading
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

from more4d.foundation.errors import InputError, More4DError, one_line
from more4d.pipeline import More4DPipeline
from more4d.pipelines.sampling import Progress

_log = logging.getLogger(__name__)
Run = Callable[[More4DPipeline, Progress], Path]
"""Returns the folder of the film that it made."""


@runtime_checkable
class Watcher(Protocol):
    """Who is shown how a run goes on; called from the thread of the run."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """As `pipelines.sampling.Progress`."""

    def finished(self, film: Path) -> None:
        """The run has made the film in this folder."""

    def failed(self, reason: str) -> None:
        """The run has ended by an error, given as one line."""


class Worker:
    """Runs with one pipeline, whose networks stay loaded; a second run is refused while one goes on."""

    def __init__(self, open_pipeline: Callable[[], More4DPipeline]) -> None:
        self._open = open_pipeline
        self._busy = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ending = False

    @cached_property
    def pipeline(self) -> More4DPipeline:
        """Opened by the first run: to look takes no networks."""
        return self._open()

    def start(self, run: Run, watcher: Watcher) -> None:
        """Run in a thread of its own.

        Raises:
            InputError: another run is going on; both would take twice as long.
        """
        if not self._busy.acquire(blocking=False):
            raise InputError("another run is going on; wait until it is done")
        self._thread = threading.Thread(target=self._run, args=(run, watcher), name="run", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for the run that goes on, if there is one."""
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """End the run that goes on at its next step; its files are whole or absent."""
        self._ending = True
        self.wait()

    def _run(self, run: Run, watcher: Watcher) -> None:
        def report(stage: str, done: int, total: int) -> None:
            if self._ending:
                raise InputError("the viewer was ended")
            watcher.progress(stage, done, total)

        try:
            try:
                film = run(self.pipeline, report)
            except More4DError as error:
                watcher.failed(one_line(str(error)))
            except Exception as error:  # noqa: BLE001 - the server lives on, whatever a run does
                _log.exception("a run failed")
                reason = f"{type(error).__name__}: {one_line(str(error), 300)}; this is a fault in more4d"
                watcher.failed(reason)
            else:
                watcher.finished(film)
        finally:  # after its end was shown, which would else hide the bar of the next run
            self._busy.release()


class Newest:
    """Computes in a thread; of requests that come faster than they are answered only the newest is kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None

    def ask(self, compute: Callable[[], None]) -> None:
        """Compute this next, in place of what waits."""
        with self._lock:
            self._next = compute
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="newest", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Drop what waits, and wait for what is computed."""
        with self._lock:
            self._next, thread = None, self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._lock:
                compute, self._next = self._next, None
                if compute is None:
                    self._thread = None
                    return
            compute()


FRAMES_SHOWN_PER_S = 24.0
"""At most, between the frames of the scene, too."""


def next_time(now: float, elapsed_s: float, *, rate: float | int, frames: int, loop: bool) -> float | None:
    """The time to show next, in frames; None where the end is reached.

    Args:
        rate: frames of the scene per second.
        loop: whether the first frame follows the last one.
    """
    last = frames - 1.0
    time_ = now + elapsed_s * rate
    if time_ <= last:
        return time_
    return time_ % last if loop and last > 0 else None


class Playback:
    """Calls `tick` with the seconds since the call before, in a thread, until it says to stop."""

    def __init__(self, tick: Callable[[float], bool]) -> None:
        self._tick = tick
        self._stop = threading.Event()
        self._stop.set()

    def start(self) -> None:
        """Play, unless it does already."""
        if self._stop.is_set():
            # one that was stopped may still finish its frame: each thread has an event of its own
            self._stop = threading.Event()
            threading.Thread(target=self._run, args=(self._stop,), name="playback", daemon=True).start()

    def stop(self) -> None:
        """Play no more; the frame that is being shown is finished."""
        self._stop.set()

    def _run(self, stop: threading.Event) -> None:
        before = time.monotonic()
        try:
            while not stop.wait(1 / FRAMES_SHOWN_PER_S):
                now = time.monotonic()
                if not self._tick(now - before):
                    return
                before = now
        finally:
            stop.set()
