"""Lossless compression of integer and boolean arrays with numcodecs.

A packed member is one line of JSON (format, version, and for each array its type, shape, step, differenced
axes, offset and size), followed by the arrays, compressed with zstd. Differences along an axis make slowly
varying values small; which axes to difference, and whether bytes or bits are shuffled before compression, is
chosen by trial on a strip of each array.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from more4d.foundation.documents import check_shape, parse_json
from more4d.foundation.errors import InputError
from more4d.foundation.optional import require

FORMAT = "more4d-arrays"
VERSION = 1
ARRAY = {"type": str, "shape": [int], "step": float, "axes": [int], "place": int, "size": int}

_AXES = ((), (0,), (1,), (0, 0), (0, 1))
_NO_SHUFFLE, _SHUFFLES = 0, (1, 2)  # Blosc's numbers: of bytes, of bits
_DTYPES = {"int16": np.int16, "int32": np.int32, "uint8": np.uint8, "bits": np.bool_}
_LEVEL = 5
_SAMPLE_SIZE = 1 << 19


@dataclass(frozen=True, kw_only=True)
class QuantisedArray:
    """Integer multiples of a step.

    Attributes:
        levels: int16, int32, uint8 or bool.
        step: value of one level.
    """

    levels: ndarray
    step: float = 1.0

    def values(self, dtype: type = np.float32) -> ndarray:
        """The values: levels times step."""
        return self.levels * dtype(self.step)


def pack_arrays(arrays: Mapping[str, QuantisedArray]) -> bytes:
    """Pack arrays of int16, int32, uint8 or bool; `unpack_arrays` is the exact inverse.

    Raises:
        ValueError: an array has another type.
        MissingPackageError: numcodecs is not installed.
    """
    header, blobs, offset = {}, [], 0
    for name, array in arrays.items():
        kind = "bits" if array.levels.dtype == np.bool_ else str(array.levels.dtype)
        if kind not in _DTYPES:
            raise ValueError(f"array '{name}' is of type {kind}; only {', '.join(_DTYPES)} can be packed")
        axes, blob = _encode_bits(array.levels) if kind == "bits" else _encode_numbers(array.levels)
        header[name] = {
            "type": kind,
            "shape": list(array.levels.shape),
            "step": array.step,
            "axes": list(axes),
            "place": offset,
            "size": len(blob),
        }
        blobs.append(blob)
        offset += len(blob)
    line = json.dumps({"format": FORMAT, "version": VERSION, "arrays": header})
    return b"".join([line.encode(), b"\n", *blobs])


def unpack_arrays(packed: bytes) -> dict[str, QuantisedArray]:
    """The inverse of `pack_arrays`.

    Raises:
        InputError: the data has another format, or a newer version of it.
        MissingPackageError: numcodecs is not installed.
        KeyError, TypeError, ValueError, RuntimeError: damaged.
    """
    line, separator, blobs = packed.partition(b"\n")
    if not separator:
        raise ValueError("packed arrays without their first line")
    header = parse_json(line)
    check_version(header, FORMAT, VERSION)
    check_shape(header, {"arrays": {str: ARRAY}})
    return {name: _decode(entry, blobs) for name, entry in header["arrays"].items()}


def check_version(header: Any, expected: str, latest: int) -> None:
    """Refuse a header of another format or of an unknown version.

    Raises:
        InputError: the format or version is unknown.
    """
    if not isinstance(header, dict) or header.get("format") != expected:
        raise InputError(f"not of the format '{expected}'")
    version = header.get("version")
    if not isinstance(version, int) or not 1 <= version <= latest:
        raise InputError(
            f"version {version} of the format '{expected}' is not known (the latest known is {latest}); "
            "use a newer more4d"
        )


def _blosc() -> Any:
    """The class of numcodecs that compresses."""
    blosc = require("numcodecs.blosc", extra="train")
    # No threads: the worker processes that read clips fill the cores.
    blosc.use_threads = False
    return blosc.Blosc


def _encode_bits(bits: ndarray) -> tuple[tuple[int, ...], bytes]:
    packed = np.packbits(bits.reshape(len(bits), -1), axis=1)
    packed[1:] ^= packed[:-1].copy()
    return (0,), _blosc()("zstd", _LEVEL, _NO_SHUFFLE).encode(packed)


def _encode_numbers(levels: ndarray) -> tuple[tuple[int, ...], bytes]:
    if levels.dtype == np.uint8:
        levels = levels.astype(np.int16)
    strip = _sample_strip(levels)
    tried = [
        (len(_compress(_differences(strip, axes), shuffle)), axes, shuffle)
        for axes in _AXES
        if max(axes, default=0) < levels.ndim
        for shuffle in _SHUFFLES
    ]
    _, axes, shuffle = min(tried)
    return axes, _compress(_differences(levels, axes), shuffle)


def _sample_strip(levels: ndarray) -> ndarray:
    """The strip on which encodings are tried: the middle of the second axis, half a million values."""
    if levels.size <= _SAMPLE_SIZE or levels.ndim < 2:
        return levels
    count = max(1, levels.shape[1] * _SAMPLE_SIZE // levels.size)
    start = (levels.shape[1] - count) // 2
    return levels[:, start : start + count]


def _compress(levels: ndarray, shuffle: int) -> bytes:
    """Zigzag (0, -1, 1, -2, ... become 0, 1, 2, 3, ...), so that small numbers have empty high bytes."""
    sign = levels >> (8 * levels.itemsize - 1)
    folded = (levels << 1) ^ sign
    return _blosc()("zstd", _LEVEL, shuffle).encode(np.ascontiguousarray(folded))


def _differences(levels: ndarray, axes: tuple[int, ...]) -> ndarray:
    """Differences along axes, keeping the first entry; integer overflow wraps, so that sums are exact
    inverses.
    """
    for axis in axes:
        levels = np.diff(levels, axis=axis, prepend=levels.dtype.type(0))
    return levels


def _undo_differences(levels: ndarray, axes: list[int]) -> None:
    """The inverse of `_differences`, in place; row by row, which is far faster than cumsum."""
    for axis in axes:
        moved = np.moveaxis(levels, axis, 0)
        for index in range(1, len(moved)):
            np.add(moved[index], moved[index - 1], out=moved[index])


def _decode(entry: Mapping[str, Any], blobs: bytes) -> QuantisedArray:
    shape, kind, axes = tuple(entry["shape"]), entry["type"], entry["axes"]
    if not all(isinstance(side, int) and side >= 0 for side in shape):
        raise ValueError(f"impossible shape {shape}")
    start = entry["place"]
    blob = blobs[start : start + entry["size"]]
    dtype = np.dtype({"bits": np.uint8, "uint8": np.int16}.get(kind, _DTYPES[kind]))
    stored = (shape[0], -(-math.prod(shape[1:]) // 8)) if kind == "bits" else shape
    expected = math.prod(stored) * dtype.itemsize
    # A Blosc frame stores its unpacked size at byte 4 and its own size at byte 12.
    unpacked, length = (int.from_bytes(blob[byte : byte + 4], "little") for byte in (4, 12))
    if (unpacked, length) != (expected, len(blob)):
        raise ValueError("a packed array is cut off or of another size than its first line says")
    values = np.frombuffer(bytearray(_blosc()().decode(blob)), dtype).reshape(stored)
    if kind == "bits":
        np.bitwise_xor.accumulate(values, axis=0, out=values)
        bits = np.unpackbits(values, axis=1, count=math.prod(shape[1:]))
        return QuantisedArray(levels=bits.astype(np.bool_).reshape(shape), step=float(entry["step"]))
    values = ((values >> 1) & np.iinfo(dtype).max) ^ -(values & 1)
    _undo_differences(values, axes)
    return QuantisedArray(levels=values.astype(_DTYPES[kind], copy=False), step=float(entry["step"]))
