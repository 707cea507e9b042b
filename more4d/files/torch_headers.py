"""Files of torch.save as tables of tensors: their shapes alone, or tensors that stay on disk until used.

Archives (torch 1.6 and later) are mapped into memory by torch's restricted unpickler, which reads no storage.
In the old format storages lie behind the pickles; there the machine of `files.torch_pickles` reads these, and
the size of the file says whether the storages are whole.
"""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from more4d.files.pickle_machine import Refused
from more4d.files.torch_pickles import ZIP, legacy_shapes
from more4d.foundation.errors import WeightsError


def torch_headers(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Shapes and types by name, on the meta device; no metadata, which this format has not.

    Raises:
        WeightsError: the file is damaged, or holds something else than a flat table of tensors. The message
            does not name the file.
    """
    with path.open("rb") as file:
        first = file.read(len(ZIP))
    if not first:
        raise WeightsError("is empty")
    zipped = first == ZIP
    if zipped and not zipfile.is_zipfile(path):
        raise WeightsError("is truncated: the end of a PyTorch file is not there")
    try:
        if zipped:
            content = torch.load(path, map_location="meta", weights_only=True, mmap=True)
        else:
            content = legacy_shapes(path)
    except (pickle.UnpicklingError, Refused) as error:
        raise WeightsError("holds more than tensors, so it is not opened") from error
    except (RuntimeError, EOFError, LookupError, ValueError, TypeError, MemoryError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise WeightsError(f"is not a whole PyTorch file ({reason})") from error
    return {name: tensor.to("meta") for name, tensor in _table(content).items()}, {}


def torch_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file whose headers were read without complaint, on the CPU."""
    return _table(torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)))


def _table(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError("does not hold a flat table of tensors")
    return {str(name): tensor.detach() for name, tensor in content.items()}
