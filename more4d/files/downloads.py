"""One file from a hub to the disk: whole, or not there.

Bytes go into `.NAME.ID.part` beside the file. ID is of the content, so what a cut or killed transfer left is
gone on with (`Range`), and never with the bytes of another version. When all are there, the file is read back
from the disk and hashed; only then does it get its name. A file that does not have the size or the hash that
it should have is kept as NAME.bad, fetched once more, and then refused.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from more4d.files.atomic import write_reason
from more4d.files.hub_backend import Notify, PassingError, RemoteFile, open_stream, patiently, shown_url
from more4d.files.problems import format_size
from more4d.foundation.errors import InputError

Progress = Callable[[int], None]
"""Is given how many bytes of the file are there."""
PIECE = 1 << 20
DISK_MARGIN = 1.05
LOCK = ".weights.lock"


def fetch_file(file: RemoteFile, target: Path, progress: Progress, notify: Notify) -> str:
    """Bring a file to `target` and check it; what is there already is checked, and kept if it is right.

    Returns:
        its SHA-256.

    Raises:
        InputError: it cannot be had, is not what the hub says it is, or cannot be written.
    """
    with _writing_into(target):
        if target.is_dir():
            raise InputError(f"{target} is a folder, and a file of that name is to be fetched; move it away")
        if target.exists():
            sha256, problem = check_file(file, target)
            if problem is None:
                progress(target.stat().st_size)
                return sha256
            notify(f"{target} {problem}: kept as {_bad(target).name}, and fetched again")
            os.replace(target, _bad(target))
        target.parent.mkdir(parents=True, exist_ok=True)
        for last in (False, True):
            partial = partial_file(file, target)
            _remove_other_partials(target, partial)
            _fill(file, partial, progress, notify)
            sha256, problem = check_file(file, partial)
            if problem is None:
                with partial.open("rb+") as written:
                    os.fsync(written.fileno())
                os.replace(partial, target)
                return sha256
            os.replace(partial, _bad(target))
            if not last:
                notify(f"{file.path} from {shown_url(file.url)} {problem}; fetching it once more")
    raise InputError(
        f"{file.path} from {shown_url(file.url)} {problem}, twice; it is not used, and lies in "
        f"{_bad(target)}: try another source (--endpoint, --from), or tell those who publish it"
    )


def web_file(address: str, notify: Notify) -> RemoteFile:
    """A file at a plain address, with the size that its server says, and without a checksum.

    Raises:
        InputError: the server refuses it, or cannot be reached.
    """
    file = RemoteFile(path=PurePosixPath(urlsplit(address).path).name, url=address)

    def ask() -> RemoteFile:
        with open_stream(file) as response:
            size = response.headers.get("Content-Length", "")
            return replace(file, size=int(size) if size.isdigit() else None)

    return patiently(ask, notify)


def check_file(file: RemoteFile, path: Path) -> tuple[str, str | None]:
    """The SHA-256 of a file on the disk, and what is wrong with it, as a predicate; None if nothing is."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return "", f"has {size} bytes in place of {file.size}"
    content = hashlib.sha256()
    blob = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)  # what git calls a file
    with path.open("rb") as opened:
        while piece := opened.read(PIECE):
            content.update(piece)
            if file.git_sha1 is not None:
                blob.update(piece)
    if file.sha256 is not None and content.hexdigest() != file.sha256:
        return content.hexdigest(), f"has the SHA-256 {content.hexdigest()} in place of {file.sha256}"
    if file.git_sha1 is not None and blob.hexdigest() != file.git_sha1:
        return content.hexdigest(), f"is the git object {blob.hexdigest()} in place of {file.git_sha1}"
    return content.hexdigest(), None


def is_verifiable(file: RemoteFile) -> bool:
    """Whether its publisher says what its content is."""
    return file.sha256 is not None or file.git_sha1 is not None


def partial_file(file: RemoteFile, target: Path) -> Path:
    """Where the bytes of this content are gathered."""
    identity = file.sha256 or file.git_sha1 or hashlib.sha256(f"{file.url} {file.size}".encode()).hexdigest()
    return target.with_name(f".{target.name}.{identity[:16]}.part")


def bytes_there(file: RemoteFile, target: Path) -> int:
    """How many bytes of a file need not be fetched any more."""
    sizes = [path.stat().st_size for path in (target, partial_file(file, target)) if path.is_file()]
    if file.size is None:
        return sizes[0] if sizes else 0
    # A finished file of another size is another version, of which nothing can be used.
    if target.is_file() and sizes.pop(0) == file.size:
        return file.size
    return min(sizes[0], file.size) if sizes else 0


def check_disk(folder: Path, needed: int) -> None:
    """Refuse before anything is fetched what cannot be stored.

    Raises:
        InputError: says how much is free.
    """
    place = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    free = shutil.disk_usage(place).free
    if needed * DISK_MARGIN > free:
        raise InputError(
            f"{format_size(needed)} are to be fetched into {folder}, and {format_size(free)} are free there; "
            "free some, or give another folder (--weights)"
        )


@contextmanager
def only_writer(folder: Path, notify: Notify) -> Iterator[None]:
    """Of several processes that fetch into a folder one works; the others then find its files."""
    import fcntl

    with _writing_into(folder / LOCK):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            notify(f"another process is fetching into {folder}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield  # the system releases it when this process ends, however it ends


def _fill(file: RemoteFile, partial: Path, progress: Progress, notify: Notify) -> None:
    """Append to `partial` until all bytes are there; more than all are never written."""
    began = 0

    def go_on() -> None:
        nonlocal began
        began = _size(partial)
        while not _append(file, partial, progress):
            pass

    patiently(go_on, notify, advanced=lambda: _size(partial) > began)


def _append(file: RemoteFile, partial: Path, progress: Progress) -> bool:
    """One request; whether the file is complete now."""
    start = _size(partial)
    progress(start)
    if file.size is not None and start >= file.size and partial.exists():
        return True
    with open_stream(file, start) as response:
        if response.status_code == 416 or (response.status_code == 206 and _first_byte(response) != start):
            # The server has another file than the one that was begun: start anew.
            partial.unlink(missing_ok=True)
            if start == 0:
                raise PassingError(f"{shown_url(file.url)} gives no bytes from its beginning")
            return False
        # A server that takes no Range sends everything.
        with partial.open("ab" if response.status_code == 206 else "wb") as out:
            written = out.tell()
            for piece in response.iter_bytes():  # as they come: larger pieces would be lost in a cut
                out.write(piece)
                written += len(piece)
                progress(written)
                if file.size is not None and written > file.size:
                    break  # what it is instead, the check says
    if file.size is not None and written < file.size:
        raise PassingError(f"{shown_url(file.url)} ended after {written} of {file.size} bytes")
    return True


def _first_byte(response: object) -> int | None:
    """The position of the first byte of an answer to a Range; None if the server does not say."""
    text = response.headers.get("Content-Range", "")  # type: ignore[attr-defined]
    first = text.removeprefix("bytes ").partition("-")[0].strip()
    return int(first) if first.isdigit() else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _bad(target: Path) -> Path:
    return target.with_name(f"{target.name}.bad")


def _remove_other_partials(target: Path, partial: Path) -> None:
    """What was begun of other versions of this file."""
    for path in target.parent.glob(f".{target.name}.*.part"):
        if path != partial:
            path.unlink(missing_ok=True)


@contextmanager
def _writing_into(target: Path) -> Iterator[None]:
    """A disk that cannot take the file, in one line."""
    try:
        yield
    except OSError as error:
        reason = write_reason(error)
        if reason is None:
            raise
        kept = "; what is here is kept, and the same command goes on" if error.errno == errno.ENOSPC else ""
        raise InputError(f"cannot write {target.name} into {target.parent}: {reason}{kept}") from error
