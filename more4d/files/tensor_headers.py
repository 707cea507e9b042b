"""What files of weights hold, without reading it: names, shapes and types; each tensor when it is asked for.

One set of tensors may be one file or many: safetensors (single, sharded with or without an index) or files of
torch.save. Shapes and types come as tensors on the meta device, which have no memory.
"""

import json
import math
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import safetensors
import torch
from torch import Tensor

from more4d.files.torch_headers import torch_headers, torch_tensors
from more4d.foundation.errors import WeightsError

INDEX_SUFFIX = ".safetensors.index.json"
PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".torch")
SUFFIXES = (".safetensors", *PICKLE_SUFFIXES)
SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors$")
LARGEST_HEADER = 100_000_000
NOWHERE = "models/README.md says where to get it"

_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}


@dataclass(frozen=True, kw_only=True)
class TensorHeaders:
    """The tensors of one or more files.

    Attributes:
        shapes: by name, a tensor without memory that has the shape and the type.
        places: by name, the file and the name inside it.
        metadata: what a safetensors file says about itself.
        bytes: size of all files.
        problems: what is broken, each in one line; () if all tensors can be read.
    """

    shapes: dict[str, Tensor] = field(default_factory=dict)
    places: dict[str, tuple[Path, str]] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    bytes: int = 0
    problems: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """How many numbers there are."""
        return sum(tensor.numel() for tensor in self.shapes.values())

    def prefixed(self, prefix: str) -> "TensorHeaders":
        """The same with longer names, so that several sets can be one."""
        return TensorHeaders(
            shapes={prefix + name: tensor for name, tensor in self.shapes.items()},
            places={prefix + name: place for name, place in self.places.items()},
            metadata=self.metadata,
            bytes=self.bytes,
            problems=self.problems,
        )

    def joined(self, other: "TensorHeaders") -> "TensorHeaders":
        """The tensors of both; metadata of the first."""
        return TensorHeaders(
            shapes=self.shapes | other.shapes,
            places=self.places | other.places,
            metadata=self.metadata or other.metadata,
            bytes=self.bytes + other.bytes,
            problems=self.problems + other.problems,
        )

    @contextmanager
    def opened(self) -> Iterator["TensorReader"]:
        """Reads tensors by name, each when it is asked for. Files stay open as long as the block runs.

        Raises:
            WeightsError: a file cannot be opened any more.
        """
        with ExitStack() as stack:
            yield TensorReader(self.places, stack)


class _Opened(Protocol):
    def get_tensor(self, name: str) -> Tensor: ...


class TensorReader:
    """Tensors on the CPU, by name. They may share memory with the file: copy what is to be kept."""

    def __init__(self, places: Mapping[str, tuple[Path, str]], stack: ExitStack) -> None:
        self._places, self._stack = places, stack
        self._files: dict[Path, _Opened] = {}

    def __call__(self, name: str) -> Tensor:
        path, inside = self._places[name]
        if path not in self._files:
            self._files[path] = self._open(path)
        return self._files[path].get_tensor(inside)

    def _open(self, path: Path) -> Any:
        if path.suffix in PICKLE_SUFFIXES:
            return _Loaded(torch_tensors(path))
        try:
            return self._stack.enter_context(safetensors.safe_open(path, framework="pt", device="cpu"))
        except (safetensors.SafetensorError, OSError) as error:
            raise WeightsError(f"{path} cannot be read ({one_line(error)}); fetch it again") from error


class _Loaded:
    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._tensors = tensors

    def get_tensor(self, name: str) -> Tensor:
        return self._tensors[name]


def read_headers(path: Path) -> TensorHeaders:
    """What a file, an index of shards or a folder of either holds. What is broken is told, not raised.

    Raises:
        WeightsError: there is nothing at `path`, it cannot be read, or a folder holds no one set of weights.
    """
    if path.is_dir():
        return _of_files(weight_files_in(path))
    if not path.exists():
        raise WeightsError(f"there is no weights file {path}; {NOWHERE}")
    if path.name.endswith(INDEX_SUFFIX):
        return _of_index(path)
    return _of_file(path)


def weight_files_in(folder: Path) -> list[Path]:
    """The file, the index, or the shards that are the weights of `folder`.

    Raises:
        WeightsError: there is none, or there are several and none has a usual name.
    """
    indices = sorted(folder.glob(f"*{INDEX_SUFFIX}"))
    if len(indices) == 1:
        return indices
    files = sorted(path for path in folder.glob("*.safetensors"))
    shards = {match["stem"] for path in files if (match := SHARD.match(path.name))}
    if not indices and len(shards) == 1 and all(SHARD.match(path.name) for path in files):
        return files
    pickled = sorted(path for path in folder.glob("*") if path.suffix in PICKLE_SUFFIXES)
    for candidates in (files, pickled):
        usual = [
            path for path in candidates if path.stem in ("diffusion_pytorch_model", "model", "pytorch_model")
        ]
        for chosen in (candidates, usual):
            if len(chosen) == 1 and not indices:
                return chosen
    found = ", ".join(path.name for path in (*indices, *files, *pickled)) or "none"
    raise WeightsError(
        f"{folder} must hold one file of weights or one index of shards, found {found}; give the path of one"
    )


def of_path(path: Path, problem: str) -> str:
    """A sentence about a file: problems begin with a verb, or are sentences of their own."""
    verb = problem.split()[0] in {"is", "has", "holds", "does", "describes"}
    return f"{path} {problem}" if verb else f"{path}: {problem}"


def size_text(size: int | float) -> str:
    """A number of bytes for people."""
    for unit in ("bytes", "KB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB" if size < 100 else f"{size:.0f} GB"


def one_line(error: BaseException) -> str:
    """What an error says, short enough to be part of a sentence."""
    return " ".join(str(error).split())[:120] or type(error).__name__


def _of_file(path: Path) -> TensorHeaders:
    try:
        size = path.stat().st_size
        if path.suffix in PICKLE_SUFFIXES:
            shapes, metadata, problem = (*torch_headers(path), None)
        else:
            shapes, metadata, problem = _safetensors(path, size)
    except zipfile.BadZipFile as error:
        return TensorHeaders(bytes=size, problems=(f"is not a whole PyTorch file ({one_line(error)})",))
    except _Broken as error:
        return TensorHeaders(bytes=size, problems=(str(error),))
    except WeightsError as error:
        return TensorHeaders(bytes=size, problems=(str(error),))
    except OSError as error:
        raise WeightsError(
            f"cannot read weights {path}: {one_line(error)}; give the path of a readable file"
        ) from error
    return TensorHeaders(
        shapes=shapes,
        places={name: (path, name) for name in shapes},
        metadata=metadata,
        bytes=size,
        problems=() if problem is None else (problem,),
    )


def _of_files(paths: list[Path]) -> TensorHeaders:
    if len(paths) == 1:
        return read_headers(paths[0])
    joined = TensorHeaders()
    for path in paths:
        joined = joined.joined(_of_file(path))
    numbers = {
        int(match["number"]): int(match["count"]) for path in paths if (match := SHARD.match(path.name))
    }
    missing = sorted(set(range(1, max(numbers.values(), default=0) + 1)) - numbers.keys())
    if missing:
        problem = f"shard {missing[0]} of {max(numbers.values())} is missing{more(missing)}"
        joined = joined.joined(TensorHeaders(problems=(problem,)))
    return joined


def _of_index(index: Path) -> TensorHeaders:
    try:
        places: dict[str, str] = json.loads(index.read_text())["weight_map"]
        shards = sorted(set(places.values()))
    except OSError as error:
        raise WeightsError(f"cannot read {index}: {one_line(error)}; fetch it again") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return TensorHeaders(problems=(f"is not an index of shards ({one_line(error)})",))
    joined, absent = TensorHeaders(), []
    for shard in shards:
        if (index.parent / shard).is_file():
            of_shard = _of_file(index.parent / shard)
            named = tuple(f"shard {shard}: {problem}" for problem in of_shard.problems)
            joined = joined.joined(TensorHeaders(**{**vars(of_shard), "problems": named}))
        else:
            absent.append(shard)
    problems = joined.problems
    if absent:
        problems += (f"shard {absent[0]} is missing{more(absent)}",)
    lost = [name for name, shard in places.items() if name not in joined.shapes and shard not in absent]
    if lost and not problems:
        problems += (f"tensor '{lost[0]}' is in none of its shards{more(lost)}",)
    return TensorHeaders(**{**vars(joined), "problems": problems})


def more(names: list[Any]) -> str:
    """How many come after the first."""
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


class _Broken(Exception):
    """Why a file is not what its name says."""


def _safetensors(path: Path, size: int) -> tuple[dict[str, Tensor], dict[str, str], str | None]:
    """Shapes, metadata and what is wrong, from the header of a safetensors file."""
    with path.open("rb") as file:
        first = file.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
        if not 2 <= length <= LARGEST_HEADER:
            raise _Broken("is empty" if not first else "is no safetensors file")
        text = file.read(length)
    if len(text) < length:
        raise _Broken("is truncated inside its header" if text.startswith(b"{") else "is no safetensors file")
    try:
        header: dict[str, Any] = json.loads(text)
        metadata = header.pop("__metadata__", None) or {}
        shapes = {
            name: torch.empty(about["shape"], dtype=_DTYPES[about["dtype"]], device="meta")
            for name, about in header.items()
        }
        ends = {name: tuple(about["data_offsets"]) for name, about in header.items()}
        whole = all(
            math.prod(t.shape) * t.element_size() == ends[n][1] - ends[n][0] for n, t in shapes.items()
        )
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, IndexError) as error:
        raise _Broken(f"is no safetensors file (its header has {one_line(error)})") from error
    if not whole:
        raise _Broken("is no safetensors file (sizes in its header contradict each other)")
    announced = 8 + length + max((end for _, end in ends.values()), default=0)
    if size == announced:
        return shapes, metadata, None
    told = f"{size_text(size)} of {size_text(announced)}"
    if size_text(size) == size_text(announced):
        told = f"{size} of {announced} bytes"
    problem = f"is truncated: {told} are there" if size < announced else "is longer than its header says"
    return shapes, metadata, problem
