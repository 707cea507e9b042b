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

    def hear(number: int, frame: FrameType | None) -> None:
        _heard.set()
        raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            if signal.getsignal(number) is usual:  # else somebody else decides what the signal does
                before[number] = signal.signal(number, hear)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_if_interrupted() -> None:
    """Raise KeyboardInterrupt if there was a Ctrl-C, even one that a library swallowed."""
    if _heard.is_set():
        raise KeyboardInterrupt
