"""Pictures of things that are not pictures: depth as colours, tracks as moving points with tails."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.geometry.camera import robust_quantile
from more4d.geometry.tracks import PointTracks

# Far to near, lightness rising all the way, so that the map also reads in grey.
_RAMP = (
    (0.06, 0.05, 0.20),
    (0.19, 0.14, 0.45),
    (0.13, 0.33, 0.60),
    (0.07, 0.52, 0.60),
    (0.25, 0.69, 0.48),
    (0.68, 0.81, 0.30),
    (0.97, 0.86, 0.38),
    (1.00, 0.96, 0.83),
)
_UNKNOWN = (0.5, 0.5, 0.5)


def colour_ramp(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape 3"]:
    """0 (dark blue) .. 1 (pale yellow), clipped."""
    table = torch.tensor(_RAMP, dtype=torch.float32, device=values.device)
    pixels = values.float().clamp(0, 1) * (len(_RAMP) - 1)
    low = pixels.floor().long().clamp(max=len(_RAMP) - 2)
    fraction = (pixels - low)[..., None]
    return table[low] * (1 - fraction) + table[low + 1] * fraction


def depth_limits(depth_m: Float[Tensor, "*shape"]) -> tuple[float, float]:
    """(near, far) in metres: the 2nd and 98th percentile of what is known. One pair serves a whole video."""
    known = depth_m[torch.isfinite(depth_m) & (depth_m > 0)]
    if not known.numel():
        return 1.0, 2.0
    near = float(robust_quantile(known, 0.02))
    return near, max(float(robust_quantile(known, 0.98)), near * 1.001)


def colourise_depth(
    depth_m: Float[Tensor, "*shape"], *, limits: tuple[float, float] | None = None
) -> Float[Tensor, "*shape 3"]:
    """Depth as colours, near is light; even steps of colour are even steps of 1 / depth.

    Args:
        depth_m: metres; what is not finite and positive becomes grey.
        limits: (near, far) metres at the ends of the ramp; default `depth_limits(depth_m)`.
    """
    near, far = limits or depth_limits(depth_m)
    known = torch.isfinite(depth_m) & (depth_m > 0)
    inverse = 1 / torch.where(known, depth_m, torch.ones_like(depth_m))
    colours = colour_ramp((inverse - 1 / far) / (1 / near - 1 / far))
    return torch.where(known[..., None], colours, torch.tensor(_UNKNOWN, device=depth_m.device))


def draw_tracks(
    tracks: PointTracks,
    *,
    points_across: int = 32,
    tail: int = 12,
    min_height: int = 320,
    frames: Sequence[int] | None = None,
) -> Float[Tensor, "drawn new_height new_width 3"]:
    """A preview of tracks: a grid of points over the dimmed photo, each with a tail from dark (old) to light.

    Args:
        tracks: what moves; seen through the camera of the photo.
        points_across: points drawn along the width.
        tail: frames of history drawn behind a point.
        min_height: smaller photos are enlarged by a whole factor to at least this height.
        frames: which frames to draw, counted from the end if negative; default all.
    """
    factor = max(1, math.ceil(min_height / tracks.height))
    photo = tracks.colours.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    background = photo * 0.35
    height, width = photo.shape[:2]
    step = max(1, round(tracks.width / points_across))
    rows, columns = slice(step // 2, None, step), slice(step // 2, None, step)
    position, depth = tracks.camera.project(tracks.positions[:, rows, columns])
    pixels = (position * torch.tensor([width, height])).flatten(1, 2)
    shown = (tracks.visibility[:, rows, columns] & (depth > 0) & torch.isfinite(position).all(-1)).flatten(1)
    radius = max(1.0, height / 320)
    images = []
    for frame in range(tracks.frames) if frames is None else [index % tracks.frames for index in frames]:
        image = background.clone()
        steps = range(max(0, frame - tail), frame)
        lines = []
        for earlier in steps:
            seen = shown[earlier] & shown[earlier + 1]
            lines.append(_interpolate_points(pixels[earlier][seen], pixels[earlier + 1][seen], radius))
        ages = colour_ramp(0.3 + 0.6 * torch.arange(1, len(lines) + 1) / max(1, len(lines)))
        _draw_discs(image, lines, ages, 0.7 * radius)
        _draw_discs(image, [pixels[frame][shown[frame]]], torch.ones(1, 3), 1.3 * radius)
        images.append(image)
    return torch.stack(images)


def _interpolate_points(start: Tensor, end: Tensor, spacing: float) -> Tensor:
    """Points from start to end, at most `spacing` pixels (but no more than 64 to a line) apart."""
    if not len(start):
        return start
    longest = float((end - start).norm(dim=-1).max())
    count = min(64, max(2, math.ceil(longest / spacing) + 1))
    fraction = torch.linspace(0, 1, count)[:, None, None]
    return (start + fraction * (end - start)).flatten(0, 1)


def _draw_discs(image: Tensor, groups: list[Tensor], colours: Tensor, radius: float) -> None:
    """Draw antialiased discs at the points of each group, in pixels; a later group covers an earlier one.

    One maximum per pixel decides: a disc of group g that covers the share c of a pixel offers g + c.
    """
    if not groups:
        return
    height, width = image.shape[:2]
    reach = math.ceil(radius + 0.5)
    centres = torch.cat(groups)
    group = torch.repeat_interleave(torch.tensor([len(points) for points in groups]))
    near = ((centres > -reach) & (centres < torch.tensor([width + reach, height + reach]))).all(-1)
    centres, group = centres[near], group[near]
    offsets = torch.arange(-reach, reach + 1)
    x = (centres[:, 0].floor().long()[:, None] + offsets)[:, None, :]
    y = (centres[:, 1].floor().long()[:, None] + offsets)[:, :, None]
    distance = torch.hypot(x + 0.5 - centres[:, 0, None, None], y + 0.5 - centres[:, 1, None, None])
    cover = (radius + 0.5 - distance).clamp(0, 1)
    drawn = (cover > 0.02) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    offer = (group[:, None, None] + 0.999 * cover)[drawn]
    best = torch.full((height * width,), -1.0).scatter_reduce_(
        0, (y * width + x)[drawn], offer, reduce="amax"
    )
    touched = best >= 0
    winner = best[touched].long()
    share = ((best[touched] - winner) / 0.999)[:, None]
    flat = image.view(-1, 3)
    flat[touched] = torch.lerp(flat[touched], colours.to(image)[winner], share)
