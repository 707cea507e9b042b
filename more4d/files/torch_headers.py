"""Files of torch.save as tables of tensors without numbers, and where in the file the numbers of each are.

The machine of `files.torch_pickles` reads the pickles; storages are never read, only held against the file.
"""

import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from more4d.files.file_contents import ZIP
from more4d.files.pickle_machine import Refused, counted
from more4d.files.torch_pickles import (
    LegacyUnpickler,
    TorchUnpickler,
    legacy_content,
    torch_folder,
)
from more4d.foundation.errors import WeightsError

PICKLES_AT_MOST = 1 << 26  # bytes in front of the storages of the old format; a million names take less
LOCAL_HEADER = 30
MORE_THAN_TENSORS = "holds more than tensors"
"""Begins the refusal of a file that asks to run something."""
AS_SAFETENSORS = "where it was made, save its tensors alone, as safetensors"
NO_TABLE = "does not hold a flat table of tensors"


def torch_headers(path: Path) -> dict[str, tuple[Tensor, int]]:
    """By name, a tensor on the meta device with its strides, and where in the file its first number is.

    Raises:
        WeightsError: the file is damaged, or holds something else than a flat table of tensors. The message
            does not name the file.
        OSError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            first = file.read(len(ZIP))
            machine = _ZipShapes(path, file) if first == ZIP else _LegacyShapes(path, file)
            table = machine.table()
    except Refused as error:
        raise WeightsError(f"{MORE_THAN_TENSORS} ({error}), so it is not opened; {AS_SAFETENSORS}") from error
    except zipfile.BadZipFile as error:
        raise WeightsError("is truncated: the end of a PyTorch file is not there; fetch it again") from error
    except (pickle.UnpicklingError, EOFError, LookupError, ValueError, TypeError, struct.error) as error:
        raise WeightsError(f"is not a whole PyTorch file ({_short(error)}); fetch it again") from error
    except (RuntimeError, AttributeError, MemoryError, OverflowError) as error:
        raise WeightsError(f"is not a whole PyTorch file ({_short(error)}); fetch it again") from error
    if not isinstance(table, dict) or not all(isinstance(value, Tensor) for value in table.values()):
        raise WeightsError(f"{NO_TABLE}; save the one in it alone, as safetensors")
    starts = machine.starts_by_storage()
    return {str(name): (tensor, _start(tensor, starts)) for name, tensor in table.items()}


def _start(tensor: Tensor, starts: dict[int, int]) -> int:
    return starts[_identity(tensor)] + tensor.storage_offset() * tensor.element_size()


def _identity(tensor: Tensor) -> int:
    """Equal for tensors in one storage, as long as it lives."""
    return tensor.untyped_storage()._cdata


class _Shapes(TorchUnpickler):
    """The machine, whose storages have no memory, but a place in the file."""

    def __init__(self, data: bytes, *, file_bytes: int) -> None:
        super().__init__(data, file_bytes=file_bytes)
        self.starts: dict[str, int] = {}

    def starts_by_storage(self) -> dict[int, int]:
        """Where in the file the numbers of each storage begin."""
        return {_identity(storage): self.starts[key] for key, storage in self.storages.items()}

    def pass_over_facts(self) -> None:
        """A state dict carries facts about its modules as attributes of the dict; they are not needed."""
        if isinstance(self.stack[-2], OrderedDict) and isinstance(self.stack[-1], dict):
            self.stack.pop()
        else:
            self.fill()


class _ZipShapes(_Shapes):
    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._bytes, self._archived = path.stat().st_size, file
        self._archive = zipfile.ZipFile(path)
        self._folder = torch_folder(self._archive, self._bytes)
        super().__init__(self._archive.read(f"{self._folder}/data.pkl"), file_bytes=self._bytes)

    def table(self) -> Any:
        with self._archive:
            return self.load()

    def claimed(self, key: str, size: int) -> Tensor:
        entry = self._archive.getinfo(f"{self._folder}/data/{key}")
        self._archived.seek(entry.header_offset)
        name, extra = struct.unpack("<HH", self._archived.read(LOCAL_HEADER)[-4:])
        self.starts[key] = entry.header_offset + LOCAL_HEADER + name + extra
        if entry.file_size != size or self.starts[key] + size > self._bytes:
            raise ValueError(f"storage '{key[:40]}' claims {size} bytes and has {entry.file_size}")
        return torch.empty(size, dtype=torch.uint8, device="meta")


class _LegacyShapes(LegacyUnpickler, _Shapes):
    def __init__(self, path: Path, file: BinaryIO) -> None:
        file.seek(0, os.SEEK_SET)
        super().__init__(file.read(PICKLES_AT_MOST), file_bytes=path.stat().st_size)
        self.starts = {}

    def table(self) -> Any:
        return legacy_content(self)

    def claimed(self, key: str, size: int) -> Tensor:
        super().claimed(key, 0)
        return torch.empty(size, dtype=torch.uint8, device="meta")

    def fill_storages(self, keys: Any) -> None:
        """The numbers of each storage follow, each after their count; that they do is all that is asked."""
        self.check_keys(keys)
        end = self._file.tell()
        for key in keys:
            self.starts[key] = end + 8
            end += 8 + len(self.storages[key])
        if end != self._file_bytes:
            raise ValueError(f"{self._file_bytes} of {end} bytes are there")


for _machine in (_ZipShapes, _LegacyShapes):
    _machine.dispatch = TorchUnpickler.dispatch | {pickle.BUILD[0]: counted(_Shapes.pass_over_facts)}


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
