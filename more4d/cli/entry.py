"""Where the command begins: Ctrl-C ends it in one line, before it can be handled with care and after, too."""

import os
import signal
import sys
from typing import NoReturn

from more4d.cli.interrupts import exit_at_once


def start(*first: str) -> NoReturn:
    """Run `more4d` with the arguments of this process behind `first`, and leave with its exit code."""
    is_usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not where it is ignored
    if is_usual:
        signal.signal(signal.SIGINT, exit_at_once)
    from more4d.cli.main import main

    code = main([*first, *sys.argv[1:]])
    if is_usual:  # what there was to do is done, and its code is the answer
        signal.signal(signal.SIGINT, lambda *_: os._exit(code))
    sys.exit(code)
