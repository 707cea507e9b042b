"""Ctrl-C that is not lost, and the SIGTERM of whoever ends a job, which is treated alike.

Python raises KeyboardInterrupt wherever it happens to be; inside a finaliser or a callback of a library it is
swallowed, and the program goes on. So the signal is also remembered, and asked for between steps.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_heard = threading.Event()


@contextmanager
def listening() -> Iterator[None]:
    """Remember Ctrl-C and SIGTERM, besides raising KeyboardInterrupt, until the block ends."""
    _heard.clear()
    usual = signal.getsignal(signal.SIGINT)
    if usual is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield  # somebody else decides what Ctrl-C does
        return

    def hear(number: int, frame: FrameType | None) -> None:
        _heard.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, hear)
    ended = signal.signal(signal.SIGTERM, hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        signal.signal(signal.SIGTERM, ended)


def stop_if_interrupted() -> None:
    """Raise KeyboardInterrupt if there was a Ctrl-C, even one that a library swallowed."""
    if _heard.is_set():
        raise KeyboardInterrupt
