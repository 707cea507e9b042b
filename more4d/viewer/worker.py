"""One run at a time, in a thread: what a browser asks to be filmed is made here, and its errors end here."""

import logging
import threading
from collections.abc import Callable
from functools import cached_property
from typing import Protocol

from more4d.foundation.errors import InputError, More4DError, one_line
from more4d.pipeline import More4DPipeline
from more4d.pipelines.sampling import Progress

_log = logging.getLogger(__name__)
Run = Callable[[More4DPipeline, Progress], str]
"""Returns the name of the item it made or changed."""


class Watcher(Protocol):
    """Who is shown how a run goes on; called from the thread of the run."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """As `pipelines.sampling.Progress`."""

    def finished(self, item: str) -> None:
        """The run has ended well."""

    def failed(self, reason: str) -> None:
        """The run has ended by an error, given as one line."""


class Worker:
    """Runs with one pipeline, whose networks stay loaded; a second run is refused while one goes on."""

    def __init__(self, open_pipeline: Callable[[], More4DPipeline]) -> None:
        self._open = open_pipeline
        self._busy = threading.Lock()
        self._thread: threading.Thread | None = None

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

    def wait(self, seconds: float | None = None) -> None:
        """Wait for the run that goes on, if there is one."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self, run: Run, watcher: Watcher) -> None:
        item, failure = "", None
        try:
            item = run(self.pipeline, watcher.progress)
        except More4DError as error:
            failure = one_line(str(error))
        except Exception as error:  # noqa: BLE001 - the server lives on, whatever a run does
            _log.exception("a run failed")
            failure = f"{type(error).__name__}: {one_line(str(error), 300)}; this is a fault in more4d"
        finally:
            self._busy.release()
        if failure is None:
            watcher.finished(item)
        else:
            watcher.failed(failure)
