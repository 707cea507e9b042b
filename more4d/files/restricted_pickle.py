"""Pickles from elsewhere, such as the track files of TrajScene, read as data: nothing they name is called.

`find_class` knows a dozen names, all of arrays, and gives a function of this module for each; any other name
is refused. Files of torch.save, and the storages inside tensors, are read by torch's restricted unpickler.
"""

import io
import math
import pickle
import re
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from more4d.files.atomic import check_readable
from more4d.foundation.errors import InputError

DESCRIPTION = "a pickle of arrays, or a file of torch.save"
MAX_BYTES = 8 << 30
MAX_NESTING = 32
MEMORY_PER_BYTE = 8  # a few bytes can ask for one array a million times

_TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle in a file of torch's old format
_SIMPLE_DTYPE = re.compile(r"b1|[iu][1248]|f[248]")
_REFUSED = re.compile(r"GLOBAL `?([\w.]+)")
_DAMAGE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


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
    if isinstance(source, Path):
        check_readable(source, DESCRIPTION)
        where, size = what or str(source), source.stat().st_size
    else:
        where, size = what or "the pickle", len(source)
    if size > MAX_BYTES:
        raise InputError(f"{where} has {size / 2**30:.1f} GiB; at most {MAX_BYTES >> 30} are read")
    try:
        value = _load(source.read_bytes() if isinstance(source, Path) else source)
        return _plain(value, {}, 0, size)
    except UnsafePickleError as error:
        raise InputError(
            f"{where} asks for {error}, which is not data and is not run; only arrays, tensors, containers, "
            "numbers and texts are read"
        ) from error
    except OSError as error:
        raise InputError(f"cannot read {where}: {error.strerror or error}") from error
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{where} is cut off, damaged or not {DESCRIPTION}: {reason[:200]}") from error


def _load(data: bytes) -> Any:
    if data.startswith(b"PK\x03\x04"):
        return _load_torch(data)
    value = _DataUnpickler(data).load()
    return _load_torch(data) if type(value) is int and value == _TORCH_MAGIC else value


def _load_torch(data: bytes) -> Any:
    if data.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("a zip with compressed entries, which torch does not write")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about protocols of pickles other than torch's own, 2
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if asked := _REFUSED.search(str(error)):
            raise UnsafePickleError(asked[1]) from error
        raise ValueError("torch's restricted unpickler cannot read it") from error


class _DataUnpickler(pickle._Unpickler):
    """The unpickler in Python: the one in C reserves as much memory as an index of its memo says."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self._memory = MEMORY_PER_BYTE * len(data)

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        make = _MAKERS.get(f"{module}.{name}")
        if make is None:
            raise UnsafePickleError(f"{module}.{name}"[:200])

        def charged(*arguments: Any) -> Any:
            made = make(*arguments)
            for each in (made, *arguments):
                self._memory -= len(each) if isinstance(each, bytes | bytearray | str) else 0
            if self._memory < 0:
                raise MemoryError(f"it asks for more than {MEMORY_PER_BYTE} times its own size")
            return made

        return charged


def _check_keys(usual: Callable[[Any], None], keys: slice) -> Callable[[Any], None]:
    """An instruction that fills a dict; tuples as keys may nest so that to hash them takes for ever."""

    def run(unpickler: Any) -> None:
        for key in unpickler.stack[keys]:
            _key(key)
        usual(unpickler)

    return run


_UNUSED = "INST OBJ NEWOBJ NEWOBJ_EX EXT1 EXT2 EXT4 PERSID BINPERSID EMPTY_SET ADDITEMS FROZENSET DUP".split()
_FILLING = {"SETITEM": slice(-2, -1), "SETITEMS": slice(None, None, 2), "DICT": slice(None, None, 2)}
_usual = pickle._Unpickler.dispatch
_codes = {name: getattr(pickle, name)[0] for name in (*_UNUSED, *_FILLING)}
_DataUnpickler.dispatch = {code: _usual[code] for code in _usual if code not in map(_codes.get, _UNUSED)} | {
    _codes[name]: _check_keys(_usual[_codes[name]], keys) for name, keys in _FILLING.items()
}


class _DType:
    """A numpy type: a pickle gives its code first, and its byte order as a state."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not _SIMPLE_DTYPE.fullmatch(code):
            raise UnsafePickleError(f"the numpy type {str(code)[:40]!r}")
        self.value = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise ValueError("a numpy type with fields")
        self.value = self.value.newbyteorder(state[1])


class _Array:
    """A numpy array: a pickle makes it empty, and fills it by its state."""

    value = np.empty(0, np.float32)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        self.value = _array(content, dtype, shape, "F" if fortran else "C")


def _array(content: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    if not isinstance(dtype, _DType) or not isinstance(content, bytes | bytearray):
        raise UnsafePickleError("a numpy array of Python objects")
    if not _is_shape(shape) or math.prod(shape) * dtype.value.itemsize != len(content):
        raise ValueError("a numpy array whose shape does not fit its bytes")
    values = np.frombuffer(content, dtype.value).reshape(shape, order="F" if order == "F" else "C")
    return values.astype(dtype.value.newbyteorder("="))  # a copy that may be written to


def _is_shape(values: Any) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) <= MAX_NESTING
        and all(type(value) is int and 0 <= value <= 1 << 40 for value in values)
    )


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """A tensor in a storage as `_load_from_bytes` gives it, within its bounds."""
    if not (_is_shape(size) and _is_shape(stride) and _is_shape((offset,))) or len(size) != len(stride):
        raise ValueError("a tensor of impossible size or stride")
    flat = torch.empty(0, dtype=storage.dtype).set_(storage)
    last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
    if math.prod(size) > flat.numel() or (math.prod(size) and last >= flat.numel()):
        raise ValueError(f"a tensor of size {size} in a storage of {flat.numel()} numbers")
    return flat.as_strided(size, stride, offset)


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
    "collections.OrderedDict": lambda: OrderedDict(),
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch.Size": lambda values=(): tuple(values),
    "torch.storage._load_from_bytes": lambda content: _load_torch(_bytes(content)),
}
for _core in ("numpy.core", "numpy._core"):
    _MAKERS[f"{_core}.multiarray._reconstruct"] = lambda *_: _Array()
    _MAKERS[f"{_core}.multiarray.scalar"] = lambda dtype, content: _array(content, dtype, (1,), "C")[0]
    _MAKERS[f"{_core}.numeric._frombuffer"] = lambda *given: _array(*given[:4])
for _builtins in ("builtins", "__builtin__"):
    _MAKERS[f"{_builtins}.bytes"] = _bytes
    _MAKERS[f"{_builtins}.bytearray"] = lambda content=b"", *_: bytearray(_bytes(content))


def _plain(value: Any, done: dict[int, Any], depth: int, size: int) -> Any:
    """Containers rebuilt from finished arrays; whatever is not data by now is refused."""
    if depth > MAX_NESTING:
        raise ValueError(f"containers nested deeper than {MAX_NESTING}, or in themselves")
    if value is None or isinstance(value, bool | int | float | str | bytes | bytearray | np.generic):
        return value
    if isinstance(value, _Array | np.ndarray):
        return value.value if isinstance(value, _Array) else value
    if isinstance(value, Tensor):
        return _checked(value, size)
    if id(value) in done:
        return done[id(value)][0]
    if isinstance(value, dict):
        result: Any = {_key(key): _plain(item, done, depth + 1, size) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        result = [_plain(item, done, depth + 1, size) for item in value]
        result = result if isinstance(value, list) else tuple(result)
    else:
        raise UnsafePickleError(f"a {type(value).__name__}")
    done[id(value)] = (result, value)  # the value is kept, so that its id stays its own
    return result


def _key(key: Any) -> Any:
    if not isinstance(key, str | int | float | bytes | None):
        raise UnsafePickleError(f"a {type(key).__name__} as a key")
    return key


def _checked(tensor: Tensor, size: int) -> Tensor:
    """A tensor whose numbers are all in a file of `size` bytes: not sparse, quantised, abstract, repeated."""
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    stored = tensor.untyped_storage().nbytes() if plain else 0
    if not plain or stored > size or tensor.numel() * tensor.element_size() > stored:
        raise ValueError(f"a tensor of {tensor.numel()} numbers that are not all stored")
    return tensor.detach()
