"""Maps made larger or smoother so that their edges follow the edges of a guide (Kopf et al. 2007)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

SPATIAL_SIGMA_PX = 0.8
LOG_DEPTH_SIGMA = 0.06
COLOUR_SIGMA = 0.12
RADIUS = 2
# So that a pixel unlike all its neighbours (weights near zero) still takes their plain spatial mean.
FLOOR = 1e-6


@dataclass(frozen=True, kw_only=True)
class Guide:
    """What a scene looks like at one size: its colours in [0, 1] and its depth in metres."""

    colours: Float[Tensor, "height width 3"]
    depth_m: Float[Tensor, "height width"]

    def features(self) -> Float[Tensor, "4 height width"]:
        """Axes scaled so that a distance of one is one standard deviation of the range kernel."""
        depth = self.depth_m.log()[None] / LOG_DEPTH_SIGMA
        return torch.cat([depth, self.colours.permute(2, 0, 1) / COLOUR_SIGMA])


def upsample_guided(
    values: Float[Tensor, "channels small_h small_w"], small: Guide, large: Guide
) -> Float[Tensor, "channels height width"]:
    """`values`, known where `small` is, at every pixel of `large`.

    A pixel takes the mean of the (2 RADIUS + 1)^2 small pixels around it, weighted by closeness in the image
    and by likeness in depth and colour. Both guides show the same field of view. The operation is linear
    in `values`, and a constant stays what it is.

    Raises:
        ValueError: `values` and `small` differ in size.
    """
    small_h, small_w = small.depth_m.shape
    height, width = large.depth_m.shape
    if tuple(values.shape[1:]) != (small_h, small_w):
        raise ValueError(f"values are {tuple(values.shape[1:])}, their guide is {(small_h, small_w)}")
    if (small_h, small_w) == (height, width):
        return values
    return _mean_of_alike(values, small, large, SPATIAL_SIGMA_PX, RADIUS)


def smooth_guided(
    values: Float[Tensor, "channels height width"], guide: Guide, *, sigma_px: float, rounds: int = 2
) -> Float[Tensor, "channels height width"]:
    """`values` made even within what looks alike, sharp where `guide` has an edge; 0 changes nothing.

    Each round, a pixel takes the mean of the pixels up to 2 `sigma_px` away, weighted as in
    `upsample_guided`.

    Raises:
        ValueError: `sigma_px` is negative, or `values` and `guide` differ in size.
    """
    if not sigma_px >= 0:
        raise ValueError(f"sigma_px must not be negative, got {sigma_px}")
    if values.shape[1:] != guide.depth_m.shape:
        raise ValueError(f"values are {tuple(values.shape[1:])}, their guide is {tuple(guide.depth_m.shape)}")
    for _ in range(rounds if sigma_px else 0):
        values = _mean_of_alike(values, guide, guide, sigma_px, math.ceil(2 * sigma_px))
    return values


def _mean_of_alike(values: Tensor, small: Guide, large: Guide, sigma_px: float, radius: int) -> Tensor:
    (small_h, small_w), (height, width) = small.depth_m.shape, large.depth_m.shape
    y, x = _positions(height, small_h), _positions(width, small_w)
    near, far = small.features(), large.features()
    total = torch.zeros(values.shape[0], height, width)
    weight_sum = torch.zeros(height, width)
    shifted = (small_h, small_w) == (height, width)
    if shifted:  # a tap is a shift: slices give the same numbers ten times faster than indices
        near, values = (pad(maps, (radius,) * 4, mode="replicate") for maps in (near, values))
    for dy in range(-radius, radius + 1):
        rows, row_weight = _tap(y, dy, small_h, sigma_px)
        for dx in range(-radius, radius + 1):
            columns, column_weight = _tap(x, dx, small_w, sigma_px)
            there = (slice(None), rows[:, None], columns)
            if shifted:
                top, left = radius + dy, radius + dx
                there = (slice(None), slice(top, top + height), slice(left, left + width))
            unlike = (near[there] - far).square().sum(0)
            weight = row_weight[:, None] * column_weight * ((-0.5 * unlike).exp() + FLOOR)
            weight_sum += weight
            total.addcmul_(values[there], weight.expand_as(total))
    return total / weight_sum


def _positions(large: int, small: int) -> Float[Tensor, "large"]:
    """Where the pixel centres of the large axis lie on the small one, in small pixels."""
    return (torch.arange(large) + 0.5) * (small / large) - 0.5


def _tap(positions: Tensor, offset: int, size: int, sigma_px: float) -> tuple[Tensor, Tensor]:
    """Index and spatial weight of the neighbour `offset` away from the nearest small pixel."""
    index = positions.round() + offset
    weight = torch.exp(-0.5 * ((positions - index) / sigma_px).square())
    inside = (index >= 0) & (index < size)
    return index.clamp(0, size - 1).long(), weight * inside
