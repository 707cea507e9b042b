"""Estimated depth made to change where colours do.

A depth network blurs outlines over several pixels; seen from the side, such a ramp is a smear between object
and background. A median weighted by likeness of colour (Ma et al. 2013) turns ramps at colour edges into
steps. It only ever picks depths that are there, and leaves slopes of one colour as they are.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

COLOUR_SIGMA = 0.1
ROUNDS = 2
RADIUS_PER_SIDE = 1 / 48
"""Of the window, in sides of the picture (the shorter one): about as far as outlines are blurred."""
ROWS_AT_ONCE = 32


def weighted_median_filter(
    depth_m: Float[Tensor, "height width"], image: Float[Tensor, "height width 3"]
) -> Float[Tensor, "height width"]:
    """Depth with its outlines where `image` has them.

    Args:
        depth_m: metres, positive everywhere.
        image: RGB in [0, 1].
    """
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
    around = _windows(values[None], radius)
    colours = _windows(image.permute(2, 0, 1), radius)
    inside = _windows(torch.ones_like(values)[None], radius, outside=0.0)
    rows = []
    for start in range(0, len(values), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        centre = image[part].permute(2, 0, 1)[..., None, None]
        unlike = (colours[:, part] - centre).square().sum(0) / COLOUR_SIGMA**2
        weight = ((-0.5 * unlike).exp() * inside[0, part]).flatten(-2)
        ordered, order = around[0, part].flatten(-2).sort(dim=-1)
        total = weight.gather(-1, order).cumsum(-1)
        place = (total < 0.5 * total[..., -1:]).sum(-1, keepdim=True)
        rows.append(ordered.gather(-1, place)[..., 0])
    return torch.cat(rows)


def _windows(
    planes: Float[Tensor, "channels height width"], radius: int, *, outside: float | None = None
) -> Float[Tensor, "channels height width size size"]:
    """The pixels around every pixel, as a view; beyond the picture its border repeated, or `outside`."""
    mode = {"mode": "replicate"} if outside is None else {"value": outside}
    padded = pad(planes[None], (radius,) * 4, **mode)[0]
    size = 2 * radius + 1
    return padded.unfold(1, size, 1).unfold(2, size, 1)
