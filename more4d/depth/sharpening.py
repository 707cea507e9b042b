"""Estimated depth at the photo's full size: its outlines where the photo has them, its surfaces smooth.

A depth network sees a small picture and blurs outlines over several pixels; seen from the side, such a ramp
is a smear between object and background. Three steps:

1. at a reduced size, a *median* weighted by likeness of colour (Ma et al. 2013), twice, turns ramps at colour
   edges into steps. It only ever picks depths that are there, and leaves slopes of one colour as they are;
2. every full-size pixel *picks* the most similar of the small pixels around it, in place and colour
   (a joint bilateral upsampling, Kopf et al. 2007, that does not mix);
3. what was picked is a staircase: the mean over the small pixels *of the same surface* makes slopes of it.

The loops over pixels are compiled (`sharpening_kernels`); tests hold them to slow, obvious twins.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from more4d.geometry.camera import resize

MEDIAN_SIDE = 240
"""Shorter side, at least, of the size at which the median is taken; larger pictures take it at a third."""
COLOUR_SIGMA = 0.1
ROUNDS = 2
RADIUS_PER_SIDE = 1 / 48
"""Of the median's window, in (shorter) sides of the picture: about as far as outlines are blurred."""

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
    depth_m: Float[Tensor, "height width"], image: Float[Tensor, "height width 3"]
) -> Float[Tensor, "height width"]:
    """`ROUNDS` weighted medians over windows of `RADIUS_PER_SIDE`."""
    radius = max(1, round(min(depth_m.shape) * RADIUS_PER_SIDE))
    for _ in range(ROUNDS):
        depth_m = weighted_median(depth_m, image, radius=radius)
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


def _array(values: Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.detach().cpu().float().numpy())


def _precision(sigma: float) -> np.float32:
    return np.float32(0.5 / sigma**2)
