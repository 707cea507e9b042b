"""What was made for the holes of films, on disk: the pictures that 4D-ViSM generated, and the background.

Format `more4d-fill`, version 1 (safetensors), `fill.safetensors` of a view, at the size of the networks. What
is no hole is what the camera sees, and is not stored:

    colours   float32 [pixels, 3]   RGB in [0, 1] of the pixels that are holes, frame by frame, row by row
    holes     uint8   [bytes]       one bit per frame and pixel, most significant first

Format `more4d-background`, version 1, `background.safetensors` of a scene (`pipelines.background`):

    colours   uint8   [height, width, 3]   RGB
    depth     float32 [height, width]      metres
    needed    uint8   [bytes]              one bit per texel: what cameras see in their holes
    hidden    uint8   [bytes]              one bit per texel: what the photo does not show
    camera    float64 [4]                  fx, fy, cx, cy, normalised

The metadata of each has one entry, the format with its version.
"""

from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from more4d.files.atomic import write_bytes
from more4d.files.image import to_uint8
from more4d.files.problems import error_summary
from more4d.files.tracks import read_tensors
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera

FILL_FORMAT, FILL_VERSIONS = "more4d-fill", ("1",)
FILL_DESCRIPTION = "a file of generated pictures (fill.safetensors of a view)"
BACKGROUND_FORMAT, BACKGROUND_VERSIONS = "more4d-background", ("1",)
BACKGROUND_DESCRIPTION = "a file of a background (background.safetensors of a scene)"
WHITE = 255


def save_fill(
    path: Path, fill: Float[Tensor, "frames height width 3"], holes: Bool[Tensor, "frames height width"]
) -> None:
    """Write the pixels of `fill` that are holes, exactly; equal fills give equal files.

    Raises:
        InputError: the folder cannot be written to.
    """
    tensors = {"colours": fill.cpu().float()[holes.cpu()].contiguous(), "holes": _packed(holes)}
    write_bytes(path, safetensors.torch.save(tensors, {FILL_FORMAT: FILL_VERSIONS[-1]}))


def load_fill(
    path: Path, seen: Float[Tensor, "frames height width 3"]
) -> Float[Tensor, "frames height width 3"]:
    """Read what `save_fill` wrote.

    Args:
        seen: what the camera sees where there is no hole.

    Raises:
        InputError: the file is missing, truncated, of another format or version, or of another film.
    """
    _, tensors = read_tensors(path, FILL_DESCRIPTION, FILL_FORMAT, FILL_VERSIONS)
    try:
        fill = seen.clone()
        fill[_unpacked(tensors["holes"], seen.shape[:3])] = tensors["colours"]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is damaged or not {FILL_DESCRIPTION}: {error_summary(error)}") from error
    return fill


def save_background(
    path: Path,
    *,
    colour: Float[Tensor, "height width 3"],
    depth_m: Float[Tensor, "height width"],
    needed: Bool[Tensor, "height width"],
    hidden: Bool[Tensor, "height width"],
    camera: Camera,
) -> None:
    """Write a background; all but the colours, which are stored as 8 bits, is exact.

    Raises:
        InputError: the folder cannot be written to.
    """
    tensors = {
        "colours": to_uint8(colour),
        "depth": depth_m.float().contiguous(),
        "needed": _packed(needed),
        "hidden": _packed(hidden),
        "camera": torch.tensor([camera.fx, camera.fy, camera.cx, camera.cy], dtype=torch.float64),
    }
    write_bytes(path, safetensors.torch.save(tensors, {BACKGROUND_FORMAT: BACKGROUND_VERSIONS[-1]}))


def load_background(path: Path) -> dict[str, Tensor | Camera]:
    """What `save_background` took.

    Raises:
        InputError: the file is missing, truncated, of another format or version, or holds impossible values.
    """
    _, tensors = read_tensors(path, BACKGROUND_DESCRIPTION, BACKGROUND_FORMAT, BACKGROUND_VERSIONS)
    try:
        fx, fy, cx, cy = tensors["camera"].tolist()
        shape = tensors["depth"].shape
        return {
            "colour": tensors["colours"].float() / WHITE,
            "depth_m": tensors["depth"],
            "needed": _unpacked(tensors["needed"], shape),
            "hidden": _unpacked(tensors["hidden"], shape),
            "camera": Camera(fx=fx, fy=fy, cx=cx, cy=cy),
        }
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{path} is damaged or not {BACKGROUND_DESCRIPTION}: {error_summary(error)}"
        ) from error


def _packed(mask: Tensor) -> Tensor:
    return torch.from_numpy(np.packbits(mask.cpu().numpy().reshape(-1)))


def _unpacked(bits: Tensor, shape: torch.Size) -> Tensor:
    mask = np.unpackbits(bits.numpy(), count=shape.numel())
    return torch.from_numpy(mask.astype(bool)).reshape(shape)
