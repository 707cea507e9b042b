"""Background fill: depth and colour of what lies behind the foreground, for the holes of a rendering.

A hole opens where a foreground object has moved away from what it hid, or at the border of the image. Either
way the surface that continues into it is the farther one beside it.

*Depth* (`extend_depth`): a flat surface is linear in inverse depth over the image, so surfaces are continued
along rows and columns at the slope they arrive with. Most images are upright, where floors and walls change
less along a row than along a column. Estimated depth is ragged at outlines; a row that disagrees with the
rows beside it follows them.

*Colour* (`fill_background`): a mean over the surroundings of a hole would mix in the foreground. So each hole
pixel gets its background depth first, and then a mean in which known pixels are weighted by similarity of
depth: pull-push (Gortler et al. 1996) of joint bilateral weights (Kopf et al. 2007), for a stack of depths
between which each pixel is interpolated.
"""

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

# How many steps along a row one step along a column counts for, when the shorter way across is chosen.
COLUMN_COST = 4.0
# How far back a surface's slope is measured, in longer sides of the picture.
SLOPE_WINDOW = 1 / 12
# Relative step of inverse depth from pixel to pixel that still leads along one surface.
SURFACE_TOLERANCE = 0.05
# Ratio of the inverse depths at both ends of a gap above which they are joined by a straight line.
SAME_DEPTH_RATIO = 0.8
# How many rows (columns) to either side a row (column) is compared with, in longer sides of the picture.
MEDIAN_RADIUS = 1 / 48
# How far a continued inverse depth may go, as a factor of that at the border.
MIN_FACTOR, MAX_FACTOR = 0.25, 4.0


@dataclass(frozen=True, kw_only=True)
class _NearestKnown:
    """The nearest known pixel on one side of each pixel in its row.

    Attributes:
        distance: pixels to it; infinite where there is none.
        inverse: inverse depth there.
        extrapolated: inverse depth at the pixel itself, of the surface that comes from there.
    """

    distance: Float[Tensor, "height width"]
    inverse: Float[Tensor, "height width"]
    extrapolated: Float[Tensor, "height width"]


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
    # Planes are linear in 1 / z over the image: continue 1 / z, along rows and along columns.
    across_row, row_length = _extrapolate_rows(inverse, known)
    across_column, column_length = _extrapolate_rows(inverse.mT, known.mT)
    across_column, column_length = across_column.mT, column_length.mT * COLUMN_COST
    # The shorter way across a gap wins; a step along a column costs COLUMN_COST steps along a row.
    extrapolated = torch.where(column_length < row_length, across_column, across_row)
    extrapolated = torch.where(known, inverse, extrapolated)
    reached = known | torch.isfinite(torch.minimum(row_length, column_length))
    if not bool(reached.all()):  # nothing known in row or column; but every row crosses a column that is
        across_row, _ = _extrapolate_rows(torch.where(reached, extrapolated, 0.0), reached)
        extrapolated = torch.where(reached, extrapolated, across_row)
    for _ in range(2):  # along columns, then along rows
        extrapolated = _replace_outliers(extrapolated, known).mT
        known = known.mT
    return torch.where(known, depth_m, 1 / extrapolated)


def _replace_outliers(
    inverse: Float[Tensor, "height width"], known: Bool[Tensor, "height width"]
) -> Float[Tensor, "height width"]:
    """Unknown values far from the median of their column nearby (of unknown pixels) take that median."""
    reach = max(1, round(max(inverse.shape) * MEDIAN_RADIUS))
    # NaN for known pixels and beyond the border: the median is over unknown pixels only.
    padded = pad(inverse.masked_fill(known, torch.nan)[None, None], (0, 0, reach, reach), value=torch.nan)
    median = padded[0, 0].unfold(0, 2 * reach + 1, 1).nanmedian(-1).values
    outliers = ~known & ((inverse - median).abs() > SURFACE_TOLERANCE * median)
    return torch.where(outliers, median, inverse)


def _extrapolate_rows(
    inverse: Float[Tensor, "height width"], known: Bool[Tensor, "height width"]
) -> tuple[Float[Tensor, "height width"], Float[Tensor, "height width"]]:
    """Inverse depth along rows, and how long the gap is: infinite where nothing is known in a row."""
    before, behind = _nearest_known(inverse, known), _flipped(_nearest_known(inverse.flip(1), known.flip(1)))
    gap = before.distance + behind.distance
    both = torch.isfinite(gap)
    # Larger inverse depth is nearer.
    nearer = torch.maximum(before.inverse, behind.inverse)
    farther = torch.minimum(before.inverse, behind.inverse)
    share = torch.where(both, before.distance / gap, 0.0)
    line = torch.lerp(before.inverse, behind.inverse, share)
    # Of two surfaces beside a gap the farther one continues behind the nearer one.
    from_before = torch.where(both, before.inverse < behind.inverse, torch.isfinite(before.distance))
    extrapolated = torch.where(from_before, before.extrapolated, behind.extrapolated)
    # Nearly equal depths on both sides are one surface: a straight line in inverse depth.
    joined = both & (farther >= SAME_DEPTH_RATIO * nearer)
    # A gap that ends at the image border counts as twice its known side.
    open_gap = 2 * torch.minimum(before.distance, behind.distance)
    return torch.where(joined, line, extrapolated), torch.where(both, gap, open_gap)


def _nearest_known(
    inverse: Float[Tensor, "height width"], known: Bool[Tensor, "height width"]
) -> _NearestKnown:
    """The last known pixel before each pixel of a row, and its surface continued to that pixel."""
    width = inverse.shape[1]
    index = torch.arange(width, device=inverse.device).expand(inverse.shape)
    # Running maximum of known indices = index of the last known pixel; -1 before the first.
    last = torch.where(known, index, -1).cummax(1).values
    there = last.clamp(min=0)
    value = inverse.gather(1, there)
    # Slope over the surface's own pixels, at most SLOPE_WINDOW back; one pixel alone has none.
    first = _surface_starts(inverse, known).gather(1, there)
    first = torch.maximum(first, there - max(2, round(max(inverse.shape) * SLOPE_WINDOW)))
    span = there - first
    slope = (value - inverse.gather(1, first)) / span.clamp(min=1)
    slope = torch.where(span >= 2, slope, 0.0)
    distance = torch.where(last >= 0, (index - last).to(inverse.dtype), torch.inf)
    reach = torch.where(last >= 0, distance, 0.0)
    # value + slope * distance, kept within factors of the value at the border
    extrapolated = torch.minimum(torch.maximum(value + slope * reach, MIN_FACTOR * value), MAX_FACTOR * value)
    return _NearestKnown(distance=distance, inverse=value, extrapolated=extrapolated)


def _surface_starts(
    inverse: Float[Tensor, "height width"], known: Bool[Tensor, "height width"]
) -> Int[Tensor, "height width"]:
    """Where the surface that each pixel is part of begins in its row."""
    step = inverse.diff(dim=1).abs()
    # A step that is small relative to the inverse depth stays on the surface.
    whole = (
        known[:, 1:]
        & known[:, :-1]
        & (step <= SURFACE_TOLERANCE * torch.maximum(inverse[:, 1:], inverse[:, :-1]))
    )
    index = torch.arange(inverse.shape[1], device=inverse.device).expand(inverse.shape)
    begins = torch.cat([torch.ones_like(known[:, :1]), ~whole], 1)
    return torch.where(begins, index, 0).cummax(1).values


def _flipped(ends: _NearestKnown) -> _NearestKnown:
    return _NearestKnown(
        distance=ends.distance.flip(1), inverse=ends.inverse.flip(1), extrapolated=ends.extrapolated.flip(1)
    )


# Standard deviation of the likeness in log depth, and the step from one depth of the stack to the next.
LOG_DEPTH_SIGMA = 0.2
# Weight of what is much farther than the surface; of what is nearer it falls with the square of depth.
FAR_WEIGHT = 0.05
# What a level of the pyramid counts for against the finer one before it.
PYRAMID_DECAY = 0.7
# Depths are taken for no less and no more than this; skies lie at any distance.
NEAREST_M, FARTHEST_M = 0.05, 1000.0
GREY = 0.5
# Ratio of depths two pixels apart from which the nearer is a thing in front of the farther.
STEP_RATIO = 1.2
# Of log depth, from plane to plane of the bilateral grid.
GRID_STEP = 0.3


def fill_background(
    colour: Float[Tensor, "frames height width 3"],
    depth_m: Float[Tensor, "frames height width"],
    known: Bool[Tensor, "frames height width"],
) -> Float[Tensor, "frames height width 3"]:
    """The frames with their holes filled; what is known stays. A frame of which nothing is known is grey.

    The constants were chosen by PSNR in the holes of 16 scenes of the validation set.

    Args:
        colour: in [0, 1] where `known`; elsewhere anything.
        depth_m: metres, positive where `known`; elsewhere anything.
    """
    # Frame by frame: depths of different frames would need stacks of their own anyway.
    frames = [
        _fill_frame(*frame) if bool(frame[2].any()) else torch.full_like(frame[0], GREY)
        for frame in zip(colour, depth_m, known, strict=True)
    ]
    return torch.stack(frames)


def _fill_frame(
    colour: Float[Tensor, "height width 3"],
    depth_m: Float[Tensor, "height width"],
    known: Bool[Tensor, "height width"],
) -> Float[Tensor, "height width 3"]:
    if bool(known.all()):
        return colour
    # [height, width]: log depth of the background in holes, of the visible surface elsewhere
    log_depth = extend_depth(depth_m.clamp(max=FARTHEST_M), known).clamp(NEAREST_M, FARTHEST_M).log()
    wanted = log_depth[~known] / LOG_DEPTH_SIGMA
    # Depth planes one sigma apart that enclose all wanted depths.
    stack = torch.arange(int(wanted.min().floor()), int(wanted.max().floor()) + 2) * LOG_DEPTH_SIGMA
    log_depth_offset = log_depth - stack.to(log_depth)[:, None, None]  # above 0: farther than the surface
    # Gaussian in log depth, plus a little of what is farther; nearer content falls with depth squared.
    similarity = (-0.5 * (log_depth_offset / LOG_DEPTH_SIGMA).square()).exp()
    weight = (similarity + FAR_WEIGHT * (2 * log_depth_offset.clamp(max=0)).exp()) * known
    image = rearrange(torch.where(known[..., None], colour, 0), "h w c -> c h w")
    # [planes, 4, height, width]: weighted colours and the weights themselves
    weighted_sum = torch.cat([weight[:, None] * image, weight[:, None]], 1)
    total = _pyramid_sum(weighted_sum)
    # Linear interpolation between the two planes next to each pixel's depth.
    blend = (1 - log_depth_offset.abs() / LOG_DEPTH_SIGMA).clamp(min=0)
    filled = (blend[:, None] * total[:, :3] / total[:, 3:]).sum(0)
    return torch.where(known[..., None], colour, rearrange(filled, "c h w -> h w c"))


def _pyramid_sum(maps: Float[Tensor, "b c height width"]) -> Float[Tensor, "b c height width"]:
    """Each map plus its means over ever larger cells; a level counts `PYRAMID_DECAY` times the one before."""
    if min(maps.shape[-2:]) == 1:
        return maps + PYRAMID_DECAY * maps.mean((2, 3), keepdim=True)
    # Pull-push: halve until one pixel is left, then add coarse levels back, each damped.
    coarse = _pyramid_sum(avg_pool2d(maps, 2, ceil_mode=True, count_include_pad=False))
    return maps + PYRAMID_DECAY * interpolate(
        coarse, size=maps.shape[-2:], mode="bilinear", align_corners=False
    )


def blur_surfaces(
    colour: Float[Tensor, "rows columns 3"], depth_m: Float[Tensor, "rows columns"], sigma: float
) -> Float[Tensor, "rows columns 3"]:
    """A Gaussian mean over each pixel's surroundings of like depth: colours do not bleed across outlines.

    A bilateral grid (Chen et al. 2007) in log depth: planes `GRID_STEP` apart are blurred one by one, and
    each pixel is interpolated between the two planes next to its depth.

    Args:
        sigma: standard deviation in pixels.
    """
    from scipy.ndimage import gaussian_filter  # only where texture is made: it takes long to import

    levels = (depth_m.log() / GRID_STEP).numpy()
    result = np.zeros((*levels.shape, 3), np.float32)
    for plane in range(int(np.floor(levels.min())), int(np.floor(levels.max())) + 2):
        weight = np.maximum(1 - np.abs(levels - plane), 0).astype(np.float32)
        if not weight.any():
            continue
        weighted = np.concatenate([colour.numpy() * weight[..., None], weight[..., None]], -1)
        mean = gaussian_filter(weighted, (sigma, sigma, 0), mode="nearest")
        # Where a pixel has weight itself, the blurred weight is above 0.
        result += weight[..., None] * mean[..., :3] / np.maximum(mean[..., 3:], 1e-12)
    return torch.from_numpy(result)


def occluders_at_steps(inverse: Float[Tensor, "rows columns"], reach: float) -> Bool[Tensor, "rows columns"]:
    """Cells of things beside a step of depth, as far as a camera may look behind them.

    Args:
        inverse: 1 / z.
        reach: parallax in cells per unit of 1 / z.
    """
    from scipy.ndimage import distance_transform_edt  # only here: it takes long to import

    values = inverse.numpy()
    near, far = np.zeros_like(values), np.zeros_like(values)
    for axis in (0, 1):
        for one, other in (((2, None), (0, -2)), ((0, -2), (2, None))):  # both neighbours along the axis
            here, there = [slice(None)] * 2, [slice(None)] * 2
            here[axis], there[axis] = slice(*one), slice(*other)
            stepped = values[tuple(here)] > STEP_RATIO * values[tuple(there)]
            deepest = np.where(stepped, values[tuple(here)] - values[tuple(there)], 0)
            larger = deepest > near[tuple(here)]
            near[tuple(here)] = np.where(larger, deepest, near[tuple(here)])
            far[tuple(here)] = np.where(larger, values[tuple(there)], far[tuple(here)])
    seeds = near > 0
    if not seeds.any() or reach == 0:
        return torch.zeros(inverse.shape, dtype=torch.bool)
    # Every cell belongs to the step nearest to it; it is in front if it is nearer than half-way across it.
    away, (rows, columns) = distance_transform_edt(~seeds, return_indices=True)
    height, behind = near[rows, columns], far[rows, columns]
    return torch.from_numpy((away <= 1 + reach * height) & (values > behind + 0.5 * height))
