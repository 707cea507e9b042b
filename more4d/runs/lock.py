"""One run at a time in an output folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from more4d.files.atomic import write_bytes
from more4d.foundation.errors import InputError

LOCK = ".more4d.lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make `folder` if need be, check that it can be written to, and keep other runs out of it.

    The system releases the lock when the process ends, however it ends.

    Raises:
        InputError: the folder cannot be written to, or another run holds it.
    """
    lock = folder / LOCK
    descriptor = _acquire(folder, lock)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(folder: Path, lock: Path) -> int:
    while True:
        if not lock.exists():
            write_bytes(lock, b"")
        try:
            descriptor = os.open(lock, os.O_RDWR)
        except FileNotFoundError:  # the run that held it has just ended
            continue
        except OSError as error:
            raise InputError(
                f"cannot write into {folder}: {error.strerror}; choose another --output"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise InputError(
                f"another run is writing into {folder}; wait for it, or choose another --output"
            ) from error
        if _is_still(lock, descriptor):
            return descriptor
        os.close(descriptor)


def _is_still(lock: Path, descriptor: int) -> bool:
    """Whether the file we locked is the one of that name: its last holder may have removed it meanwhile."""
    try:
        return os.path.samestat(lock.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
