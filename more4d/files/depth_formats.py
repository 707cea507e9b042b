"""Depth as other programs write it: numpy, safetensors, PNG, TIFF, PFM, OpenEXR, Record3D.

A file gives values, and what its format says of their unit; `files.depth_and_cameras` makes metres of them.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from more4d.files.atomic import load_arrays
from more4d.files.depth_units import DEPTH_SUFFIXES, check_depth_suffix
from more4d.files.exr import load_exr
from more4d.files.image import read_image
from more4d.files.record3d import read_recording
from more4d.foundation.documents import read_bytes
from more4d.foundation.errors import InputError

DESCRIPTION = f"a depth map ({', '.join(DEPTH_SUFFIXES)})"
NAMES = ("depth", "depth_map", "depth_m", "metric_depth", "depths")
"""Of the array of depth beside others, the first that is there."""
METRES, MILLIMETRES = 1.0, 0.001
_LARGEST_PACKED = 1e4
"""Metres, of depth packed into the bytes of an RGBA picture: what is larger is a picture of colours."""


@dataclass(frozen=True, kw_only=True)
class StoredDepth:
    """Values as a file holds them.

    Attributes:
        values: of every pixel, whatever they mean.
        metres_per_unit: what the format means by them; None for whole numbers of no agreed unit.
        called: the array's own name, if it has one.
    """

    values: Float[Tensor, "*shape"]
    metres_per_unit: float | None
    called: str = ""


def read_depth_file(path: Path) -> StoredDepth:
    """The values of a depth file of any kind that is read.

    Floating-point values mean metres, 16-bit pictures millimetres; whole numbers in arrays, and pictures of 8
    bits, mean nothing by themselves.

    Raises:
        InputError: the file is damaged, of another kind, or holds no single map of numbers.
    """
    suffix = path.suffix.lower()
    if suffix in (".png", ".tif", ".tiff"):
        return _picture(path)
    if suffix in (".npy", ".npz"):
        arrays = load_arrays(path)
        called = next(iter(arrays)) if len(arrays) == 1 else next((n for n in NAMES if n in arrays), None)
        if called is None:
            raise InputError(f"{path} holds {', '.join(arrays) or 'nothing'}; name the array 'depth'")
        return replace(stored(arrays[called], path), called=called)
    if suffix == ".safetensors":
        return _tensor(path)
    if suffix == ".pfm":
        return stored(_pfm(path), path)
    if suffix == ".exr":
        return stored(load_exr(path), path)
    if suffix == ".r3d":
        return stored(read_recording(path).depth, path)
    check_depth_suffix(path)
    raise ValueError(f"no reader for {suffix}, which is listed as read")


def stored(values: np.ndarray | Tensor, name: Path | str) -> StoredDepth:
    """An array or tensor of numbers, floating-point or whole.

    Raises:
        InputError: it holds something else.
    """
    if isinstance(values, Tensor):
        real = not values.is_complex() and values.dtype != torch.bool
        floating, tensor = values.is_floating_point(), values.detach().cpu()
    else:
        real, floating = values.dtype.kind in "fiu", values.dtype.kind == "f"
        tensor = torch.from_numpy(values.astype(np.float32)) if real else torch.empty(0)
    if not real:
        raise InputError(f"{name} holds values of type {values.dtype}; depth must be numbers in metres")
    return StoredDepth(values=tensor.float(), metres_per_unit=METRES if floating else None)


def _tensor(path: Path) -> StoredDepth:
    try:
        tensors = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(f"{path} is truncated or not a safetensors file ({error}); get it whole") from error
    if "depth" not in tensors:
        raise InputError(f"{path} holds {', '.join(tensors) or 'nothing'}; name the tensor 'depth'")
    return stored(tensors["depth"], path)


def _picture(path: Path) -> StoredDepth:
    """16 bits, floating point, 8 bits, or the bytes of float32 in RGBA, as NeRFCapture writes them."""
    image = read_image(path, managed=False)
    values = np.array(image)
    if image.mode == "F":
        return stored(values, path)
    if image.mode.startswith("I"):
        return StoredDepth(values=torch.from_numpy(values.astype(np.float32)), metres_per_unit=MILLIMETRES)
    if image.mode == "RGBA":
        packed = np.ascontiguousarray(values).view("<f4")[..., 0]
        # The alpha of a picture of colours would be sign and exponent: 255 is negative and huge.
        plausible = np.isfinite(packed) & (packed >= 0) & (packed < _LARGEST_PACKED)
        if plausible.mean() > 0.99 and (packed[plausible] > 1e-3).any():
            return stored(packed.astype(np.float32), path)
    if image.mode in ("L", "LA"):
        grey = values if values.ndim == 2 else values[..., 0]
    elif image.mode in ("RGB", "RGBA") and bool((values[..., :3] == values[..., :1]).all()):
        grey = values[..., 0]
    else:
        raise InputError(
            f"{path} is a coloured picture (mode {image.mode}), of which depth cannot be read back; give a "
            "16-bit grey .png, or .npy in metres"
        )
    return StoredDepth(values=torch.from_numpy(grey.astype(np.float32)), metres_per_unit=None)


def _pfm(path: Path) -> np.ndarray:
    """Portable float map: `Pf`, width, height, scale (negative: little-endian), rows from the bottom up."""
    content = read_bytes(path, DESCRIPTION)
    head = re.match(rb"(P[fF])\s+(\d{1,6})\s+(\d{1,6})\s+([-+.\deE]{1,20})\s", content)
    try:
        if head is None:
            raise ValueError
        kind, width, height, scale = head[1], int(head[2]), int(head[3]), float(head[4])
        channels = 3 if kind == b"PF" else 1
        order = "<" if scale < 0 else ">"
        values = np.frombuffer(content, f"{order}f4", width * height * channels, head.end())
    except ValueError as error:
        raise InputError(
            f"{path} is truncated or not a portable float map; get a whole copy of it"
        ) from error
    values = values.reshape(height, width, channels)[::-1].astype(np.float32)
    if bool((values != values[..., :1]).any()) and not np.isnan(values).any():
        raise InputError(f"{path} holds colours (PF); save its depth as a grey map (Pf)")
    return values[..., 0]
