"""Names, shapes and types of the tensors in weight files, from headers; each tensor when it is asked for.

One set of tensors may be one file or many: safetensors (single, sharded with or without an index) or files of
torch.save. Shapes and types are tensors on the meta device, which have no memory.
"""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from more4d.files.problems import (
    MALFORMED,
    HeaderError,
    Problem,
    ProblemCode,
    and_more,
    error_summary,
    format_size,
)
from more4d.files.torch_files import (
    GGUF_PROBLEM,
    GGUF_SUFFIX,
    PICKLE_SUFFIXES,
    SUFFIXES,
    TensorLocation,
    check_torch,
    extent,
    read_torch,
)
from more4d.foundation.documents import DocumentError, check_shape, parse_json
from more4d.foundation.errors import WeightsError

INDEX_SUFFIX = ".safetensors.index.json"
SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors$")
DOWNLOAD_HINT = "models/README.md says where to get it"
METADATA = "__metadata__"
TENSOR = {"dtype": str, "shape": [int], "data_offsets": [int]}
"""What the header of a safetensors file says of each tensor."""
LARGEST_HEADER = 100_000_000  # bytes, the limit of safetensors itself
MOST_TENSORS = 100_000  # published transformers have about 1,500

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
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}


@dataclass(frozen=True, kw_only=True)
class CheckpointHeaders:
    """The tensors of one or more files.

    Attributes:
        shapes: by name, a tensor without memory that has the shape and the type.
        locations: by name, where its numbers are.
        metadata: texts in the header of a safetensors file.
        bytes: size of all files.
        problems: what is broken; () if all tensors can be read.
    """

    shapes: dict[str, Tensor] = field(default_factory=dict)
    locations: dict[str, TensorLocation] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    bytes: int = 0
    problems: tuple[Problem, ...] = ()

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

    def member(self, member: str, prefix: str = "") -> "CheckpointHeaders":
        """The same as one of several files: its problems name it, and names of tensors get a prefix."""
        return replace(
            self,
            shapes={prefix + name: tensor for name, tensor in self.shapes.items()},
            locations={prefix + name: location for name, location in self.locations.items()},
            problems=tuple(replace(each, member=member) for each in self.problems),
        )

    def with_problem(self, text: str) -> "CheckpointHeaders":
        """The same with one more problem: something of it is missing, or there twice."""
        return replace(self, problems=(*self.problems, Problem(ProblemCode.INCOMPLETE, text)))

    def merge(self, other: "CheckpointHeaders") -> "CheckpointHeaders":
        """The tensors of both; metadata of the first. A tensor that is in both is a problem."""
        merged = CheckpointHeaders(
            shapes=self.shapes | other.shapes,
            locations=self.locations | other.locations,
            metadata=self.metadata or other.metadata,
            bytes=self.bytes + other.bytes,
            problems=self.problems + other.problems,
        )
        if twice := [name for name in other.shapes if name in self.shapes]:
            text = f"tensor '{twice[0]}' is in several of its files{and_more(twice)}; fetch them again"
            return merged.with_problem(text)
        return merged

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
        self._tables: dict[Path, dict[Any, Tensor]] = {}

    def __call__(self, name: str) -> Tensor:
        location, shape = self._headers.locations[name], self._headers.shapes[name]
        try:
            if location.start is None:
                return self._table(location.path)[name]
            # Tensors of torch files may be strided views of a larger storage; safetensors are contiguous.
            strides = location.strides or shape.stride()
            length = extent(shape, strides) if location.strides else shape.nbytes
            content = torch.empty(length, dtype=torch.uint8)
            read = self._read(location.path, location.start, content)
        except OSError as error:
            raise WeightsError(
                f"{location.path} cannot be read ({error_summary(error)}); fetch it again"
            ) from error
        if read != len(content):
            raise WeightsError(f"{location.path} has become shorter while it was read; fetch it again")
        return content.view(shape.dtype).as_strided(shape.shape, strides)

    def _read(self, path: Path, start: int, content: Tensor) -> int:
        if path not in self._files:
            self._files[path] = self._stack.enter_context(path.open("rb"))
        self._files[path].seek(start)
        return self._files[path].readinto(memoryview(content.numpy())) if len(content) else 0

    def _table(self, path: Path) -> dict[Any, Tensor]:
        """All tensors of a file in torch's old format, which does not say where each of them is."""
        if path not in self._tables:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
            self._tables[path] = {str(name): tensor.detach() for name, tensor in loaded.items()}
        return self._tables[path]


def read_headers(path: Path) -> CheckpointHeaders:
    """Tensors of a file, an index of shards or a folder of either; damage is returned as problems.

    Raises:
        WeightsError: there is nothing at `path`, it cannot be read, or a folder holds no one set of weights.
    """
    if path.is_dir():
        return _read_files(weight_files_in(path))
    if not path.exists() and path.is_symlink():
        raise WeightsError(f"{path} is a link to {path.readlink()}, which is not there; fetch it again")
    if not path.exists():
        raise WeightsError(f"there is no weights file {path}; {DOWNLOAD_HINT}")
    return _read_index(path) if path.name.endswith(INDEX_SUFFIX) else _read_file(path)


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
    if not candidates and (other := sorted(folder.glob(f"*{GGUF_SUFFIX}"))):
        raise WeightsError(f"{other[0]} {GGUF_PROBLEM}")
    found = ", ".join(path.name for path in (*indices, *files, *pickled)) or "none"
    raise WeightsError(
        f"{folder} must hold one file of weights or one index of shards, found {found}; give the path of one"
    )


def _read_file(path: Path) -> CheckpointHeaders:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            first = file.read(4096)
            file.seek(0)
            # 8 bytes of length, then JSON. First of all: some lengths begin as pickles do.
            if first[8:9] == b"{" and int.from_bytes(first[:8], "little") <= LARGEST_HEADER:
                return _read_safetensors(path, file, size)
            check_torch(path, first)
            shapes, locations = read_torch(path, file, size)
            return CheckpointHeaders(shapes=shapes, locations=locations, bytes=size)
    except HeaderError as error:
        return CheckpointHeaders(bytes=path.stat().st_size, problems=(error.problem,))
    except OSError as error:
        raise WeightsError(
            f"cannot read weights {path}: {error_summary(error)}; give the path of a readable file"
        ) from error


def _read_files(paths: list[Path]) -> CheckpointHeaders:
    if len(paths) == 1 and not SHARD.match(paths[0].name):
        return read_headers(paths[0])
    joined = CheckpointHeaders()
    for path in paths:
        joined = joined.merge(_read_file(path))
    matches = [match for path in paths if (match := SHARD.match(path.name))]
    total = max((int(match["count"]) for match in matches), default=0)
    missing = sorted(set(range(1, total + 1)) - {int(match["number"]) for match in matches})
    if missing:
        return joined.with_problem(f"shard {missing[0]} of {total} is missing{and_more(missing)}; fetch it")
    return joined


def _read_index(index: Path) -> CheckpointHeaders:
    try:
        weight_map = parse_json(index.read_bytes(), {"weight_map": {str: str}})["weight_map"]
    except OSError as error:
        raise WeightsError(f"cannot read {index}: {error_summary(error)}; fetch it again") from error
    except DocumentError as error:
        text = f"is not an index of shards (it {error_summary(error)}); fetch it again"
        return CheckpointHeaders(problems=(Problem(ProblemCode.DAMAGED, text),))
    shards = sorted(set(weight_map.values()))
    joined = CheckpointHeaders()
    missing = [shard for shard in shards if not (index.parent / shard).is_file()]
    for shard in shards:
        if shard not in missing:
            joined = joined.merge(_read_file(index.parent / shard).member(f"shard {shard}"))
    if missing:
        joined = joined.with_problem(f"shard {missing[0]} is missing{and_more(missing)}; fetch it")
    lost = [name for name in weight_map if name not in joined.shapes]
    if lost and not joined.problems:
        text = f"tensor '{lost[0]}' is in none of its shards{and_more(lost)}; fetch it again"
        joined = joined.with_problem(text)
    return joined


def _read_safetensors(path: Path, file: BinaryIO, size: int) -> CheckpointHeaders:
    """The header: 8 bytes of its length, then JSON with the type, shape and bytes of every tensor."""
    length = int.from_bytes(file.read(8), "little")
    text = file.read(length)
    if len(text) < length:
        raise HeaderError(ProblemCode.DAMAGED, "is truncated inside its header; fetch it again")
    if (tensors := text.count(b'"data_offsets"')) > MOST_TENSORS:  # before JSON and tensors take memory
        claim = f"claims {tensors} tensors, and at most {MOST_TENSORS} are possible"
        raise HeaderError(ProblemCode.DAMAGED, f"{claim}; fetch it again")
    begin = 8 + length
    try:
        header = parse_json(text, {f"{METADATA}?": (None, {str: str})})
        metadata = header.pop(METADATA, None) or {}
        check_shape(header, {str: TENSOR})
        shapes = {
            name: torch.empty(about["shape"], dtype=_DTYPES[about["dtype"]], device="meta")
            for name, about in header.items()
        }
        starts = {name: begin + about["data_offsets"][0] for name, about in header.items()}
        end = begin + max((about["data_offsets"][1] for about in header.values()), default=0)
        if size == end:  # overlaps, gaps and sizes that contradict each other are found by the library
            with safe_open(path, "np"):
                pass
    except (*MALFORMED, SafetensorError) as error:
        text = f"is no safetensors file (of its header: {error_summary(error)}); fetch it again"
        raise HeaderError(ProblemCode.DAMAGED, text) from error
    locations = {name: TensorLocation(path=path, start=start) for name, start in starts.items()}
    problems = ()
    if size != end:
        sizes = f"{format_size(size)} of {format_size(end)}"
        if format_size(size) == format_size(end):
            sizes = f"{size} of {end} bytes"
        text = f"is truncated: {sizes} are there" if size < end else "is longer than its header says"
        problems = (Problem(ProblemCode.DAMAGED, f"{text}; fetch it again"),)
    return CheckpointHeaders(
        shapes=shapes, locations=locations, metadata=metadata, bytes=size, problems=problems
    )
