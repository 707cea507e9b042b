"""Estimated depth at the photo's full size: its outlines where the photo has them, its surfaces smooth.

A depth network sees a small picture and blurs outlines over several pixels; seen from the side, such a ramp
is a smear between object and background. Three steps:

1. at a reduced size, a *median* weighted by likeness of colour (Ma et al. 2013), twice, turns ramps at colour
   edges into steps. It only ever picks depths that are there, and leaves slopes of one colour as they are;
2. every full-size pixel *picks* the most similar of the small pixels around it, in place and colour
   (a joint bilateral upsampling, Kopf et al. 2007, that does not mix);
3. what was picked is a staircase: the mean over the small pixels *of the same surface* makes slopes of it.

`sharpening_kernels` computes the same in compiled loops. The functions of this module are its specification:
slow and obvious.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from more4d.geometry.camera import resize

MEDIAN_SIDE = 240
"""Shorter side, at least, of the size at which the median is taken; larger pictures take it at a third."""
COLOUR_SIGMA = 0.1
ROUNDS = 2
RADIUS_PER_SIDE = 1 / 48
"""Of the median's window, in (shorter) sides of the picture: about as far as outlines are blurred."""
ROWS_AT_ONCE = 32

TAPS = 2
"""Radius of the window of small pixels that a large pixel picks from."""
PICK_COLOUR_SIGMA = 0.08
PICK_SPACE_SIGMA = 1.2
SMOOTH_SPACE_SIGMA = 0.8
"""Both in small pixels."""
SAME_SURFACE = 0.15
"""Difference in log depth at which another surface begins."""


def sharpen_depth(
    depth_m: Float[Tensor, "height width"], image: Float[Tensor, "height width 3"]
) -> Float[Tensor, "height width"]:
    """Estimated depth with its outlines where `image` has them.

    Args:
        depth_m: metres, positive everywhere.
        image: RGB in [0, 1].
    """
    height, width = depth_m.shape
    shrink = min(3.0, max(1.0, min(height, width) / MEDIAN_SIDE))
    small_size = (max(1, round(height / shrink)), max(1, round(width / shrink)))
    small = resize(image, *small_size)
    log_depth = resize(depth_m.log()[..., None], *small_size)[..., 0]
    filtered = weighted_median_filter(log_depth.exp(), small)
    if small_size == (height, width):
        return filtered
    return pick_and_smooth(filtered, small, image)


def weighted_median_filter(
    depth_m: Float[Tensor, "height width"], image: Float[Tensor, "height width 3"], *, fast: bool = True
) -> Float[Tensor, "height width"]:
    """`ROUNDS` weighted medians over windows of `RADIUS_PER_SIDE`."""
    radius = max(1, round(min(depth_m.shape) * RADIUS_PER_SIDE))
    median = weighted_median if fast else slow_weighted_median
    for _ in range(ROUNDS):
        depth_m = median(depth_m, image, radius=radius)
    return depth_m


def weighted_median(
    values: Float[Tensor, "height width"], image: Float[Tensor, "height width 3"], *, radius: int
) -> Float[Tensor, "height width"]:
    """Of every square window of (2 radius + 1)^2 pixels, the value that splits the weights in half.

    A neighbour weighs exp(-d^2 / 2) with d its distance in colour in units of COLOUR_SIGMA. Of two values
    that split alike the smaller is taken. Windows end at the border of the picture.
    """
    from more4d.depth import sharpening_kernels as kernels  # compiled by numba

    out = np.empty(tuple(values.shape), np.float32)
    kernels.weighted_median(_array(values), _array(image), radius, _precision(COLOUR_SIGMA), out)
    return torch.from_numpy(out)


def slow_weighted_median(
    values: Float[Tensor, "height width"], image: Float[Tensor, "height width 3"], *, radius: int
) -> Float[Tensor, "height width"]:
    """The specification of `weighted_median`: sort every window, cumulate its weights."""
    around = _windows(values[None], radius)  # [1, H, W, size, size]
    colours = _windows(image.permute(2, 0, 1), radius)  # [3, H, W, size, size]
    inside = _windows(torch.ones_like(values)[None], radius, outside=0.0)
    rows = []
    for start in range(0, len(values), ROWS_AT_ONCE):  # sorted windows of all rows would take gigabytes
        part = slice(start, start + ROWS_AT_ONCE)
        centre = image[part].permute(2, 0, 1)[..., None, None]
        # |dc|^2 / sigma^2, [rows, W, size, size].
        unlike = (colours[:, part] - centre).square().sum(0) / COLOUR_SIGMA**2
        # Zero outside of the picture: the window ends at its border.
        weight = ((-0.5 * unlike).exp() * inside[0, part]).flatten(-2)
        # [rows, W, size^2], ascending.
        ordered, order = around[0, part].flatten(-2).sort(dim=-1)
        total = weight.gather(-1, order).cumsum(-1)
        # The first value at which the cumulated weight reaches half.
        place = (total < 0.5 * total[..., -1:]).sum(-1, keepdim=True)
        rows.append(ordered.gather(-1, place)[..., 0])
    return torch.cat(rows)


def pick_and_smooth(
    depth_m: Float[Tensor, "small_h small_w"],
    small: Float[Tensor, "small_h small_w 3"],
    image: Float[Tensor, "height width 3"],
) -> Float[Tensor, "height width"]:
    """Depth at the size of `image`, from depth at the size of `small`, the same picture.

    Of the (2 TAPS + 1)^2 small pixels around it a pixel picks the one of least distance in place and colour.
    Its depth is the mean of 1/z over those within `SAME_SURFACE` of the picked one, which weigh
    exp(-d^2 / 2) (1 - e^2)^2 with d their distance in units of SMOOTH_SPACE_SIGMA and e that of their log
    depth in units of SAME_SURFACE.
    """
    from more4d.depth import sharpening_kernels as kernels

    out = np.empty(tuple(image.shape[:2]), np.float32)
    kernels.upsample(
        _array(depth_m.log()),
        _array(small),
        _array(image),
        TAPS,
        _precision(PICK_SPACE_SIGMA),
        _precision(PICK_COLOUR_SIGMA),
        _precision(SMOOTH_SPACE_SIGMA),
        np.float32(SAME_SURFACE),
        out,
    )
    return torch.from_numpy(out)


def slow_pick_and_smooth(
    depth_m: Float[Tensor, "small_h small_w"],
    small: Float[Tensor, "small_h small_w 3"],
    image: Float[Tensor, "height width 3"],
) -> Float[Tensor, "height width"]:
    """The specification of `pick_and_smooth`, tap by tap over whole pictures."""
    (small_h, small_w), (height, width) = depth_m.shape, image.shape[:2]
    v = (torch.arange(height) + 0.5) * (small_h / height) - 0.5
    u = (torch.arange(width) + 0.5) * (small_w / width) - 0.5
    log_depth = depth_m.log()
    taps = []  # distance to pick by, weight of place, log depth; infinitely far outside of the picture
    for dy in range(-TAPS, TAPS + 1):
        for dx in range(-TAPS, TAPS + 1):
            row, column = (v + 0.5).floor().long() + dy, (u + 0.5).floor().long() + dx
            inside = ((row >= 0) & (row < small_h))[:, None] & ((column >= 0) & (column < small_w))
            away = (row - v).square()[:, None] + (column - u).square()
            row, column = row.clamp(0, small_h - 1)[:, None], column.clamp(0, small_w - 1)
            unlike = (small[row, column] - image).square().sum(-1)
            distance = away / (2 * PICK_SPACE_SIGMA**2) + unlike / (2 * PICK_COLOUR_SIGMA**2)
            weight = (-away / (2 * SMOOTH_SPACE_SIGMA**2)).exp() * inside
            taps.append((torch.where(inside, distance, torch.inf), weight, log_depth[row, column]))
    distance, weight, depths = (torch.stack(maps) for maps in zip(*taps, strict=True))
    picked = depths.gather(0, distance.argmin(0, keepdim=True))
    off = ((depths - picked) / SAME_SURFACE).abs().clamp(max=1)
    weight = weight * (1 - off.square()).square()
    return weight.sum(0) / (weight * (-depths).exp()).sum(0)


def _array(values: Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.detach().cpu().float().numpy())


def _precision(sigma: float) -> np.float32:
    return np.float32(0.5 / sigma**2)


def _windows(
    planes: Float[Tensor, "channels height width"], radius: int, *, outside: float | None = None
) -> Float[Tensor, "channels height width size size"]:
    """The pixels around every pixel, as a view; beyond the picture its border repeated, or `outside`."""
    mode = {"mode": "replicate"} if outside is None else {"value": outside}
    # `unfold` makes views: no copy of size^2 pictures.
    padded = pad(planes[None], (radius,) * 4, **mode)[0]
    size = 2 * radius + 1
    return padded.unfold(1, size, 1).unfold(2, size, 1)
