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

from more4d.files.file_signatures import ZIP
from more4d.files.restricted_unpickler import UnsafePickleError, limited
from more4d.files.torch_pickles import (
    LegacyUnpickler,
    TorchUnpickler,
    archive_folder,
    load_legacy_content,
)
from more4d.foundation.errors import WeightsError

MAX_PICKLE_BYTES = 1 << 26  # bytes in front of the storages of the old format; a million names take less
LOCAL_HEADER = 30
UNSAFE_CONTENT = "holds more than tensors"
"""Begins the refusal of a file that asks to run something."""
SAFETENSORS_HINT = "where it was made, save its tensors alone, as safetensors"
NOT_A_STATE_DICT = "does not hold a flat table of tensors"


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
            unpickler = _ZipMetaUnpickler(path, file) if first == ZIP else _LegacyMetaUnpickler(path, file)
            state_dict = unpickler.load_state_dict()
    except UnsafePickleError as error:
        raise WeightsError(f"{UNSAFE_CONTENT} ({error}), so it is not opened; {SAFETENSORS_HINT}") from error
    except zipfile.BadZipFile as error:
        raise WeightsError("is truncated: the end of a PyTorch file is not there; fetch it again") from error
    except (pickle.UnpicklingError, EOFError, LookupError, ValueError, TypeError, struct.error) as error:
        raise WeightsError(
            f"is not a whole PyTorch file ({_error_summary(error)}); fetch it again"
        ) from error
    except (RuntimeError, AttributeError, MemoryError, OverflowError) as error:
        raise WeightsError(
            f"is not a whole PyTorch file ({_error_summary(error)}); fetch it again"
        ) from error
    if not isinstance(state_dict, dict) or not all(
        isinstance(value, Tensor) for value in state_dict.values()
    ):
        raise WeightsError(f"{NOT_A_STATE_DICT}; save the one in it alone, as safetensors")
    offsets = unpickler.offsets_by_storage()
    return {str(name): (tensor, _offset(tensor, offsets)) for name, tensor in state_dict.items()}


def _offset(tensor: Tensor, offsets: dict[int, int]) -> int:
    return offsets[_storage_id(tensor)] + tensor.storage_offset() * tensor.element_size()


def _storage_id(tensor: Tensor) -> int:
    """Equal for tensors in one storage, as long as it lives."""
    return tensor.untyped_storage()._cdata


class _MetaUnpickler(TorchUnpickler):
    """The machine, whose storages have no memory, but a place in the file."""

    def __init__(self, data: bytes, *, file_bytes: int) -> None:
        super().__init__(data, file_bytes=file_bytes)
        self.offsets: dict[str, int] = {}

    def offsets_by_storage(self) -> dict[int, int]:
        """Where in the file the numbers of each storage begin."""
        return {_storage_id(storage): self.offsets[key] for key, storage in self.storages.items()}

    def skip_module_metadata(self) -> None:
        """A state dict carries facts about its modules as attributes of the dict; they are not needed."""
        if isinstance(self.stack[-2], OrderedDict) and isinstance(self.stack[-1], dict):
            self.stack.pop()
        else:
            self.build()


class _ZipMetaUnpickler(_MetaUnpickler):
    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._bytes, self._archived = path.stat().st_size, file
        self._archive = zipfile.ZipFile(path)
        self._folder = archive_folder(self._archive, self._bytes)
        super().__init__(self._archive.read(f"{self._folder}/data.pkl"), file_bytes=self._bytes)

    def load_state_dict(self) -> Any:
        with self._archive:
            return self.load()

    def open_storage(self, key: str, size: int) -> Tensor:
        entry = self._archive.getinfo(f"{self._folder}/data/{key}")
        self._archived.seek(entry.header_offset)
        name, extra = struct.unpack("<HH", self._archived.read(LOCAL_HEADER)[-4:])
        self.offsets[key] = entry.header_offset + LOCAL_HEADER + name + extra
        if entry.file_size != size or self.offsets[key] + size > self._bytes:
            raise ValueError(f"storage '{key[:40]}' claims {size} bytes and has {entry.file_size}")
        return torch.empty(size, dtype=torch.uint8, device="meta")


class _LegacyMetaUnpickler(LegacyUnpickler, _MetaUnpickler):
    def __init__(self, path: Path, file: BinaryIO) -> None:
        file.seek(0, os.SEEK_SET)
        super().__init__(file.read(MAX_PICKLE_BYTES), file_bytes=path.stat().st_size)
        self.offsets = {}

    def load_state_dict(self) -> Any:
        return load_legacy_content(self)

    def open_storage(self, key: str, size: int) -> Tensor:
        super().open_storage(key, 0)
        return torch.empty(size, dtype=torch.uint8, device="meta")

    def fill_storages(self, keys: Any) -> None:
        """The numbers of each storage follow, each after their count; that they do is all that is asked."""
        self.check_keys(keys)
        end = self._file.tell()
        for key in keys:
            self.offsets[key] = end + 8
            end += 8 + len(self.storages[key])
        if end != self._file_bytes:
            raise ValueError(f"{self._file_bytes} of {end} bytes are there")


for _unpickler in (_ZipMetaUnpickler, _LegacyMetaUnpickler):
    _unpickler.dispatch = TorchUnpickler.dispatch | {
        pickle.BUILD[0]: limited(_MetaUnpickler.skip_module_metadata)
    }


def _error_summary(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
