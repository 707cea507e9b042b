"""Many samples in one file: the tensors and texts of each, written together, read one sample at a time.

A safetensors file whose tensors are called `<sample>/<name>`; texts are JSON in its metadata, under names
like those of the tensors, and so is the CRC-32 of each sample's tensors.
"""

import json
import zlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from more4d.files.atomic import atomic_write, check_readable
from more4d.files.safetensors_header import sort_metadata
from more4d.foundation.errors import InputError

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
    """The inverse of `write_samples`; of the file only what is asked for is read. Stays in its process.

    Raises:
        InputError: the file is missing or not whole.
    """

    def __init__(self, path: Path) -> None:
        check_readable(path, DESCRIPTION)
        self.path = path
        self._names: dict[int, list[str]] = defaultdict(list)
        try:
            self._file = safetensors.safe_open(str(path), framework="pt")
            self._texts = self._file.metadata() or {}
            for key in (*self._file.keys(), *self._texts):
                number, _, name = key.partition("/")
                self._names[int(number)].append(name)
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise self._damaged(error) from error

    def read(self, number: int) -> dict[str, Tensor | list[str]]:
        """One sample.

        Raises:
            InputError: the file has no such sample, or is damaged.
        """
        if number not in self._names:
            raise InputError(f"{self.path} has no sample {number}; make it again")
        try:
            sample = {name: self._value(f"{number}/{name}") for name in self._names[number]}
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise self._damaged(error) from error
        if sample.pop(CHECKSUM, None) != checksum(sample):
            raise InputError(
                f"sample {number} of {self.path} is not what was written; delete it and make it again"
            )
        return sample

    def _value(self, key: str) -> Any:
        return json.loads(self._texts[key]) if key in self._texts else self._file.get_tensor(key)

    def _damaged(self, error: Exception) -> InputError:
        reason = " ".join(str(error).split())[:120]
        return InputError(f"{self.path} is damaged ({reason}); delete it and make it again")


def write_tensor_file(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name, atomically; `read_tensor_file` is the inverse."""
    write_samples(path, {0: tensors})


def read_tensor_file(path: Path) -> dict[str, Tensor]:
    """What `write_tensor_file` wrote.

    Raises:
        InputError: the file is missing or not whole.
    """
    return SampleFile(path).read(0)
