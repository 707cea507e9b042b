"""What files of weights hold, without reading it: names, shapes and types; each tensor when it is asked for.

One set of tensors may be one file or many: safetensors (single, sharded with or without an index) or files of
torch.save. Shapes and types come as tensors on the meta device, which have no memory.
"""

import json
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from more4d.files.file_signatures import (
    LARGEST_HEADER,
    PICKLE_SUFFIXES,
    SAFETENSORS,
    detect_format,
    format_size,
)
from more4d.files.torch_headers import torch_headers
from more4d.foundation.errors import WeightsError

INDEX_SUFFIX = ".safetensors.index.json"
SUFFIXES = (SAFETENSORS, *PICKLE_SUFFIXES)
SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors$")
DOWNLOAD_HINT = "models/README.md says where to get it"

_USUAL_NAMES = {
    stem + suffix
    for stem in ("diffusion_pytorch_model", "model", "pytorch_model")
    for suffix in (INDEX_SUFFIX, *SUFFIXES)
}
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
class TensorLocation:
    """Where the numbers of a tensor are: file and first byte; and their strides, if not the usual ones."""

    path: Path
    start: int
    strides: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class CheckpointHeaders:
    """The tensors of one or more files.

    Attributes:
        shapes: by name, a tensor without memory that has the shape and the type.
        locations: by name, where its numbers are.
        metadata: what a safetensors file says about itself.
        bytes: size of all files.
        problems: what is broken, each in one line; () if all tensors can be read.
    """

    shapes: dict[str, Tensor] = field(default_factory=dict)
    locations: dict[str, TensorLocation] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    bytes: int = 0
    problems: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """How many numbers there are."""
        return sum(tensor.numel() for tensor in self.shapes.values())

    @property
    def precision(self) -> str:
        """The types of the numbers, the most common first."""
        counts: Counter[str] = Counter()
        for tensor in self.shapes.values():
            counts[str(tensor.dtype).removeprefix("torch.")] += max(tensor.numel(), 1)
        return ", ".join(name for name, _ in counts.most_common())

    def with_prefix(self, prefix: str) -> "CheckpointHeaders":
        """The same with longer names, so that several sets can be one."""
        return CheckpointHeaders(
            shapes={prefix + name: tensor for name, tensor in self.shapes.items()},
            locations={prefix + name: location for name, location in self.locations.items()},
            metadata=self.metadata,
            bytes=self.bytes,
            problems=self.problems,
        )

    def merge(self, other: "CheckpointHeaders") -> "CheckpointHeaders":
        """The tensors of both; metadata of the first. A tensor that is in both is a problem."""
        twice = [name for name in other.shapes if name in self.shapes]
        problems = ()
        if twice:
            problems = (f"tensor '{twice[0]}' is in several of its files{and_more(twice)}; fetch them again",)
        return CheckpointHeaders(
            shapes=self.shapes | other.shapes,
            locations=self.locations | other.locations,
            metadata=self.metadata or other.metadata,
            bytes=self.bytes + other.bytes,
            problems=self.problems + other.problems + problems,
        )

    @contextmanager
    def open(self) -> Iterator["TensorReader"]:
        """Reads tensors by name, each when it is asked for. Files stay open as long as the block runs.

        Raises:
            WeightsError: a file cannot be opened any more.
        """
        with ExitStack() as stack:
            yield TensorReader(self, stack)


class TensorReader:
    """Tensors on the CPU, by name, each in memory of its own.

    Files are read, not mapped into memory: a map of a whole file, which torch and safetensors make, counts as
    memory where the system does not promise more than it has.
    """

    def __init__(self, headers: CheckpointHeaders, stack: ExitStack) -> None:
        self._headers, self._stack = headers, stack
        self._files: dict[Path, BinaryIO] = {}

    def __call__(self, name: str) -> Tensor:
        location, shape = self._headers.locations[name], self._headers.shapes[name]
        numbers = 0
        if shape.numel():
            strides = zip(shape.shape, location.strides or shape.stride(), strict=True)
            numbers = 1 + sum((side - 1) * step for side, step in strides)
        content = torch.empty(numbers * shape.element_size(), dtype=torch.uint8)
        try:
            if location.path not in self._files:
                self._files[location.path] = self._stack.enter_context(location.path.open("rb"))
            file = self._files[location.path]
            file.seek(location.start)
            read = file.readinto(memoryview(content.numpy())) if numbers else 0
        except OSError as error:
            raise WeightsError(
                f"{location.path} cannot be read ({error_summary(error)}); fetch it again"
            ) from error
        if read != len(content):
            raise WeightsError(f"{location.path} has become shorter while it was read; fetch it again")
        return content.view(shape.dtype).as_strided(shape.shape, location.strides or shape.stride())


def read_headers(path: Path) -> CheckpointHeaders:
    """What a file, an index of shards or a folder of either holds. What is broken is told, not raised.

    Raises:
        WeightsError: there is nothing at `path`, it cannot be read, or a folder holds no one set of weights.
    """
    if path.is_dir():
        return _read_files(weight_files_in(path))
    if not path.exists() and path.is_symlink():
        raise WeightsError(f"{path} is a link to {path.readlink()}, which is not there; fetch it again")
    if not path.exists():
        raise WeightsError(f"there is no weights file {path}; {DOWNLOAD_HINT}")
    if path.name.endswith(INDEX_SUFFIX):
        return _read_index(path)
    return _read_file(path)


def weight_files_in(folder: Path) -> list[Path]:
    """The file, the index, or the shards that are the weights of `folder`.

    Raises:
        WeightsError: there is none, or there are several and none has a usual name.
    """
    indices = sorted(folder.glob(f"*{INDEX_SUFFIX}"))
    files = sorted(path for path in folder.glob("*.safetensors"))
    shards = {match["stem"] for path in files if (match := SHARD.match(path.name))}
    if not indices and len(shards) == 1 and all(SHARD.match(path.name) for path in files):
        return files
    pickled = sorted(path for path in folder.glob("*") if path.suffix in PICKLE_SUFFIXES)
    candidates = indices or files or pickled
    usual = [path for path in candidates if path.name in _USUAL_NAMES]
    for chosen in (candidates, usual):
        if len(chosen) == 1:
            return chosen
    if not candidates and folder.suffix in SUFFIXES:
        raise WeightsError(
            f"{folder} is a folder without weights, by the name of a file; remove it, and fetch the file"
        )
    found = ", ".join(path.name for path in (*indices, *files, *pickled)) or "none"
    raise WeightsError(
        f"{folder} must hold one file of weights or one index of shards, found {found}; give the path of one"
    )


def problem_sentence(path: Path, problem: str) -> str:
    """A sentence about a file: problems begin with a verb, or are sentences of their own."""
    verb = problem.split()[0] in {"is", "has", "holds", "does", "describes"}
    return f"{path} {problem}" if verb else f"{path}: {problem}"


def plural(number: int, what: str) -> str:
    """A number of things: "1 finding", "3 findings"."""
    return f"{number} {what}" + "s" * (number != 1)


def error_summary(error: BaseException) -> str:
    """What an error says, short enough to be part of a sentence."""
    return " ".join(str(error).split())[:120] or type(error).__name__


def _read_file(path: Path) -> CheckpointHeaders:
    try:
        size = path.stat().st_size
        if detect_format(path) == "torch":
            return _read_torch(path, size)
        return _read_safetensors(path, size)
    except WeightsError as error:
        return CheckpointHeaders(bytes=size, problems=(str(error),))
    except OSError as error:
        raise WeightsError(
            f"cannot read weights {path}: {error_summary(error)}; give the path of a readable file"
        ) from error


def _read_torch(path: Path, size: int) -> CheckpointHeaders:
    found = torch_headers(path)
    shapes = {name: torch.empty_like(tensor).contiguous() for name, (tensor, _) in found.items()}
    locations = {
        name: TensorLocation(
            path=path, start=start, strides=None if tensor.is_contiguous() else tensor.stride()
        )
        for name, (tensor, start) in found.items()
    }
    return CheckpointHeaders(shapes=shapes, locations=locations, bytes=size)


def _read_files(paths: list[Path]) -> CheckpointHeaders:
    if len(paths) == 1 and not SHARD.match(paths[0].name):
        return read_headers(paths[0])
    joined = CheckpointHeaders()
    for path in paths:
        joined = joined.merge(_read_file(path))
    numbers = {
        int(match["number"]): int(match["count"]) for path in paths if (match := SHARD.match(path.name))
    }
    missing = sorted(set(range(1, max(numbers.values(), default=0) + 1)) - numbers.keys())
    if missing:
        problem = f"shard {missing[0]} of {max(numbers.values())} is missing{and_more(missing)}; fetch it"
        joined = joined.merge(CheckpointHeaders(problems=(problem,)))
    return joined


def _read_index(index: Path) -> CheckpointHeaders:
    try:
        weight_map: dict[str, str] = json.loads(index.read_text())["weight_map"]
        shards = sorted(set(weight_map.values()))
    except OSError as error:
        raise WeightsError(f"cannot read {index}: {error_summary(error)}; fetch it again") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return CheckpointHeaders(
            problems=(f"is not an index of shards ({error_summary(error)}); fetch it again",)
        )
    joined, missing_shards = CheckpointHeaders(), []
    for shard in shards:
        if (index.parent / shard).is_file():
            shard_headers = _read_file(index.parent / shard)
            named = tuple(f"shard {shard}: {problem}" for problem in shard_headers.problems)
            joined = joined.merge(CheckpointHeaders(**{**vars(shard_headers), "problems": named}))
        else:
            missing_shards.append(shard)
    problems = joined.problems
    if missing_shards:
        problems += (f"shard {missing_shards[0]} is missing{and_more(missing_shards)}; fetch it",)
    lost = [
        name
        for name, shard in weight_map.items()
        if name not in joined.shapes and shard not in missing_shards
    ]
    if lost and not problems:
        problems += (f"tensor '{lost[0]}' is in none of its shards{and_more(lost)}; fetch it again",)
    return CheckpointHeaders(**{**vars(joined), "problems": problems})


def and_more(names: list[Any]) -> str:
    """How many come after the first."""
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _read_safetensors(path: Path, size: int) -> CheckpointHeaders:
    with path.open("rb") as file:
        first = file.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
        if not 2 <= length <= LARGEST_HEADER:
            raise _damaged_error()
        text = file.read(length)
    if len(text) < length:
        raise (
            WeightsError("is truncated inside its header; fetch it again")
            if text[:1] == b"{"
            else _damaged_error()
        )
    try:
        header: dict[str, Any] = json.loads(text)
        metadata = header.pop("__metadata__", None) or {}
        shapes = {
            name: torch.empty(about["shape"], dtype=_DTYPES[about["dtype"]], device="meta")
            for name, about in header.items()
        }
        spans = {name: (int(start), int(end)) for name, (start, end) in _offsets(header)}
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, IndexError) as error:
        raise _damaged_error(f" (its header has {error_summary(error)})") from error
    if any(spans[n][0] < 0 or spans[n][1] - spans[n][0] != tensor.nbytes for n, tensor in shapes.items()):
        raise _damaged_error(" (sizes in its header contradict each other)")
    ordered = sorted(spans.values())
    if any(start != end for (start, _), end in zip(ordered, [0, *(end for _, end in ordered)], strict=False)):
        raise _damaged_error(" (its tensors overlap, or leave gaps)")
    begin = 8 + length
    locations = {name: TensorLocation(path=path, start=begin + start) for name, (start, _) in spans.items()}
    problem = _size_problem(size, begin + max((end for _, end in spans.values()), default=0))
    return CheckpointHeaders(
        shapes=shapes, locations=locations, metadata=metadata, bytes=size, problems=problem
    )


def _damaged_error(why: str = "") -> WeightsError:
    return WeightsError(f"is no safetensors file{why}; fetch it again")


def _offsets(header: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, about in header.items():
        yield name, about["data_offsets"]


def _size_problem(size: int, announced: int) -> tuple[str, ...]:
    if size == announced:
        return ()
    if size > announced:
        return ("is longer than its header says; fetch it again",)
    sizes = f"{format_size(size)} of {format_size(announced)}"
    if format_size(size) == format_size(announced):
        sizes = f"{size} of {announced} bytes"
    return (f"is truncated: {sizes} are there; fetch it again",)
