"""What a file of weights really is, told by its first bytes: names lie, and downloads bring other things."""

import re
import string
from pathlib import Path
from typing import Literal

from more4d.foundation.errors import WeightsError

Format = Literal["safetensors", "torch"]
LARGEST_HEADER = 100_000_000
SAFETENSORS, PICKLE_SUFFIXES = ".safetensors", (".pth", ".pt", ".bin", ".torch")
ZIP = b"PK\x03\x04"

_HEAD_BYTES = 4096
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_LFS_POINTER = re.compile(rb"version https://git-lfs\.github\.com/.*?^size (\d+)$", re.DOTALL | re.MULTILINE)
_HTML_PAGE = re.compile(rb"\s*(<!doctype html|<html|<\?xml|<head|<body)", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>([^<]*)", re.IGNORECASE)
_SIGNATURES = (
    (re.compile(rb"\xff\xd8\xff"), "a JPEG picture"),
    (re.compile(rb"\x89PNG"), "a PNG picture"),
    (re.compile(rb"GIF8"), "a GIF picture"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "a WebP picture"),
    (re.compile(rb"....ftyp", re.DOTALL), "a video"),
    (re.compile(rb"%PDF"), "a PDF document"),
    (re.compile(rb"GGUF"), "a GGUF file"),
    (re.compile(rb"\x89HDF"), "an HDF5 file"),
    (re.compile(rb"\x93NUMPY"), "a numpy array"),
    (re.compile(rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|\x28\xb5\x2f\xfd|Rar!"), "a packed archive"),
    (re.compile(rb".{257}ustar", re.DOTALL), "a tar archive"),
)
_PRINTABLE = set(string.printable.encode())


def format_size(size: int | float) -> str:
    """A number of bytes for people."""
    for unit in ("bytes", "KB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB" if size < 100 else f"{size:.0f} GB"


def detect_format(path: Path) -> Format:
    """How a file of weights is to be read, by its content; by its name where that tells nothing.

    Raises:
        WeightsError: it holds something else than weights, with the remedy. The message does not name the
            file.
        OSError: it cannot be read.
    """
    first = _read_head(path)
    if first[8:9] == b"{" and int.from_bytes(first[:8], "little") <= LARGEST_HEADER:
        return "safetensors"  # first of all: some lengths of headers begin as pickles do
    if first.startswith(ZIP) or _PICKLE.match(first):
        return "torch"
    if (other := _foreign_content(first)) is not None:
        raise WeightsError(other)
    if path.suffix == SAFETENSORS or path.suffix in PICKLE_SUFFIXES:
        return "safetensors" if path.suffix == SAFETENSORS else "torch"
    raise WeightsError("is neither a safetensors nor a PyTorch file; give one of these")


def download_problem(path: Path) -> str | None:
    """Why a file that belongs beside weights was not fetched whole, with the remedy; None if nothing tells.

    Raises:
        OSError: it cannot be read.
    """
    first = _read_head(path)
    return _empty(first) or _lfs_pointer(first) or _html_page(first)


def _read_head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _foreign_content(first: bytes) -> str | None:
    if (problem := _empty(first) or _lfs_pointer(first) or _html_page(first)) is not None:
        return problem
    for signature, name in _SIGNATURES:
        if signature.match(first):
            return f"is {name}, not weights; give a safetensors or PyTorch file"
    if len(first) == _HEAD_BYTES and not any(first):
        return "begins with nothing but zeros, as a download does that broke off; fetch it again"
    if (text := _printable_text(first)) is not None:
        beginning = " ".join(text.split())
        shown = beginning if len(beginning) <= 40 else f"{beginning[:40]} ..."
        return f"is text, not weights: '{shown}'; fetch it again"
    return None


def _empty(first: bytes) -> str | None:
    return None if first else "is empty; fetch it again"


def _lfs_pointer(first: bytes) -> str | None:
    found = _LFS_POINTER.match(first)
    if found is None:
        return None
    return (
        f"is a Git LFS pointer to {format_size(int(found[1]))}, not the file itself; run 'git lfs pull' in its "
        "folder, or fetch it with hf download"
    )


def _html_page(first: bytes) -> str | None:
    if not _HTML_PAGE.match(first):
        return None
    title = _TITLE.search(first.decode("utf-8", errors="replace"))
    named = f" ('{' '.join(title[1].split())[:40]}')" if title else ""
    return f"is a web page{named}, not weights; fetch the file itself, for example with hf download"


def _printable_text(first: bytes) -> str | None:
    """The content if all of it can be printed: a header of safetensors is not, its length has zeros."""
    try:
        text = first.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(first) - 4:
            return None
        text = first[: error.start].decode("utf-8")
    printable = all(byte in _PRINTABLE or byte > 127 for byte in first)
    return text if printable and text.strip() else None
