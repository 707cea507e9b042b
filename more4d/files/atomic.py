"""Basic file access: atomic writes, checks before reading, JSON lines, numpy arrays, safetensors metadata.

Files are written under a temporary name in the same folder and then renamed, so that a file is complete or
absent.
"""

import errno
import hashlib
import json
import logging
import os
import re
import secrets
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from more4d.files.checkpoint_headers import INDEX_SUFFIX
from more4d.files.problems import error_summary
from more4d.files.torch_files import SUFFIXES
from more4d.foundation.documents import DocumentError, check_readable, parse_json, read_bytes
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
    errno.EFBIG: "the file is too large for that file system",
    errno.ENAMETOOLONG: "the name is too long",
}


TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}(\.\w+)?")
"""Names of what `atomic_write` has not finished."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; on success it replaces `path`, on failure it is removed.

    The temporary name keeps the suffix of `path`, and missing folders are created.

    Raises:
        InputError: the folder cannot be written to; the message names it and says why.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem[:100]}.{secrets.token_hex(4)}{path.suffix}")
    begun = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with default_permissions(temporary):
                begun = True
                yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            if begun:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        # once the file can be there, an unknown reason may be one of what is read for it
        reason = write_reason(error) or (None if begun else error.strerror)
        if reason is None:
            raise
        raise InputError(
            f"cannot write {path.name} into {path.parent}: {reason}; choose another place"
        ) from error


def write_reason(error: OSError) -> str | None:
    """Why a file could not be written, for people; None if that is not known."""
    return _REASONS.get(error.errno or 0)


def remove_temporary_files(folder: Path) -> None:
    """Remove what `atomic_write` was writing in a folder, or below, when its process was killed.

    Only where no other process is writing.
    """
    for path in folder.rglob(".*"):
        if TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


@contextmanager
def default_permissions(path: Path) -> Iterator[None]:
    """Give a file written inside the block the default permissions of new files; safetensors writes files
    that only their owner can read.
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


DESCRIPTION = "a numpy file (.npy or .npz)"
LARGEST_ARRAYS = 8 << 30
"""Bytes of all arrays of a `.npz`, uncompressed: tracks of 300 frames of 1280 x 960 take 4.4 GB."""


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a `.npz`, or the array of a `.npy` under the name "", in this machine's byte order.

    Pickled objects are refused.

    Raises:
        InputError: the file is missing, truncated, not a numpy file, or holds pickled Python objects.
    """
    path = Path(path)
    check_readable(path, DESCRIPTION)
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"": _native(loaded)}
            # A few MB can be compressed from any number of zeros.
            size = sum(member.file_size for member in loaded.zip.infolist())
            if size > LARGEST_ARRAYS:
                most = LARGEST_ARRAYS >> 30
                raise InputError(
                    f"{path} holds arrays of {size / 2**30:.1f} GiB; at most {most} GiB are read"
                )
            return {name: _native(loaded[name]) for name in loaded.files}
    except (ValueError, OSError, EOFError, KeyError, SyntaxError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, ValueError) and any(word in str(error).lower() for word in ("pickle", "object")):
            raise InputError(
                f"{path} is not a plain numpy file or holds Python objects (pickle), which are not read; "
                "save it as a numeric array"
            ) from error
        raise InputError(
            f"{path} is truncated or not {DESCRIPTION} ({error_summary(error)}); get a whole copy of it"
        ) from error


def _native(array: np.ndarray) -> np.ndarray:
    """The array in this machine's byte order, the only one that torch takes."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


_log = logging.getLogger(__name__)


def append_json_line(path: Path, values: Mapping[str, Any]) -> None:
    """Append one JSON object as a line; a missing folder is created.

    Raises:
        OSError: the file cannot be written to.
        ValueError: a number is not finite, which JSON cannot represent.
    """
    text = _to_line(values)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(text)


def read_json_lines(path: Path, shape: Any = dict) -> list[dict[str, Any]]:
    """All lines in order; empty if there is no file. A line truncated by a kill is skipped.

    Args:
        shape: of a line, see `foundation.documents`.

    Raises:
        InputError: the file cannot be read.
    """
    lines = []
    content = read_bytes(path, "a file of JSON lines", empty=True) if path.exists() else b""
    # Bytes: a power cut may leave a line of zeros, which are no text.
    for line in content.splitlines():
        try:
            lines.append(parse_json(line, shape))
        except DocumentError:
            _log.warning("%s: a line is cut short or damaged, and left out", path)
    return lines


def filter_json_lines(path: Path, wanted: Callable[[dict[str, Any]], bool], shape: Any = dict) -> None:
    """Remove unwanted, truncated and damaged lines; an unchanged file is not rewritten.

    Args:
        shape: of a line, see `foundation.documents`.

    Raises:
        InputError: the file cannot be read, or the folder not be written to.
    """
    if not path.exists():
        return
    kept = "".join(_to_line(line) for line in read_json_lines(path, shape) if wanted(line)).encode()
    if path.read_bytes() != kept:
        write_bytes(path, kept)


def _to_line(values: Mapping[str, Any]) -> str:
    return json.dumps(values, allow_nan=False) + "\n"


LENGTH_BYTES = 8


def sort_metadata(path: Path) -> None:
    """Sort the metadata in a safetensors file's header, in place and without changing its length.

    safetensors writes metadata in random order; sorted, equal contents give equal files. Call it before the
    file gets its final name.

    Raises:
        ValueError: the sorted header is longer than the original one.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        header = parse_json(file.read(length))
        if "__metadata__" not in header:
            return
        ordered = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
        text = json.dumps(ordered, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) > length:
            raise ValueError(f"{path}: a header of {length} bytes became one of {len(text)}")
        file.seek(LENGTH_BYTES)
        file.write(text.ljust(length))


WHOLE_BYTES = 256 << 20
DESCRIBED = "config.json"
HOLD_WEIGHTS = (*SUFFIXES, ".json")
_SAMPLES, _SAMPLE_BYTES = 64, 1 << 16


def fingerprint(value: Any) -> str:
    """Fingerprint of a JSON value; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_fingerprint(path: Path) -> str:
    """Fingerprint of a file's content.

    Above 256 MiB (large weights) only its size and 65 evenly spaced pieces, its ends included, are read:
    enough to distinguish weights, and thousands of times faster.
    """
    digest, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        if size <= WHOLE_BYTES:
            while piece := file.read(1 << 20):
                digest.update(piece)
        else:
            digest.update(str(size).encode())
            for index in range(_SAMPLES + 1):
                file.seek(index * (size - _SAMPLE_BYTES) // _SAMPLES)
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def path_fingerprint(path: Path) -> str:
    """Fingerprint of weights.

    For a file: its content and that of the `config.json` in its folder, which decides how it is read. For a
    folder: all its files with tensors or configurations. For an index: its folder.
    """
    if path.name.endswith(INDEX_SUFFIX):
        return path_fingerprint(path.parent)
    if path.is_file():
        config_path = path.with_name(DESCRIBED)
        own = file_fingerprint(path)
        return fingerprint([own, file_fingerprint(config_path)]) if config_path.is_file() else own
    files = sorted(file for file in path.rglob("*") if file.suffix in HOLD_WEIGHTS and file.is_file())
    return fingerprint([[file.relative_to(path).as_posix(), file_fingerprint(file)] for file in files])


def content_name(path: Path, options: Mapping[str, Any]) -> str:
    """Fingerprint of a network: its weights and the options they are read with."""
    content = path_fingerprint(path)
    return fingerprint([content, dict(options)]) if options else content
