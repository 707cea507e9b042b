"""Slow, obvious twins of the sharpening of `pipelines.depth`, in torch."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from more4d.pipelines.depth import (
    COLOUR_SIGMA,
    PICK_COLOUR_SIGMA,
    PICK_SPACE_SIGMA,
    SAME_SURFACE,
    SMOOTH_SPACE_SIGMA,
    TAPS,
)

ROWS_AT_ONCE = 32


def slow_weighted_median(
    values: Float[Tensor, "height width"], image: Float[Tensor, "height width 3"], *, radius: int
) -> Float[Tensor, "height width"]:
    """`pipelines.depth.weighted_median`: sort every window, cumulate its weights."""
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


def slow_pick_and_smooth(
    depth_m: Float[Tensor, "small_h small_w"],
    small: Float[Tensor, "small_h small_w 3"],
    image: Float[Tensor, "height width 3"],
) -> Float[Tensor, "height width"]:
    """`pipelines.depth.pick_and_smooth`, tap by tap over whole pictures."""
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


def _windows(
    planes: Float[Tensor, "channels height width"], radius: int, *, outside: float | None = None
) -> Float[Tensor, "channels height width size size"]:
    """The pixels around every pixel, as a view; beyond the picture its border repeated, or `outside`."""
    mode = {"mode": "replicate"} if outside is None else {"value": outside}
    # `unfold` makes views: no copy of size^2 pictures.
    padded = pad(planes[None], (radius,) * 4, **mode)[0]
    size = 2 * radius + 1
    return padded.unfold(1, size, 1).unfold(2, size, 1)
