"""Resizing and cropping an image together with its camera; the aspect ratio is kept."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from more4d.geometry.camera import Camera, DepthMap

MAX_ASPECT = 4.0


def fit(
    image: Float[Tensor, "height width channels"],
    camera: Camera,
    *,
    height: int,
    width: int,
    mode: Literal["smooth", "nearest"] = "smooth",
) -> tuple[Float[Tensor, "new_height new_width channels"], Camera]:
    """Crop the largest centred window of this aspect from the image and resize it to height x width.

    The window has whole pixels, so its aspect ratio is right to within half a source pixel; the
    returned camera is exact all the same: a ray through the same content is the same before and after.

    Args:
        image: any channels; colours in [0, 1] for `smooth`.
        camera: intrinsics of `image`.
        height: rows wanted.
        width: columns wanted.
        mode: `smooth` is antialiased bicubic, clipped to the range of the input; `nearest` never mixes
            values (depth, masks).

    Raises:
        ValueError: the wanted size is not positive.
    """
    if height < 1 or width < 1:
        raise ValueError(f"cannot fit a picture into {height} x {width} pixels")
    source_height, source_width = image.shape[:2]
    # cover, do not letterbox: the larger of the two scales leaves no empty border
    scale = max(height / source_height, width / source_width)
    rows = min(source_height, max(1, round(height / scale)))
    columns = min(source_width, max(1, round(width / scale)))
    # the window is centred, in whole source pixels
    top, left = (source_height - rows) // 2, (source_width - columns) // 2
    window = image[top : top + rows, left : left + columns]
    cropped = crop_camera(
        camera,
        left=left / source_width,
        top=top / source_height,
        width=columns / source_width,
        height=rows / source_height,
    )
    return resize(window, height, width, mode), cropped


def window(
    size: tuple[int, int], shape: tuple[int, int], draws: Sequence[float], *, min_scale: float
) -> tuple[slice, slice]:
    """A window (rows, columns) of an image of `size` with the aspect of `shape`.

    Args:
        size: (height, width) of the picture.
        shape: (height, width) whose aspect the window has, to within a pixel.
        draws: how large, how far down and how far right it is, each in [0, 1].
        min_scale: share of the largest such window's side that the smallest one keeps.
    """
    # side of the largest window of this aspect, in units of `shape`
    largest = min(size[0] / shape[0], size[1] / shape[1])
    scale = largest * (min_scale + (1 - min_scale) * draws[0])
    spans = [max(1, min(side, round(wanted * scale))) for side, wanted in zip(size, shape, strict=True)]
    starts = [round((side - span) * draw) for side, span, draw in zip(size, spans, draws[1:], strict=True)]
    rows, columns = (slice(start, start + span) for start, span in zip(starts, spans, strict=True))
    return rows, columns


def crop_camera(camera: Camera, *, left: float, top: float, width: float, height: float) -> Camera:
    """Intrinsics of a window of the image, given in fractions of the image's width and height.

    Resizing changes nothing: intrinsics are normalised.
    """
    return Camera(
        fx=camera.fx / width,
        fy=camera.fy / height,
        cx=(camera.cx - left) / width,
        cy=(camera.cy - top) / height,
    )


def fit_depth(depth_map: DepthMap, *, height: int, width: int) -> DepthMap:
    """`fit` for a depth map: nearest values, so that no depth is invented between two surfaces."""
    depth_m, camera = fit(
        depth_map.depth_m[..., None], depth_map.camera, height=height, width=width, mode="nearest"
    )
    # the mask takes the same window, so it stays aligned with the depth
    valid, _ = fit_mask(depth_map.valid, depth_map.camera, height=height, width=width)
    return DepthMap(depth_m=depth_m[..., 0], valid=valid, camera=camera)


def fit_mask(
    mask: Bool[Tensor, "height width"], camera: Camera, *, height: int, width: int
) -> tuple[Bool[Tensor, "new_height new_width"], Camera]:
    """`fit` for a mask: nearest values."""
    values, camera = fit(mask[..., None].float(), camera, height=height, width=width, mode="nearest")
    return values[..., 0] > 0.5, camera


def working_size(height: int, width: int, *, pixels: int, multiple: int = 16) -> tuple[int, int]:
    """The size to work at: this shape, about this many pixels, both sides multiples of `multiple`.

    Shapes beyond 4:1 and 1:4 are treated as 4:1 and 1:4 (`fit` then crops the ends off). Of the sizes near
    the wanted number of pixels the one nearest in shape wins, so the number may be off by a step of a side.

    Returns:
        (height, width)

    Raises:
        ValueError: an argument is not positive.
    """
    if min(height, width, pixels, multiple) < 1:
        raise ValueError(f"need positive numbers, got {height} x {width}, {pixels} pixels, step {multiple}")
    # width / height, at most 4:1 either way
    aspect = min(max(width / height, 1 / MAX_ASPECT), MAX_ASPECT)
    # rows * columns = pixels / multiple^2 and columns / rows = aspect
    ideal_rows = math.sqrt(pixels / aspect) / multiple
    ideal_columns = ideal_rows * aspect

    # Log ratios: too wide and too narrow cost the same. Shape counts twice as much as amount.
    def cost(size: tuple[int, int]) -> float:
        rows, columns = size
        shape = abs(math.log(columns / rows / aspect))
        amount = abs(math.log(rows * columns / (ideal_rows * ideal_columns)))
        return shape + 0.5 * amount

    candidates = [
        (rows, columns)
        for rows in range(max(1, math.floor(ideal_rows) - 1), math.ceil(ideal_rows) + 2)
        for columns in range(max(1, math.floor(ideal_columns) - 1), math.ceil(ideal_columns) + 2)
    ]
    rows, columns = min(candidates, key=cost)
    return rows * multiple, columns * multiple


def resize(
    image: Float[Tensor, "height width channels"],
    height: int,
    width: int,
    mode: Literal["smooth", "nearest"] = "smooth",
) -> Float[Tensor, "new_height new_width channels"]:
    """All of an image at another size, even if that stretches it; see `fit` for the modes."""
    if image.shape[:2] == (height, width):
        return image
    # [height, width, channels] -> [1, channels, height, width] for torch's resizing
    planes = image.movedim(-1, 0)[None]
    if mode == "nearest":
        resized = torch.nn.functional.interpolate(planes, (height, width), mode="nearest-exact")
    else:
        resized = torch.nn.functional.interpolate(
            planes, (height, width), mode="bicubic", align_corners=False, antialias=True
        )
        # bicubic overshoots at edges
        resized = resized.clamp(float(image.min()), float(image.max()))
    return resized[0].movedim(0, -1).contiguous()
