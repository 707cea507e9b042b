"""Pickles from elsewhere, read as data: nothing that a pickle names is ever run.

A pickle is a program for a small machine that may call any function by name. This one knows a dozen names,
all of arrays, and for each of them a function of its own below that checks what it is given; any other name
is refused before anything is called. Instructions that make or change objects in other ways (classes,
attributes, the extension registry, persistent ids) do not exist here, and steps, memory and nesting are
limited. What torch wrote itself goes through `torch.load(weights_only=True)`, which works alike, and so do
the storages inside tensors that were pickled plainly.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from more4d.files.atomic import check_readable
from more4d.foundation.errors import InputError

WHAT = "a pickle of arrays, or a file of torch.save"
MAX_BYTES = 8 << 30
MAX_STEPS = 1_000_000
MAX_NESTING = 32
MAX_SIDE = 1 << 40
MEMORY_PER_BYTE = 8

_ZIP, _TORCH_LEGACY = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_SIMPLE_DTYPE = re.compile(r"b1|[iu][1248]|f[248]")
_NAMED_BY_TORCH = re.compile(r"GLOBAL:?\s+([\w.]+)")
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


def load_restricted(source: Path | bytes, *, what: str | None = None) -> Any:
    """What a pickle holds: dicts, lists, tuples, texts, bytes, numbers, numpy arrays and torch tensors (CPU).

    Read are plain pickles of any protocol, with arrays of numpy 1 and 2 and with tensors, and both formats of
    torch.save.

    Args:
        source: a file, or the bytes of one.
        what: how messages call it; default the path.

    Raises:
        InputError: it asks for anything else (the message names it), is cut off or damaged, or is larger
            than 8 GiB.
    """
    if isinstance(source, Path):
        check_readable(source, WHAT)
        where, size = what or str(source), source.stat().st_size
    else:
        where, size = what or "the pickle", len(source)
    if size > MAX_BYTES:
        raise InputError(f"{where} has {size / 2**30:.1f} GiB; at most {MAX_BYTES >> 30} are read")
    try:
        data = source.read_bytes() if isinstance(source, Path) else source
        return _plain(_load(data), {}, 0)
    except _Refused as error:
        raise InputError(
            f"{where} asks for {error}, which is not data and is not run; only arrays, tensors, containers, "
            "numbers and texts are read"
        ) from error
    except OSError as error:
        raise InputError(f"cannot read {where}: {error.strerror or error}") from error
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{where} is cut off, damaged or not {WHAT}: {reason[:200]}") from error


class _Refused(Exception):
    """Something that is not data; its text is the name."""


@dataclass(frozen=True)
class _Known:
    """A name that a pickle may say, and what is called in its place, if it may be called."""

    name: str
    make: Callable[..., Any] | None


@dataclass
class _DType:
    """A numpy type on its way: pickles make it first and say its byte order later."""

    code: str
    order: str = "="

    def set_state(self, state: Any) -> None:
        if state[1] not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise ValueError("a numpy type with fields")
        self.order = state[1]


@dataclass
class _Array:
    """A numpy array on its way: pickles make it empty and fill it later."""

    value: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))

    def set_state(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        self.value = _array(content, dtype, shape, "F" if fortran else "C")


def _array(content: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    if not isinstance(dtype, _DType) or not isinstance(content, bytes | bytearray):
        raise _Refused("a numpy array of Python objects")
    if not _is_size(shape) or order not in ("C", "F"):
        raise ValueError("a numpy array of impossible shape")
    kind = np.dtype(dtype.code).newbyteorder(dtype.order)
    if math.prod(shape) * kind.itemsize != len(content):
        raise ValueError(f"a numpy array of shape {shape} in {len(content)} bytes")
    values = np.frombuffer(content, kind).reshape(shape, order=order)
    return values.astype(kind.newbyteorder("="))  # a copy that may be written to


def _name(value: Any) -> str:
    return value.name if isinstance(value, _Known) else f"a {type(value).__name__}"


def _is_size(values: Any) -> bool:
    """Whether these are a few whole numbers; what is not may nest without end, and is not even printed."""
    return (
        isinstance(values, tuple)
        and len(values) <= MAX_NESTING
        and all(type(value) is int and 0 <= value <= MAX_SIDE for value in values)
    )


def _new_array(subtype: Any, *_: Any) -> _Array:
    if subtype is not _NDARRAY:
        raise _Refused("a subclass of numpy.ndarray")
    return _Array()


def _new_dtype(code: Any, *_: Any) -> _DType:
    if not isinstance(code, str) or not _SIMPLE_DTYPE.fullmatch(code):
        raise _Refused(
            f"the numpy type {code[:40]!r}" if isinstance(code, str) else "a numpy type made of others"
        )
    return _DType(code)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _Refused("_codecs.encode of anything but text to latin1")
    return text.encode("latin-1")


def _bytearray(content: Any = b"") -> bytearray:
    if not isinstance(content, bytes | bytearray):
        raise ValueError("bytes made of something else")
    return bytearray(content)


def _storage(content: Any) -> Tensor:
    """A flat tensor of the storage that torch wrote into a plain pickle."""
    if not isinstance(content, bytes | bytearray):
        raise ValueError("a storage that is not bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # storages with a type are deprecated, and what old files hold
        storage = _torch_load(bytes(content))
        if not isinstance(storage, torch.storage.TypedStorage):
            raise ValueError(f"a {type(storage).__name__} in place of a storage")
        return torch.empty(0, dtype=storage.dtype).set_(storage.untyped())


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Tensor):
        raise ValueError("a tensor without a storage")
    if not (_is_size(size) and _is_size(stride) and _is_size((offset,))) or len(size) != len(stride):
        raise ValueError("a tensor of impossible size or stride")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) > storage.numel() or (math.prod(size) and last >= storage.numel()):
        raise ValueError(f"a tensor of size {tuple(size)} in a storage of {storage.numel()} numbers")
    return storage.as_strided(tuple(size), tuple(stride), offset)


def _known() -> dict[str, _Known]:
    makers: dict[str, Callable[..., Any]] = {
        "numpy.dtype": _new_dtype,
        "_codecs.encode": _encode,
        "collections.OrderedDict": lambda: OrderedDict(),
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_parameter": lambda data, *_: data,
        "torch.storage._load_from_bytes": _storage,
    }
    for core in ("numpy.core", "numpy._core"):
        makers[f"{core}.multiarray._reconstruct"] = _new_array
        makers[f"{core}.multiarray.scalar"] = lambda dtype, content: _array(content, dtype, (1,), "C")[0]
        makers[f"{core}.numeric._frombuffer"] = lambda *given: _array(*given[:4])
    for builtins in ("builtins", "__builtin__"):
        makers |= {f"{builtins}.bytes": lambda: b"", f"{builtins}.bytearray": _bytearray}
    return {name: _Known(name, make) for name, make in makers.items()} | {"numpy.ndarray": _NDARRAY}


_NDARRAY = _Known("numpy.ndarray", None)
_KNOWN = _known()


class _DataUnpickler(pickle._Unpickler):
    """The interpreter's unpickler in Python, whose table of instructions is replaced."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self._size, self._steps, self._memory = len(data), MAX_STEPS, MEMORY_PER_BYTE * len(data)

    def find_class(self, module: str, name: str) -> _Known:
        known = _KNOWN.get(f"{module}.{name}")
        if known is None:
            raise _Refused(f"{module}.{name}"[:200])
        return known

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Known) or function.make is None or not isinstance(arguments, tuple):
            raise _Refused(f"a call of {_name(function)}")
        self.append(self.paid(function.make(*arguments)))

    def fill(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Array | _DType):
            target.set_state(state)
            self.paid(target)
        elif not isinstance(target, OrderedDict) or state:
            raise _Refused(f"attributes of {_name(target)}")

    def paid(self, made: Any) -> Any:
        """What was made, taken off the memory allowed: few bytes can ask for one array a million times."""
        content = made.value if isinstance(made, _Array) else made
        if isinstance(content, np.ndarray | Tensor):
            self._memory -= content.nbytes
        elif isinstance(content, bytes | bytearray):
            self._memory -= len(content)
        if self._memory < 0:
            raise MemoryError(f"it asks for more than {MEMORY_PER_BYTE} times its own size")
        return made

    def fill_dict(self) -> None:
        self._check_keys(self.stack[::2])
        pickle._Unpickler.load_setitems(self)

    def fill_dict_once(self) -> None:
        self._check_keys(self.stack[-2:-1])
        pickle._Unpickler.load_setitem(self)

    def make_dict(self) -> None:
        self._check_keys(self.stack[::2])
        pickle._Unpickler.load_dict(self)

    @staticmethod
    def _check_keys(keys: list[Any]) -> None:
        """Tuples as keys may nest so that to hash them takes for ever."""
        for key in keys:
            if not isinstance(key, str | int | float | bytes | None):
                raise _Refused(f"a {type(key).__name__} as a key")

    def read_bytearray(self) -> None:
        (length,) = struct.unpack("<Q", self.read(8))
        if length > self._size:  # before memory is asked for
            raise EOFError(f"{length} bytes are announced, {self._size} are there")
        self.append(bytearray(self.read(length)))


_AS_EVER = """
    PROTO FRAME MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT
    BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE
    SHORT_BINUNICODE BINUNICODE8 EMPTY_DICT EMPTY_LIST EMPTY_TUPLE LIST TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND
    APPENDS GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL STOP
""".split()
_OWN = {
    "REDUCE": _DataUnpickler.call,
    "BUILD": _DataUnpickler.fill,
    "DICT": _DataUnpickler.make_dict,
    "SETITEM": _DataUnpickler.fill_dict_once,
    "SETITEMS": _DataUnpickler.fill_dict,
    "BYTEARRAY8": _DataUnpickler.read_bytearray,
}
_Step = Callable[[_DataUnpickler], None]


def _counted(step: _Step) -> _Step:
    def run(machine: _DataUnpickler) -> None:
        machine._steps -= 1
        if machine._steps < 0:
            raise ValueError(f"more than {MAX_STEPS} steps; numbers belong into arrays")
        step(machine)

    return run


def _forbidden(name: str) -> _Step:
    def run(machine: _DataUnpickler) -> None:
        raise _Refused(f"the instruction {name}")

    return run


def _unknown(machine: _DataUnpickler) -> None:
    raise ValueError("no instruction of a pickle stands where one should")


def _instructions() -> dict[int, _Step]:
    codes = {
        name: code[0]
        for name, code in vars(pickle).items()
        if name.isupper() and isinstance(code, bytes) and len(code) == 1
    }
    table = dict.fromkeys(range(256), _unknown) | {code: _forbidden(name) for name, code in codes.items()}
    usual = pickle._Unpickler.dispatch
    table |= {codes[name]: _counted(usual[codes[name]]) for name in _AS_EVER}
    return table | {codes[name]: _counted(step) for name, step in _OWN.items()}


_DataUnpickler.dispatch = _instructions()


def _load(data: bytes) -> Any:
    if data.startswith(_ZIP):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
        packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        if packed or sum(entry.file_size for entry in entries) > len(data):
            raise ValueError("a zip with compressed entries, which torch does not write")
    if data.startswith((_ZIP, _TORCH_LEGACY)):
        return _torch_load(data)
    return _DataUnpickler(data).load()


def _torch_load(data: bytes) -> Any:
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = _NAMED_BY_TORCH.search(str(error))
        if named:
            raise _Refused(named[1]) from error
        raise


def _plain(value: Any, done: dict[int, Any], depth: int) -> Any:
    """Containers rebuilt from finished arrays; whatever is not data by now is refused."""
    if depth > MAX_NESTING:
        raise ValueError(f"containers nested deeper than {MAX_NESTING}, or in themselves")
    if value is None or isinstance(value, bool | int | float | str | bytes | bytearray | np.generic):
        return value
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, Tensor):
        return _checked(value)
    if id(value) in done:
        return done[id(value)][0]
    if isinstance(value, dict):
        result: Any = {key: _plain(item, done, depth + 1) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        result = [_plain(item, done, depth + 1) for item in value]
        result = result if isinstance(value, list) else tuple(result)
    else:
        raise _Refused(_name(value))
    done[id(value)] = (result, value)  # the value is kept, so that its id stays its own
    return result


def _checked(tensor: Tensor) -> Tensor:
    """A tensor whose numbers are all there: no sparse, quantised, abstract or repeated ones."""
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not plain or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"a tensor of {tensor.numel()} numbers that are not all stored")
    return tensor.detach()
