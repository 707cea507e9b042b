"""Lines for people on standard error, each said by one of the processes that have it to say.

Processes of a launcher read the same arguments and files, and would all complain of the same things. Started
by `scripts/launch.py` they share a folder. The first to say a line notes it there, and the others are silent.
"""

import hashlib
import logging
import os
import sys
from collections import Counter
from pathlib import Path

SHARED_FOLDER_ENV = "MORE4D_SAID"
"""Names the folder, to the processes of `scripts/launch.py`; there is none where one process works alone."""
FAILURE_FILE = "failure"
"""The file in it that says: somebody has told people what went wrong."""

_printed: Counter[str] = Counter()


def log_once(line: str) -> None:
    """Print a line, unless another process has said it as often as this one."""
    _printed[line] += 1
    if _is_first(f"{hashlib.sha256(line.encode()).hexdigest()}-{_printed[line]}"):
        print(line, file=sys.stderr, flush=True)


def report_error(line: str) -> None:
    """Print what a run failed of, as one line."""
    _is_first(FAILURE_FILE)
    log_once(f"error: {' '.join(line.split())}")


def has_launcher() -> bool:
    """Whether a launcher of ours looks after this process and its fellows."""
    return SHARED_FOLDER_ENV in os.environ


class WarningHandler(logging.Handler):
    """What the package logs. A warning is said once: a file that is read twice is no more odd for it."""

    def __init__(self) -> None:
        super().__init__()
        self._warned: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Say it."""
        line = f"note: {record.getMessage()}"
        if record.levelno >= logging.WARNING:
            if line in self._warned:
                return
            self._warned.add(line)
        log_once(line)


def _is_first(name: str) -> bool:
    """Whether this process alone makes the file of that name; true where nothing is shared."""
    folder = os.environ.get(SHARED_FOLDER_ENV)
    if folder is None:
        return True
    try:
        os.close(os.open(Path(folder) / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    except OSError:  # rather twice than never
        return True
    return True
