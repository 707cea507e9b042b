"""Depth behind what a picture shows: known surfaces continued into holes, the far one first.

A hole opens where a thing in front has moved away from what it hid, or at the border of the picture. Either
way the surface that goes on in it is the farther one beside it. A flat surface is linear in inverse depth
over the picture, so surfaces are continued along rows and columns at the slope they arrive with. Pictures
are mostly upright, and in an upright picture floors and walls change less along a row than along a column.
Estimated depth is ragged at outlines; a row that goes another way than the rows beside it follows them.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

COLUMN_STEP = 4.0
"""How many steps along a row one step along a column counts for, when the shorter way across is chosen."""
REACH = 1 / 12
"""How far back a surface's slope is measured, in longer sides of the picture."""
SAME_SURFACE = 0.05
"""Relative step of inverse depth from pixel to pixel that still leads along one surface."""
ALIKE = 0.8
"""Ratio of the inverse depths at both ends of a gap above which they are joined by a straight line."""
EVEN = 1 / 48
"""How many rows (columns) to either side a row (column) is compared with, in longer sides of the picture."""
LEAST, MOST = 0.25, 4.0
"""How far a continued inverse depth may go, as a factor of that at the border."""


@dataclass(frozen=True, kw_only=True)
class _Ends:
    """The nearest known pixel on one side of each pixel in its row.

    Attributes:
        distance: pixels to it; infinite where there is none.
        inverse: inverse depth there.
        continued: inverse depth at the pixel itself, of the surface that comes from there.
    """

    distance: Float[Tensor, "height width"]
    inverse: Float[Tensor, "height width"]
    continued: Float[Tensor, "height width"]


def extend_depth(
    depth_m: Float[Tensor, "height width"], known: Bool[Tensor, "height width"]
) -> Float[Tensor, "height width"]:
    """Depth everywhere: as it is where known, elsewhere of the surfaces that go on there.

    Args:
        depth_m: metres, positive where `known`; elsewhere anything.
        known: where the depth is known.

    Raises:
        ValueError: nothing is known.
    """
    if not bool(known.any()):
        raise ValueError("no depth is known that could be continued")
    inverse = torch.where(known, 1 / torch.where(known, depth_m, 1.0), 0.0)
    across_row, row_length = _across(inverse, known)
    across_column, column_length = _across(inverse.mT, known.mT)
    across_column, column_length = across_column.mT, column_length.mT * COLUMN_STEP
    continued = torch.where(column_length < row_length, across_column, across_row)
    continued = torch.where(known, inverse, continued)
    reached = known | torch.isfinite(torch.minimum(row_length, column_length))
    if not bool(reached.all()):  # nothing known in row or column; but every row crosses a column that is
        across_row, _ = _across(torch.where(reached, continued, 0.0), reached)
        continued = torch.where(reached, continued, across_row)
    for _ in range(2):  # along columns, then along rows
        continued = _like_its_neighbours(continued, known).mT
        known = known.mT
    return torch.where(known, depth_m, 1 / continued)


def _like_its_neighbours(
    inverse: Float[Tensor, "height width"], known: Bool[Tensor, "height width"]
) -> Float[Tensor, "height width"]:
    """Unknown values that stray from their column's median nearby (of unknown pixels) take that median."""
    reach = max(1, round(max(inverse.shape) * EVEN))
    padded = pad(inverse.masked_fill(known, torch.nan)[None, None], (0, 0, reach, reach), value=torch.nan)
    median = padded[0, 0].unfold(0, 2 * reach + 1, 1).nanmedian(-1).values
    strays = ~known & ((inverse - median).abs() > SAME_SURFACE * median)
    return torch.where(strays, median, inverse)


def _across(
    inverse: Float[Tensor, "height width"], known: Bool[Tensor, "height width"]
) -> tuple[Float[Tensor, "height width"], Float[Tensor, "height width"]]:
    """Inverse depth along rows, and how long the gap is: infinite where nothing is known in a row."""
    before, behind = _ends(inverse, known), _flipped(_ends(inverse.flip(1), known.flip(1)))
    gap = before.distance + behind.distance
    both = torch.isfinite(gap)
    nearer = torch.maximum(before.inverse, behind.inverse)
    farther = torch.minimum(before.inverse, behind.inverse)
    share = torch.where(both, before.distance / gap, 0.0)
    line = torch.lerp(before.inverse, behind.inverse, share)
    from_before = torch.where(both, before.inverse < behind.inverse, torch.isfinite(before.distance))
    continued = torch.where(from_before, before.continued, behind.continued)
    joined = both & (farther >= ALIKE * nearer)
    open_gap = 2 * torch.minimum(before.distance, behind.distance)
    return torch.where(joined, line, continued), torch.where(both, gap, open_gap)


def _ends(inverse: Float[Tensor, "height width"], known: Bool[Tensor, "height width"]) -> _Ends:
    """The last known pixel before each pixel of a row, and its surface continued to that pixel."""
    width = inverse.shape[1]
    index = torch.arange(width, device=inverse.device).expand(inverse.shape)
    last = torch.where(known, index, -1).cummax(1).values
    there = last.clamp(min=0)
    value = inverse.gather(1, there)
    first = _surface_starts(inverse, known).gather(1, there)
    first = torch.maximum(first, there - max(2, round(max(inverse.shape) * REACH)))
    span = there - first
    slope = (value - inverse.gather(1, first)) / span.clamp(min=1)
    slope = torch.where(span >= 2, slope, 0.0)
    distance = torch.where(last >= 0, (index - last).to(inverse.dtype), torch.inf)
    reach = torch.where(last >= 0, distance, 0.0)
    continued = torch.minimum(torch.maximum(value + slope * reach, LEAST * value), MOST * value)
    return _Ends(distance=distance, inverse=value, continued=continued)


def _surface_starts(
    inverse: Float[Tensor, "height width"], known: Bool[Tensor, "height width"]
) -> Int[Tensor, "height width"]:
    """Where the surface that each pixel is part of begins in its row."""
    step = inverse.diff(dim=1).abs()
    whole = (
        known[:, 1:] & known[:, :-1] & (step <= SAME_SURFACE * torch.maximum(inverse[:, 1:], inverse[:, :-1]))
    )
    index = torch.arange(inverse.shape[1], device=inverse.device).expand(inverse.shape)
    begins = torch.cat([torch.ones_like(known[:, :1]), ~whole], 1)
    return torch.where(begins, index, 0).cummax(1).values


def _flipped(ends: _Ends) -> _Ends:
    return _Ends(
        distance=ends.distance.flip(1), inverse=ends.inverse.flip(1), continued=ends.continued.flip(1)
    )
