"""Files appear whole or not at all: written under a temporary name in the same folder, then renamed."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from more4d.foundation.errors import InputError

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a part of that path is a file, not a folder",
    errno.EEXIST: "a part of that path is a file, not a folder",
    errno.EISDIR: "a folder of that name is in the way",
    errno.ENAMETOOLONG: "the name is too long",
}


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; on success it replaces `path`, on any failure it is removed.

    The temporary name keeps the suffix of `path`, and missing folders are made.

    Raises:
        InputError: the folder cannot be written to; the message names it and says why.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem[:100]}.{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with default_permissions(temporary):
                yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = _REASONS.get(error.errno or 0)
        if reason is None:
            raise
        raise InputError(f"cannot write {path.name} into {path.parent}: {reason}") from error


@contextmanager
def default_permissions(path: Path) -> Iterator[None]:
    """Around the writing of a new file by a library that lets nobody else read what it writes (safetensors
    does): afterwards its permissions are those of any new file.
    """
    path.touch()
    mode = path.stat().st_mode
    path.unlink()
    yield
    path.chmod(mode)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically.

    Raises:
        InputError: see `atomic_write`.
    """
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def check_readable(path: Path, what: str) -> None:
    """Refuse what is not a file with something in it; `what` names the kind of file in the message.

    Raises:
        InputError: `path` is missing, a folder, empty or unreadable.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; give {what}")
    try:
        with path.open("rb") as file:
            first = file.read(1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}; give {what}") from error
    if not first:
        raise InputError(f"{path} is empty (0 bytes); give {what}")
