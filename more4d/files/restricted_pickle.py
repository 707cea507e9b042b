"""Pickles from elsewhere, read as data: nothing that a pickle names is ever run.

What they may hold, and the machine that reads them: `files.restricted_unpickler`. Files of torch.save, and the
storages inside tensors that were pickled plainly, are read by the same machine (`files.torch_pickles`).
"""

import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from more4d.files.atomic import check_readable
from more4d.files.restricted_unpickler import (
    MAX_NESTING,
    AllowedName,
    ArrayBuilder,
    DataUnpickler,
    UnsafePickleError,
    describe,
)
from more4d.files.torch_pickles import MAGIC, ZIP, load_torch
from more4d.foundation.errors import InputError

DESCRIPTION = "a pickle of arrays, or a file of torch.save"
MAX_BYTES = 8 << 30

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
        check_readable(source, DESCRIPTION)
        where, size = what or str(source), source.stat().st_size
    else:
        where, size = what or "the pickle", len(source)
    if size > MAX_BYTES:
        raise InputError(f"{where} has {size / 2**30:.1f} GiB; at most {MAX_BYTES >> 30} are read")
    try:
        data = source.read_bytes() if isinstance(source, Path) else source
        return _plain(_load(data), {}, 0)
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


def _storage(content: Any) -> Tensor:
    """A flat tensor of the storage that torch wrote into a plain pickle."""
    if not isinstance(content, bytes | bytearray):
        raise ValueError("a storage that is not bytes")
    storage = load_torch(bytes(content))
    if not isinstance(storage, Tensor):
        raise ValueError(f"a {type(storage).__name__} in place of a storage")
    return storage


class _PlainUnpickler(DataUnpickler):
    allowed: ClassVar[dict[str, AllowedName]] = DataUnpickler.allowed | {
        "torch.storage._load_from_bytes": AllowedName("torch.storage._load_from_bytes", _storage)
    }


def _load(data: bytes) -> Any:
    if data.startswith(ZIP):
        return load_torch(data)
    value = _PlainUnpickler(data).load()
    return load_torch(data) if type(value) is int and value == MAGIC else value


def _plain(value: Any, done: dict[int, Any], depth: int) -> Any:
    """Containers rebuilt from finished arrays; whatever is not data by now is refused."""
    if depth > MAX_NESTING:
        raise ValueError(f"containers nested deeper than {MAX_NESTING}, or in themselves")
    if value is None or isinstance(value, bool | int | float | str | bytes | bytearray | np.generic):
        return value
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, ArrayBuilder):
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
        raise UnsafePickleError(describe(value))
    done[id(value)] = (result, value)  # the value is kept, so that its id stays its own
    return result


def _checked(tensor: Tensor) -> Tensor:
    """A tensor whose numbers are all there: no sparse, quantised, abstract or repeated ones."""
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not plain or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"a tensor of {tensor.numel()} numbers that are not all stored")
    return tensor.detach()
