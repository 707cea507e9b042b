"""A clock that plays: by the clock of the wall, so that frames are dropped when it is late."""

import threading
import time
from collections.abc import Callable

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
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Play, unless it does already."""
        if self._thread is None or not self._thread.is_alive():
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="playback", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Play no more; the frame that is being shown is finished."""
        self._stop.set()

    def _run(self) -> None:
        before = time.monotonic()
        while not self._stop.wait(1 / FRAMES_SHOWN_PER_S):
            now = time.monotonic()
            if not self._tick(now - before):
                return
            before = now
