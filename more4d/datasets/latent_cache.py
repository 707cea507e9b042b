"""Encoded samples on disk: what frozen encoders say of a data set, written once, read in every epoch.

A cache is a folder:

    cache.json                    format, version, kind, samples, group, dtype, reach, and what made it
    constants.safetensors         tensors that belong to no sample, such as the embedding of the empty prompt
    latents-000000.safetensors    samples 0 to `per_file` - 1: tensors `0/motion`, `0/text`, ...; texts in the
                                  metadata

Files are written atomically, so that an interrupted cache can be resumed. Samples are read one at a time; the
rest of a file is not loaded. In a file tensors are named `<sample>/<name>`; its metadata holds texts as JSON
under names of the same form, and the CRC-32 of each sample's tensors.
"""

import json
import logging
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.utils.data import Dataset

from more4d.datasets.batch import LatentBatch, STraGLatents, ViSMLatents, trim_text
from more4d.files.atomic import atomic_write, sort_metadata, write_bytes
from more4d.files.problems import error_summary
from more4d.foundation.config import torch_generator
from more4d.foundation.documents import DocumentError, check_readable, check_shape, parse_json, read_json
from more4d.foundation.errors import InputError

FORMAT, VERSION = "more4d-latent-cache", 1
HEADER, CONSTANTS = "cache.json", "constants.safetensors"
LATENT_TYPES: dict[str, type[LatentBatch]] = {kind.kind: kind for kind in (STraGLatents, ViSMLatents)}
OPEN_FILES = 32
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}

AGAIN = "make the cache again"
HEADER_SHAPE = {
    **dict.fromkeys(("kind", "dtype?"), str),
    **dict.fromkeys(("samples", "group", "per_file"), int),
    "reach?": bool,
    "made_of?": {str: str},
    "settings?": {str: str},
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CacheHeader:
    """Content and origin of a cache.

    Attributes:
        kind: class of the samples: `LatentBatch.kind`.
        samples: number of samples of the complete cache.
        group: number of consecutive samples with one shape.
        per_file: number of samples per file.
        dtype: precision of the stored tensors.
        reach: whether every sample has its `reach`; earlier versions did not store it or say so.
        made_of: fingerprints of the encoder files, by name.
        settings: settings of the data that the samples depend on.
    """

    kind: str
    samples: int
    group: int
    per_file: int
    dtype: str = "float16"
    reach: bool = False
    made_of: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in LATENT_TYPES or self.dtype not in DTYPES:
            raise InputError(f"a cache of '{self.kind}' in {self.dtype} is not known to this version")
        if min(self.samples, self.group, self.per_file) < 1 or self.samples % self.group:
            raise InputError(
                f"a cache holds whole groups: {self.samples} samples in groups of {self.group},"
                f" {self.per_file} in a file"
            )

    @property
    def files(self) -> int:
        return -(-self.samples // self.per_file)

    def file_range(self, number: int) -> range:
        """Numbers of the samples in file `number`."""
        return range(number * self.per_file, min((number + 1) * self.per_file, self.samples))


class LatentCache:
    """Writes a cache; `LatentClips` reads it."""

    def __init__(self, folder: Path, header: CacheHeader) -> None:
        self.folder, self.header = folder, header

    @classmethod
    def begin(cls, folder: Path, header: CacheHeader, constants: Mapping[str, Tensor]) -> "LatentCache":
        """Start a cache, or resume one with the same header.

        Raises:
            InputError: the folder holds a cache with another header.
        """
        cache = cls(folder, header)
        if (folder / HEADER).exists():
            other = read_header(folder)
            differing = [f.name for f in fields(header) if getattr(other, f.name) != getattr(header, f.name)]
            if differing:
                name = differing[0]
                raise InputError(
                    f"{folder} holds a cache with another {name}: {getattr(other, name)}, not"
                    f" {getattr(header, name)}; give another folder, or delete that one"
                )
            return cache
        folder.mkdir(parents=True, exist_ok=True)
        write_samples(folder / CONSTANTS, {0: constants})
        text = json.dumps({"format": FORMAT, "version": VERSION, **asdict(header)}, indent=1)
        write_bytes(folder / HEADER, text.encode())
        return cache

    def missing(self) -> list[int]:
        """Numbers of the files that do not exist yet."""
        return [number for number in range(self.header.files) if not file_of(self.folder, number).exists()]

    def write(self, number: int, samples: list[LatentBatch]) -> None:
        """Write file `number`; `samples` are batches of one, in order.

        Raises:
            InputError: a value does not fit the precision of the cache.
        """
        dtype = DTYPES[self.header.dtype]
        stored: dict[int, dict[str, Tensor | list[str]]] = {}
        for place, sample in zip(self.header.file_range(number), samples, strict=True):
            stored[place] = {}
            for name, value in vars(replace(sample, text=trim_text(sample.text))).items():
                if isinstance(value, Tensor):
                    stored[place][name] = lowered = value[0].detach().cpu().to(dtype)
                    if not bool(torch.isfinite(lowered).all()):
                        raise InputError(
                            f"sample {place}: its {name} does not fit into {self.header.dtype};"
                            " make the cache in bfloat16 or float32"
                        )
                elif value is not None:
                    stored[place][name] = list(value)
        write_samples(file_of(self.folder, number), stored)


class LatentClips(Dataset):
    """The samples of a complete cache, with the groups shuffled in every epoch. Tensors are float32.

    Raises:
        InputError: there is no cache, or it is incomplete.
    """

    def __init__(self, folder: Path, *, seed: int) -> None:
        self.folder, self._seed = folder, seed
        self.header = read_header(folder)
        missing = LatentCache(folder, self.header).missing()
        if missing:
            raise InputError(
                f"the cache in {folder} lacks {len(missing)} of {self.header.files} files; run the command"
                " that makes it again, it goes on where it stopped"
            )
        self._kind = LATENT_TYPES[self.header.kind]
        self._files: dict[int, SampleFile] = {}

    def __getstate__(self) -> dict:
        return {**vars(self), "_files": {}}  # open files are not sent to other processes

    def __getitem__(self, index: int) -> LatentBatch:
        """Sample `index` as a batch of one."""
        return self.sample(self.place(index))

    @property
    def group(self) -> int:
        """Number of consecutive samples with one shape."""
        return self.header.group

    def place(self, index: int) -> int:
        """Number of the stored sample of `index`; groups are shuffled, so that a batch has one shape."""
        group, within = divmod(index, self.header.group)
        epoch, turn = divmod(group, self.header.samples // self.header.group)
        generator = torch_generator("cache order", self._seed, epoch)
        order = torch.randperm(self.header.samples // self.header.group, generator=generator)
        return int(order[turn]) * self.header.group + within

    def sample(self, place: int) -> LatentBatch:
        """Stored sample `place`.

        Raises:
            InputError: its file is damaged.
        """
        number = place // self.header.per_file
        if number not in self._files:
            if len(self._files) >= OPEN_FILES:
                self._files.clear()
            self._files[number] = SampleFile(file_of(self.folder, number))
        stored = self._files[number].read(place)
        try:
            return self._kind(
                **{n: v[None].float() if isinstance(v, Tensor) else tuple(v) for n, v in stored.items()}
            )
        except TypeError as error:
            raise InputError(
                f"sample {place} of {self.folder} is not whole: {error}; make it again"
            ) from error

    def column(self, name: str) -> list[Tensor]:
        """One tensor of every sample that has it, without the rest of the samples."""
        files = (SampleFile(file_of(self.folder, number)) for number in range(self.header.files))
        pairs = ((file._file, key) for file in files for key in file._keys if key.endswith(f"/{name}"))
        return [file.get_tensor(key) for file, key in pairs]

    def constants(self) -> dict[str, Tensor]:
        """Tensors stored once for all samples."""
        return SampleFile(self.folder / CONSTANTS).read(0)


def file_of(folder: Path, number: int) -> Path:
    return folder / f"latents-{number:06d}.safetensors"


def read_header(folder: Path) -> CacheHeader:
    """The header of the cache in `folder`.

    Raises:
        InputError: there is no cache, or its version is unknown.
    """
    path = folder / HEADER
    if not path.exists():
        raise InputError(f"there is no latent cache in {folder}; make one with: more4d data cache")
    values = read_json(path, "the header of a latent cache", dict, remedy=AGAIN)
    if values.get("format") != FORMAT or values.get("version") != VERSION:
        raise InputError(f"{path} is not of format {FORMAT} version {VERSION}; {AGAIN}")
    try:
        check_shape(values, HEADER_SHAPE)
    except DocumentError as error:
        raise InputError(f"{path} {error}; {AGAIN}") from error
    return CacheHeader(
        **{field.name: values[field.name] for field in fields(CacheHeader) if field.name in values}
    )


CHECKSUM = ".crc32"
DESCRIPTION = "a file of samples (.safetensors)"


def checksum(sample: Mapping[str, Tensor | list[str]]) -> int:
    """CRC-32 of a sample's tensors, in the order of their names."""
    value = 0
    for name in sorted(sample):
        if isinstance(tensor := sample[name], Tensor):
            value = zlib.crc32(tensor.contiguous().flatten().view(torch.uint8).numpy(), value)
    return value


def write_samples(path: Path, samples: Mapping[int, Mapping[str, Tensor | list[str]]]) -> None:
    """Write samples by number, atomically.

    Raises:
        InputError: the folder cannot be written to.
    """
    values = {
        f"{number}/{name}": value for number, sample in samples.items() for name, value in sample.items()
    }
    tensors = {key: value.contiguous() for key, value in values.items() if isinstance(value, Tensor)}
    texts = {key: json.dumps(value) for key, value in values.items() if not isinstance(value, Tensor)}
    texts |= {f"{number}/{CHECKSUM}": str(checksum(sample)) for number, sample in samples.items()}
    with atomic_write(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata=texts)
        sort_metadata(temporary)


class SampleFile:
    """Reads samples of a file of `write_samples` one at a time. It cannot be sent to another process.

    Raises:
        InputError: the file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        check_readable(path, DESCRIPTION)
        self.path = path
        try:
            self._file = safetensors.safe_open(str(path), framework="pt")
            self._texts = self._file.metadata() or {}
            self._keys = (*self._file.keys(), *self._texts)
        except (safetensors.SafetensorError, OSError) as error:
            raise self._damaged(error) from error

    def read(self, number: int) -> dict[str, Tensor | list[str]]:
        """One sample.

        Raises:
            InputError: the file has no such sample, or is damaged.
        """
        keys = [key for key in self._keys if key.startswith(f"{number}/")]
        if not keys:
            raise InputError(f"{self.path} has no sample {number}; make it again")
        sample = {}
        try:
            for key in keys:
                stored = parse_json(self._texts[key]) if key in self._texts else self._file.get_tensor(key)
                sample[key.partition("/")[2]] = stored
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise self._damaged(error) from error
        if sample.pop(CHECKSUM, None) != checksum(sample):
            raise InputError(
                f"sample {number} of {self.path} is not what was written; delete it and make it again"
            )
        return sample

    def _damaged(self, error: Exception) -> InputError:
        return InputError(f"{self.path} is damaged ({error_summary(error)}); delete it and make it again")
