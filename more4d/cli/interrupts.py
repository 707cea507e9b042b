"""Ctrl-C that is not lost, and the SIGTERM of whoever ends a job, which is treated alike.

Python raises KeyboardInterrupt wherever it happens to be; inside a finaliser or a callback of a library it is
swallowed, and the program goes on; an import that it breaks off may raise anything, or leave half a module.
So the signal is also remembered, and asked for between steps and at the end, and imports are waited for,
though not for long: where a large library takes its time, the process ends then and there, as if it had been
killed, for which everything that writes files is made.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
RESUMABLE = "the same command goes on from here"
"""What to say of an interrupted command that keeps what it has finished, as its `after_interrupt`."""

IMPORTING = "<frozen importlib._bootstrap>"
RETRY_S = 0.05
"""How soon it is looked again whether an import has ended."""
IMPORT_TIMEOUT_S = 1.0
"""How long an import is waited for."""

_interrupted = threading.Event()
_signals: list[int] = []


def exit_at_once(number: int, frame: FrameType | None) -> NoReturn:
    """End this process by a signal, in one line: while nothing is begun, and where nothing else would do."""
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


@contextmanager
def handle_signals() -> Iterator[None]:
    """Remember Ctrl-C and SIGTERM, besides raising KeyboardInterrupt, until the block ends.

    Raises:
        KeyboardInterrupt: also in place of any other error after such a signal.
    """
    _interrupted.clear()
    _signals.clear()
    waited_since: list[float] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        _signals.append(number)
        _interrupted.set()
        waited_since.append(time.monotonic())
        interrupt(number, frame)

    def interrupt(number: int, frame: FrameType | None) -> None:
        if _is_importing(frame):
            if time.monotonic() - waited_since[0] > IMPORT_TIMEOUT_S:
                exit_at_once(number, frame)
            signal.signal(signal.SIGALRM, interrupt)
            signal.setitimer(signal.ITIMER_REAL, RETRY_S)
            return
        raise KeyboardInterrupt

    before, alarmed = {}, signal.getsignal(signal.SIGALRM)
    if threading.current_thread() is threading.main_thread():
        for number, usual in (
            (signal.SIGINT, (signal.default_int_handler, exit_at_once)),
            (signal.SIGTERM, (signal.SIG_DFL,)),
        ):
            if signal.getsignal(number) in usual:  # else somebody else decides what the signal does
                before[number] = signal.signal(number, on_signal)
    try:
        yield
    except Exception as error:
        if _interrupted.is_set():  # whatever it is, it comes of that
            raise KeyboardInterrupt from error
        raise
    finally:
        if before:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, alarmed)
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported there."""
    while frame is not None:
        if frame.f_code.co_filename == IMPORTING:
            return True
        frame = frame.f_back
    return False


def stop_if_interrupted() -> None:
    """Raise KeyboardInterrupt if there was a Ctrl-C, even one that a library swallowed."""
    if _interrupted.is_set():
        raise KeyboardInterrupt


def was_terminated() -> bool:
    """Whether it was a SIGTERM that came first, not a Ctrl-C."""
    return _signals[:1] == [signal.SIGTERM]
