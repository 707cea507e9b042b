"""Both formats of torch.save, read by the machine of `files.restricted_unpickler` instead of torch's own.

torch takes the sizes of storages from the pickle, asks for that much memory, and where the old format lists
none of them returns it unfilled. Here storages take no more memory than the file has bytes, and one that
the file does not fill is refused.

    zip     an archive, uncompressed: `<any>/data.pkl`, and every storage in `<any>/data/<key>`
    legacy  five pickles: a magic number, a version, facts of the machine, the content, the keys of the
            storages; then of each storage its length (int64) and its numbers
"""

import io
import pickle
import struct
import zipfile
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from more4d.files.file_signatures import ZIP
from more4d.files.restricted_unpickler import MAX_SIDE, AllowedName, DataUnpickler, limited

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001

_DTYPES = {
    "torch.storage.UntypedStorage": torch.uint8,
    "torch.ByteStorage": torch.uint8,
    "torch.CharStorage": torch.int8,
    "torch.ShortStorage": torch.int16,
    "torch.IntStorage": torch.int32,
    "torch.LongStorage": torch.int64,
    "torch.BoolStorage": torch.bool,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
}


def load_torch(data: bytes) -> Any:
    """What a file of torch.save holds; storages that it holds bare come as flat tensors.

    Raises:
        UnsafePickleError: it asks for something that is not data.
        Exception: damage, as one of the kinds that `files.restricted_pickle` turns into its own.
    """
    return _load_zip(data) if data.startswith(ZIP) else _load_legacy(data)


class TorchUnpickler(DataUnpickler):
    """The machine with one more instruction: a storage, by its key."""

    allowed: ClassVar[dict[str, AllowedName]] = DataUnpickler.allowed | {
        name: AllowedName(name, None) for name in _DTYPES
    }

    def __init__(self, data: bytes, *, file_bytes: int) -> None:
        super().__init__(data, file_bytes=file_bytes)
        self.storages: dict[str, Tensor] = {}
        self.item_sizes: dict[str, int] = {}

    def load_storage(self) -> None:
        parts = self.stack.pop()
        if not isinstance(parts, tuple) or len(parts) not in (5, 6) or parts[0] != "storage":
            raise ValueError("a persistent id that is no storage")
        _, kind, key, _, count = parts[:5]
        if any(part is not None for part in parts[5:]):
            raise ValueError("a view of a storage, as torch wrote it before 0.4; save the file anew")
        if not isinstance(kind, AllowedName) or kind.name not in _DTYPES:
            raise ValueError("a storage of unknown type")
        if not isinstance(key, str) or type(count) is not int or not 0 <= count <= MAX_SIDE:
            raise ValueError("a storage of impossible key or size")
        dtype = _DTYPES[kind.name]
        if key not in self.storages:
            self.storages[key] = self.open_storage(key, count * dtype.itemsize)
            self.item_sizes[key] = dtype.itemsize
        if len(self.storages[key]) != count * dtype.itemsize:
            raise ValueError(f"storage '{key[:40]}' has two sizes")
        self.append(self.storages[key].view(dtype))

    def open_storage(self, key: str, size: int) -> Tensor:
        """The bytes of a storage that is named for the first time."""
        raise ValueError(f"storage '{key[:40]}' where none may be, of {size} bytes")


class _ZipUnpickler(TorchUnpickler):
    def __init__(self, archive: zipfile.ZipFile, folder: str, *, file_bytes: int) -> None:
        super().__init__(archive.read(f"{folder}/data.pkl"), file_bytes=file_bytes)
        self._archive, self._folder = archive, folder

    def open_storage(self, key: str, size: int) -> Tensor:
        entry = self._archive.getinfo(f"{self._folder}/data/{key}")
        if entry.file_size != size:
            raise ValueError(f"storage '{key[:40]}' claims {size} bytes and has {entry.file_size}")
        storage = torch.empty(size, dtype=torch.uint8)
        storage.numpy()[:] = np.frombuffer(self._archive.read(entry), np.uint8)
        return storage


class LegacyUnpickler(TorchUnpickler):
    """Reads one pickle after the other; storages are filled at the end."""

    def __init__(self, data: bytes, *, file_bytes: int) -> None:
        super().__init__(data, file_bytes=file_bytes)
        self._file_bytes = self._unclaimed = file_bytes

    def next(self) -> Any:
        self.memo.clear()
        return self.load()

    def open_storage(self, key: str, size: int) -> Tensor:
        self._unclaimed -= size
        if self._unclaimed < 0:
            raise MemoryError(f"its storages claim more bytes than the file's {self._file_bytes}")
        return torch.empty(size, dtype=torch.uint8)

    def check_keys(self, keys: Any) -> None:
        if not isinstance(keys, list) or any(not isinstance(key, str) for key in keys):
            raise ValueError("no list of the keys of storages")
        if sorted(keys) != sorted(self.storages):
            raise ValueError("storages that are named are not those that are there")

    def fill_storages(self, keys: Any) -> None:
        self.check_keys(keys)
        for key in keys:
            storage = self.storages[key]
            (count,) = struct.unpack("<q", self._file.read(8))
            content = self._file.read(len(storage))
            if count * self.item_sizes[key] != len(storage) or len(content) != len(storage):
                raise ValueError(f"storage '{key[:40]}' is not whole")
            storage.numpy()[:] = np.frombuffer(content, np.uint8)


TorchUnpickler.dispatch = DataUnpickler.dispatch | {pickle.BINPERSID[0]: limited(TorchUnpickler.load_storage)}


def _load_zip(data: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return _ZipUnpickler(archive, archive_folder(archive, len(data)), file_bytes=len(data)).load()


def archive_folder(archive: zipfile.ZipFile, file_bytes: int) -> str:
    """The folder in an archive that holds everything.

    Raises:
        ValueError: torch did not write this archive, or wrote it on another kind of machine.
    """
    entries = archive.infolist()
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > file_bytes:
        raise ValueError("a zip with compressed entries, which torch does not write")
    names = [entry.filename for entry in entries]
    paths = [name.split("/") for name in names]
    folders = [path[0] for path in paths if len(path) == 2 and path[1] == "data.pkl"]
    if len(folders) != 1:
        raise ValueError("a zip without one data.pkl, which torch does not write")
    order = f"{folders[0]}/byteorder"
    if order in names and archive.read(order) != b"little":
        raise ValueError("a file of a machine with another byte order")
    return folders[0]


def _load_legacy(data: bytes) -> Any:
    return load_legacy_content(LegacyUnpickler(data, file_bytes=len(data)))


def load_legacy_content(unpickler: LegacyUnpickler) -> Any:
    """What the pickles of the old format hold, one after the other."""
    magic, version, system_info = unpickler.next(), unpickler.next(), unpickler.next()
    if magic != MAGIC or version != VERSION:
        raise ValueError("no file of torch.save, or one of another version")
    if not isinstance(system_info, dict) or system_info.get("little_endian") is not True:
        raise ValueError("a file of a machine with another byte order")
    content = unpickler.next()
    unpickler.fill_storages(unpickler.next())
    return content
