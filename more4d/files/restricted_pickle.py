"""Pickles from elsewhere, such as the track files of TrajScene, read as data: nothing they name is called.

`find_class` knows a dozen names, all of arrays, and gives a function of this module for each; any other name
is refused. Files of torch.save, and the storages inside tensors, are read by torch's restricted unpickler.
"""

import io
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._utils import _rebuild_tensor

from more4d.files.problems import error_summary
from more4d.files.torch_files import REFUSED, ZIP
from more4d.foundation.documents import check_readable
from more4d.foundation.errors import InputError

DESCRIPTION = "a pickle of arrays, or a file of torch.save"
MAX_BYTES = 8 << 30

_TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle in a file of torch's old format
_SIMPLE_DTYPE = re.compile(r"b1|[iu][1248]|f[248]")


class UnsafePickleError(Exception):
    """Something that is not data; its text is the name."""


def load_restricted(source: Path | bytes, *, what: str | None = None) -> Any:
    """Dicts, lists, tuples, texts, bytes, numbers, numpy arrays and torch tensors (on the CPU) of a pickle.

    Plain pickles of any protocol are read, with arrays of numpy 1 and 2 and with tensors, and both formats of
    torch.save.

    Args:
        source: a file, or the bytes of one.
        what: its name in messages; the path if not given.

    Raises:
        InputError: it asks for anything else (the message names it), is cut off or damaged, or is larger
            than 8 GiB.
    """
    where = what or (str(source) if isinstance(source, Path) else "the pickle")
    if isinstance(source, Path):
        check_readable(source, DESCRIPTION)
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    if size > MAX_BYTES:
        raise InputError(f"{where} has {size / 2**30:.1f} GiB; at most {MAX_BYTES >> 30} are read, split it")
    try:
        return _plain(_load(source.read_bytes() if isinstance(source, Path) else source), {}, size)
    except UnsafePickleError as error:
        raise InputError(
            f"{where} asks for {error}, which is not data and is not run; only arrays, tensors, containers, "
            "numbers and texts are read"
        ) from error
    except Exception as error:  # of a damaged pickle there may be any
        raise InputError(
            f"{where} is cut off, damaged or not {DESCRIPTION}: {error_summary(error)}"
        ) from error


def _load(data: bytes) -> Any:
    if data.startswith(ZIP):
        return _load_torch(data)
    value = _DataUnpickler(io.BytesIO(data)).load()
    return _load_torch(data) if type(value) is int and value == _TORCH_MAGIC else value


def _load_torch(data: bytes) -> Any:
    if data.startswith(ZIP):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("a zip with compressed entries, which torch does not write")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about protocols of pickles other than torch's own, 2
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if asked := REFUSED.search(str(error)):
            raise UnsafePickleError(asked[1] or asked[2]) from error
        raise ValueError("torch's restricted unpickler cannot read it") from error


class _DataUnpickler(pickle._Unpickler):
    """The unpickler in Python: the one in C reserves as much memory as an index of its memo says."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        make = _MAKERS.get(f"{module}.{name}")
        if make is None:
            raise UnsafePickleError(f"{module}.{name}"[:200])
        # A new function each time: a pickle can set attributes of what it names.
        return lambda *arguments: make(*arguments)


class _DType:
    """A numpy type: a pickle gives its code first, and its byte order as a state."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not _SIMPLE_DTYPE.fullmatch(code):
            raise UnsafePickleError(f"the numpy type {str(code)[:40]!r}")
        self.value = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        self.value = self.value.newbyteorder(state[1])


class _Array:
    """A numpy array: a pickle makes it empty, and fills it by its state."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        self.value = _array(content, dtype, shape, "F" if fortran else "C")


def _array(content: Any, dtype: Any, shape: Any, order: str = "C") -> np.ndarray:
    if not isinstance(dtype, _DType) or not isinstance(content, bytes | bytearray):
        raise UnsafePickleError("a numpy array of Python objects")
    values = np.frombuffer(content, dtype.value).reshape(shape, order=order)
    return values.astype(dtype.value.newbyteorder("="))  # a copy that may be written to


def _bytes(content: Any = b"", encoding: str = "latin1") -> bytes:
    if isinstance(content, str) and encoding in ("latin1", "latin-1"):
        return content.encode("latin-1")
    if not isinstance(content, bytes | bytearray):
        raise UnsafePickleError("bytes made of something else (_codecs.encode, bytearray)")
    return bytes(content)


def _not_callable(*_: Any) -> Any:
    raise UnsafePickleError("a call of numpy.ndarray")


_MAKERS: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": _not_callable,  # only an argument of `_reconstruct`
    "numpy.dtype": _DType,
    "_codecs.encode": _bytes,
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": lambda *given: _rebuild_tensor(*given[:4]),
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch.Size": tuple,
    "torch.storage._load_from_bytes": lambda content: _load_torch(_bytes(content)),
}
for _core in ("numpy.core", "numpy._core"):
    _MAKERS[f"{_core}.multiarray._reconstruct"] = lambda *_: _Array()
    _MAKERS[f"{_core}.multiarray.scalar"] = lambda dtype, content: _array(content, dtype, ())[()]
    _MAKERS[f"{_core}.numeric._frombuffer"] = _array
for _builtins in ("builtins", "__builtin__"):
    _MAKERS[f"{_builtins}.bytes"] = _bytes
    _MAKERS[f"{_builtins}.bytearray"] = lambda content=b"", *_: bytearray(_bytes(content))


def _plain(value: Any, done: dict[int, Any], size: int) -> Any:
    """Containers rebuilt from finished arrays; whatever is not data by now is refused.

    Args:
        done: results by the id of their value, with the value, so that its id stays its own.
        size: bytes of the file; a tensor of more numbers (repeated ones, or of no storage) is refused.
    """
    if value is None or isinstance(
        value, bool | int | float | str | bytes | bytearray | np.generic | np.ndarray
    ):
        return value
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, Tensor):
        plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
        if not plain or max(value.nbytes, value.untyped_storage().nbytes()) > size:
            raise ValueError(f"a tensor of {value.numel()} numbers that are not all stored")
        return value.detach()
    if id(value) not in done:
        if isinstance(value, dict):
            if unusual := [key for key in value if not isinstance(key, str | int | float | bytes | None)]:
                raise UnsafePickleError(f"a {type(unusual[0]).__name__} as a key")
            result: Any = {key: _plain(item, done, size) for key, item in value.items()}
        elif isinstance(value, list | tuple):
            items = [_plain(item, done, size) for item in value]
            result = items if isinstance(value, list) else tuple(items)
        else:
            raise UnsafePickleError(f"a {type(value).__name__}")
        done[id(value)] = (result, value)
    return done[id(value)][0]
