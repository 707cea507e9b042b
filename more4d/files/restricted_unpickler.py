"""A machine that runs pickles as data: nothing that a pickle names is ever called.

A pickle is a program for a small machine that may call any function by name. This one knows a dozen names,
all of arrays, and for each of them a function of its own below that checks what it is given; any other name
is refused before anything is called. Instructions that make or change objects in other ways (classes,
attributes, the extension registry, persistent ids) do not exist here, and steps, memory and nesting are
limited.
"""

import io
import math
import pickle
import re
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

MAX_STEPS = 1_000_000
MAX_NESTING = 32
MAX_SIDE = 1 << 40
MEMORY_PER_BYTE = 8

_SIMPLE_DTYPE = re.compile(r"b1|[iu][1248]|f[248]")


class UnsafePickleError(Exception):
    """Something that is not data; its text is the name."""


@dataclass(frozen=True)
class AllowedName:
    """A name that a pickle may say, and what is called in its place, if it may be called."""

    name: str
    make: Callable[..., Any] | None


@dataclass
class _DTypeBuilder:
    """A numpy type on its way: pickles make it first and say its byte order later."""

    code: str
    order: str = "="

    def set_state(self, state: Any) -> None:
        if state[1] not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise ValueError("a numpy type with fields")
        self.order = state[1]


@dataclass
class ArrayBuilder:
    """A numpy array on its way: pickles make it empty and fill it later."""

    value: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))

    def set_state(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        self.value = _array(content, dtype, shape, "F" if fortran else "C")


def _array(content: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    if not isinstance(dtype, _DTypeBuilder) or not isinstance(content, bytes | bytearray):
        raise UnsafePickleError("a numpy array of Python objects")
    if not is_shape(shape) or order not in ("C", "F"):
        raise ValueError("a numpy array of impossible shape")
    kind = np.dtype(dtype.code).newbyteorder(dtype.order)
    if math.prod(shape) * kind.itemsize != len(content):
        raise ValueError(f"a numpy array of shape {shape} in {len(content)} bytes")
    values = np.frombuffer(content, kind).reshape(shape, order=order)
    return values.astype(kind.newbyteorder("="))  # a copy that may be written to


def describe(value: Any) -> str:
    return value.name if isinstance(value, AllowedName) else f"a {type(value).__name__}"


def is_shape(values: Any) -> bool:
    """Whether these are a few whole numbers; what is not may nest without end, and is not even printed."""
    return (
        isinstance(values, tuple)
        and len(values) <= MAX_NESTING
        and all(type(value) is int and 0 <= value <= MAX_SIDE for value in values)
    )


def _new_array(subtype: Any, *_: Any) -> ArrayBuilder:
    if subtype is not _NDARRAY:
        raise UnsafePickleError("a subclass of numpy.ndarray")
    return ArrayBuilder()


def _new_dtype(code: Any, *_: Any) -> _DTypeBuilder:
    if not isinstance(code, str) or not _SIMPLE_DTYPE.fullmatch(code):
        raise UnsafePickleError(
            f"the numpy type {code[:40]!r}" if isinstance(code, str) else "a numpy type made of others"
        )
    return _DTypeBuilder(code)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise UnsafePickleError("_codecs.encode of anything but text to latin1")
    return text.encode("latin-1")


def _bytearray(content: Any = b"") -> bytearray:
    if not isinstance(content, bytes | bytearray):
        raise ValueError("bytes made of something else")
    return bytearray(content)


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Tensor):
        raise ValueError("a tensor without a storage")
    if not (is_shape(size) and is_shape(stride) and is_shape((offset,))) or len(size) != len(stride):
        raise ValueError("a tensor of impossible size or stride")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) > storage.numel() or (math.prod(size) and last >= storage.numel()):
        raise ValueError(f"a tensor of size {tuple(size)} in a storage of {storage.numel()} numbers")
    return storage.as_strided(tuple(size), tuple(stride), offset)


def _size(values: Any = ()) -> tuple[int, ...]:
    if not is_shape(values):
        raise ValueError("an impossible torch.Size")
    return values


def _allowed_names() -> dict[str, AllowedName]:
    makers: dict[str, Callable[..., Any]] = {
        "numpy.dtype": _new_dtype,
        "_codecs.encode": _encode,
        "collections.OrderedDict": lambda: OrderedDict(),
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_parameter": lambda data, *_: data,
        "torch.Size": _size,
    }
    for core in ("numpy.core", "numpy._core"):
        makers[f"{core}.multiarray._reconstruct"] = _new_array
        makers[f"{core}.multiarray.scalar"] = lambda dtype, content: _array(content, dtype, (1,), "C")[0]
        makers[f"{core}.numeric._frombuffer"] = lambda *given: _array(*given[:4])
    for builtins in ("builtins", "__builtin__"):
        makers |= {f"{builtins}.bytes": lambda: b"", f"{builtins}.bytearray": _bytearray}
    return {name: AllowedName(name, make) for name, make in makers.items()} | {"numpy.ndarray": _NDARRAY}


_NDARRAY = AllowedName("numpy.ndarray", None)
ALLOWED_NAMES = _allowed_names()


class DataUnpickler(pickle._Unpickler):
    """The interpreter's unpickler in Python, whose table of instructions is replaced.

    `load` raises UnsafePickleError, and of what is damaged about any of Python's own errors.
    """

    allowed: ClassVar[dict[str, AllowedName]] = ALLOWED_NAMES

    def __init__(self, data: bytes, *, file_bytes: int | None = None) -> None:
        """`file_bytes`: of the whole file, if the pickle is a part of one; memory is allowed by them."""
        self._file = io.BytesIO(data)
        super().__init__(self._file)
        self._size, self._steps, self._memory = (
            len(data),
            MAX_STEPS,
            MEMORY_PER_BYTE * (file_bytes or len(data)),
        )

    def find_class(self, module: str, name: str) -> AllowedName:
        allowed = self.allowed.get(f"{module}.{name}")
        if allowed is None:
            raise UnsafePickleError(f"{module}.{name}"[:200])
        return allowed

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, AllowedName) or function.make is None or not isinstance(arguments, tuple):
            raise UnsafePickleError(f"a call of {describe(function)}")
        for given in arguments:  # few bytes can be looked at a million times
            self.charge(given if isinstance(given, bytes | bytearray) else None)
        self.append(self.charge(function.make(*arguments)))

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, ArrayBuilder | _DTypeBuilder):
            target.set_state(state)
            self.charge(target)
        elif not isinstance(target, OrderedDict) or state:
            raise UnsafePickleError(f"attributes of {describe(target)}")

    def charge(self, made: Any) -> Any:
        """What was made, taken off the memory allowed: few bytes can ask for one array a million times."""
        content = made.value if isinstance(made, ArrayBuilder) else made
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
                raise UnsafePickleError(f"a {type(key).__name__} as a key")

    def read_bytearray(self) -> None:
        (length,) = struct.unpack("<Q", self.read(8))
        if length > self._size:  # before memory is asked for
            raise EOFError(f"{length} bytes are announced, {self._size} are there")
        self.append(bytearray(self.read(length)))


_INHERITED_OPCODES = """
    PROTO FRAME MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT
    BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE
    SHORT_BINUNICODE BINUNICODE8 EMPTY_DICT EMPTY_LIST EMPTY_TUPLE LIST TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND
    APPENDS GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL STOP
""".split()
_OVERRIDDEN_OPCODES = {
    "REDUCE": DataUnpickler.reduce,
    "BUILD": DataUnpickler.build,
    "DICT": DataUnpickler.make_dict,
    "SETITEM": DataUnpickler.fill_dict_once,
    "SETITEMS": DataUnpickler.fill_dict,
    "BYTEARRAY8": DataUnpickler.read_bytearray,
}
_Opcode = Callable[[DataUnpickler], None]


def limited(step: _Opcode) -> _Opcode:
    """An instruction that is taken off the steps allowed."""

    def run(unpickler: DataUnpickler) -> None:
        unpickler._steps -= 1
        if unpickler._steps < 0:
            raise ValueError(f"more than {MAX_STEPS} steps; numbers belong into arrays")
        step(unpickler)

    return run


def _forbidden(name: str) -> _Opcode:
    def run(unpickler: DataUnpickler) -> None:
        raise UnsafePickleError(f"the instruction {name}")

    return run


def _unknown(unpickler: DataUnpickler) -> None:
    raise ValueError("no instruction of a pickle stands where one should")


def _dispatch_table() -> dict[int, _Opcode]:
    codes = {
        name: code[0]
        for name, code in vars(pickle).items()
        if name.isupper() and isinstance(code, bytes) and len(code) == 1
    }
    table = dict.fromkeys(range(256), _unknown) | {code: _forbidden(name) for name, code in codes.items()}
    usual = pickle._Unpickler.dispatch
    table |= {codes[name]: limited(usual[codes[name]]) for name in _INHERITED_OPCODES}
    return table | {codes[name]: limited(step) for name, step in _OVERRIDDEN_OPCODES.items()}


DataUnpickler.dispatch = _dispatch_table()
