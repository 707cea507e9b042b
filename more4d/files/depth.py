"""Depth maps: the user's own and ours.

Read: `.npy`, `.npz` (the array `depth`, or the only one) and `.safetensors` (the tensor `depth`) in float
metres; 16-bit `.png` in millimetres unless told otherwise. NaN, infinite, zero and negative mean "unknown".
"""

import io
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from more4d.files.arrays import load_arrays
from more4d.files.atomic import check_readable, write_bytes
from more4d.files.image import load_depth_image, save_image
from more4d.files.previews import colourise_depth
from more4d.foundation.errors import InputError

DESCRIPTION = "a depth map (.npy, .npz, .safetensors or 16-bit .png)"
ASPECT_TOLERANCE = 0.01


def load_depth(
    path: Path, *, height: int, width: int, metres_per_png_unit: float = 0.001
) -> Float[Tensor, "height width"]:
    """Depth in metres for a photo of height x width (upright), unknown pixels as NaN.

    Another size is accepted if its shape agrees within 1 %: the nearest values are taken.

    Raises:
        InputError: the file is missing, damaged or of another kind, its shape is not the photo's, or it knows
            the depth of no pixel.
    """
    path = Path(path)
    check_readable(path, DESCRIPTION)
    depth_m = _read(path, metres_per_png_unit)
    while depth_m.ndim > 2 and 1 in (depth_m.shape[0], depth_m.shape[-1]):
        depth_m = depth_m.squeeze(0) if depth_m.shape[0] == 1 else depth_m.squeeze(-1)
    if depth_m.ndim != 2 or 0 in depth_m.shape:
        shape = " x ".join(map(str, depth_m.shape))
        raise InputError(f"{path} holds values of shape {shape}; depth is height x width")
    rows, columns = depth_m.shape
    if abs(columns * height / (rows * width) - 1) > ASPECT_TOLERANCE:
        raise InputError(
            f"{path} is {columns} x {rows} but the picture is {width} x {height}, another shape; give depth "
            "of the whole upright picture"
        )
    known = torch.isfinite(depth_m) & (depth_m > 0)
    if not bool(known.any()):
        raise InputError(f"{path} knows the depth of no pixel (all are NaN, infinite, zero or negative)")
    depth_m = torch.where(known, depth_m, torch.nan)
    if (rows, columns) == (height, width):
        return depth_m
    return torch.nn.functional.interpolate(depth_m[None, None], (height, width), mode="nearest-exact")[0, 0]


def save_depth(path: Path, depth_m: Float[Tensor, "height width"]) -> None:
    """Write float32 metres as `.npy`, and beside it a coloured `.png` to look at.

    Raises:
        InputError: the folder cannot be written to.
    """
    path = Path(path)
    buffer = io.BytesIO()
    np.save(buffer, depth_m.detach().cpu().float().numpy(), allow_pickle=False)
    write_bytes(path.with_suffix(".npy"), buffer.getvalue())
    save_image(path.with_suffix(".png"), colourise_depth(depth_m))


def _read(path: Path, metres_per_png_unit: float) -> Tensor:
    suffix = path.suffix.lower()
    if suffix == ".png":
        return load_depth_image(path) * metres_per_png_unit
    if suffix in (".npy", ".npz"):
        arrays = load_arrays(path)
        array = next(iter(arrays.values())) if len(arrays) == 1 else arrays.get("depth")
        if array is None:
            raise InputError(f"{path} holds {', '.join(arrays) or 'nothing'}; name the array 'depth'")
        if array.dtype.kind not in "fiu":
            raise InputError(f"{path} holds values of type {array.dtype}; depth must be numbers in metres")
        return torch.from_numpy(array.astype(np.float32))
    if suffix == ".safetensors":
        try:
            tensors = safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise InputError(f"{path} is truncated or not a safetensors file ({error})") from error
        if "depth" not in tensors:
            raise InputError(f"{path} holds {', '.join(tensors) or 'nothing'}; name the tensor 'depth'")
        return tensors["depth"].float()
    raise InputError(f"{path} has the suffix '{path.suffix}'; give {DESCRIPTION}")
