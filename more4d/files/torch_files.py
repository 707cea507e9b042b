"""Files of torch.save: names, shapes and byte offsets of their tensors, by torch's restricted unpickler.

Nothing that a pickle names is called besides what rebuilds tensors and containers, and no number is read.
"""

import pickle
import pickletools
import re
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from more4d.files.problems import MALFORMED, HeaderError, ProblemCode, error_summary, format_size

SAFETENSORS, PICKLE_SUFFIXES = ".safetensors", (".pth", ".pt", ".bin", ".torch")
SUFFIXES = (SAFETENSORS, *PICKLE_SUFFIXES)

GGUF, GGUF_SUFFIX = b"GGUF", ".gguf"
GGUF_PROBLEM = (
    "is a GGUF file, a format of quantised weights that is not read; give the same weights as safetensors in "
    "bf16, fp16 or fp8"
)
ZIP, _PICKLE = b"PK\x03\x04", re.compile(rb"\x80[\x02-\x05]")
_LFS_POINTER = re.compile(rb"version https://git-lfs\.github\.com/.*?^size (\d+)$", re.DOTALL | re.MULTILINE)
_HTML_PAGE = re.compile(rb"\s*(<!doctype html|<html|<\?xml|<head|<body)", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>([^<]*)", re.IGNORECASE)
REFUSED = re.compile(r"GLOBAL `?([\w.]+)|function (\S+)")  # in torch's refusal: what the pickle asks for
_DAMAGE = (*MALFORMED, AssertionError, EOFError, MemoryError)


@dataclass(frozen=True, kw_only=True)
class TensorLocation:
    """File of a tensor, byte at which its numbers begin (None: read whole), and strides if unusual."""

    path: Path
    start: int | None
    strides: tuple[int, ...] | None = None


def check_torch(path: Path, first: bytes) -> None:
    """Whether a file that is no safetensors file by its first bytes is one of torch.save; refused if not.

    Raises:
        HeaderError: it is something else.
    """
    if first.startswith(ZIP) or _PICKLE.match(first):
        return
    if first.startswith(GGUF):
        raise HeaderError(ProblemCode.UNSUPPORTED, GGUF_PROBLEM)
    if problem := _not_fetched(first):
        raise HeaderError(ProblemCode.DAMAGED, problem)
    if path.suffix == SAFETENSORS:
        raise HeaderError(ProblemCode.DAMAGED, "is no safetensors file; fetch it again")
    if path.suffix not in PICKLE_SUFFIXES:
        raise HeaderError(
            ProblemCode.DAMAGED, "is neither a safetensors nor a PyTorch file; give one of these"
        )


def read_torch(path: Path, file: BinaryIO, size: int) -> tuple[dict[str, Tensor], dict[str, TensorLocation]]:
    """By name, shapes as tensors without memory, and where the numbers are.

    Raises:
        HeaderError: the file is not whole, asks to run something, or holds no flat table of tensors.
        OSError: it cannot be read.
    """
    zipped = file.read(len(ZIP)) == ZIP
    file.seek(0)
    try:
        # In the old format no storage has a place of its own: they are reserved, and not filled.
        with nullcontext() if zipped else torch.serialization.skip_data(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about protocols of pickles other than torch's own, 2
            table = torch.load(file, map_location="meta" if zipped else "cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(error, file) from error
    except _DAMAGE as error:
        cut = "is truncated: the end of a PyTorch file is not there; fetch it again"
        whole = f"is not a whole PyTorch file ({error_summary(error)}); fetch it again"
        raise HeaderError(ProblemCode.DAMAGED, cut if "central directory" in str(error) else whole) from error
    if not isinstance(table, dict) or not all(
        isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized
        for value in table.values()
    ):
        text = "does not hold a flat table of tensors; save the one in it alone, as safetensors"
        raise HeaderError(ProblemCode.NOT_A_STATE_DICT, text)
    shapes, locations, storages = {}, {}, {}
    for name, tensor in table.items():
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage
        shapes[str(name)] = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
        start = storage._checkpoint_offset
        if start is not None:
            start += tensor.storage_offset() * tensor.element_size()
            if not 0 <= start <= start + extent(tensor, tensor.stride()) <= size:
                raise HeaderError(ProblemCode.DAMAGED, f"is truncated before '{name}' ends; fetch it again")
        locations[str(name)] = TensorLocation(
            path=path, start=start, strides=None if tensor.is_contiguous() else tensor.stride()
        )
    # Behind the pickles of the old format: of each storage its length, in 8 bytes, and its numbers.
    announced = file.tell() + sum(8 + storage.nbytes() for storage in storages.values())
    if not zipped and announced != size:
        text = f"is not a whole PyTorch file ({size} of {announced} bytes are there); fetch it again"
        raise HeaderError(ProblemCode.DAMAGED, text)
    return shapes, locations


def _refusal(error: pickle.UnpicklingError, file: BinaryIO) -> HeaderError:
    """torch names what a pickle asks for, except in newer protocols, whose first instruction it refuses."""
    asked = REFUSED.search(str(error))
    name = (asked[1] or asked[2]) if asked else _first_global(file)
    if name is None:
        return HeaderError(
            ProblemCode.DAMAGED, "is not a whole PyTorch file (damaged pickle); fetch it again"
        )
    text = f"holds more than tensors ({name}), so it is not opened; "
    return HeaderError(ProblemCode.UNSAFE, text + "where it was made, save its tensors alone, as safetensors")


def _first_global(file: BinaryIO) -> str | None:
    """The first function or class that a plain pickle names, by its instructions alone; None if none."""
    file.seek(0)
    texts: list[str] = []
    try:
        for operation, argument, _ in pickletools.genops(file):
            if operation.name == "GLOBAL":
                return str(argument).replace(" ", ".")
            if operation.name == "STACK_GLOBAL":
                return ".".join(texts[-2:])
            texts += [argument] if isinstance(argument, str) else []
    except _DAMAGE:
        return None
    return None


def download_problem(path: Path) -> str | None:
    """Why a file that belongs beside weights is not the file itself, with the remedy; None if it may be.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return _not_fetched(file.read(4096))


def _not_fetched(first: bytes) -> str | None:
    """What a download left in place of the file: nothing, a pointer of Git LFS, or a web page."""
    if not first:
        return "is empty; fetch it again"
    if pointer := _LFS_POINTER.match(first):
        return (
            f"is a Git LFS pointer to {format_size(int(pointer[1]))}, not the file itself; "
            "run 'git lfs pull' in its folder, or fetch it with hf download"
        )
    if not _HTML_PAGE.match(first):
        return None
    title = _TITLE.search(first.decode("utf-8", errors="replace"))
    named = f" ('{' '.join(title[1].split())[:40]}')" if title else ""
    return f"is a web page{named}, not weights; fetch the file itself, for example with hf download"


def extent(shape: Tensor, strides: tuple[int, ...]) -> int:
    """Bytes from the first number of a tensor to the end of its last."""
    if not shape.numel():
        return 0
    last = sum((side - 1) * step for side, step in zip(shape.shape, strides, strict=True))
    return (last + 1) * shape.element_size()
