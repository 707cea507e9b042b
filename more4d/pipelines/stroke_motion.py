"""Motion that is drawn on the photo: each stroke takes the thing under its start point along.

`outlines.object_at` finds the thing. It moves rigidly, parallel to itself for one stroke; of several on one
thing its rigid motion is fitted, and what that leaves is spread by distance, so that every stroke is kept.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.geometry.rigid_motion import fit_rigid
from more4d.geometry.tracks import normalise_motion
from more4d.pipelines.motion_control import Stroke
from more4d.pipelines.moving_objects import objects_of_masks
from more4d.pipelines.outlines import object_at

_log = logging.getLogger(__name__)

SAME_THING = 0.5
"""A stroke belongs to an earlier stroke's thing if this share of what is under it is of that."""


def read_stroke(stroke: Stroke, height: int, width: int) -> Stroke:
    """A stroke in pixels of a photo of this size as one in its widths and heights, with its mask read.

    Raises:
        InputError: it starts outside of the photo or of its mask, or the mask cannot be used.
    """
    mask = None if stroke.mask is None else objects_of_masks(stroke.mask, height, width) > 0
    begun = stroke.normalised(height, width)
    if mask is not None:
        column, row = (int(part * side) for part, side in zip(begun.points[0], (width, height), strict=True))
        if not mask[min(row, height - 1), min(column, width - 1)]:
            x, y = stroke.points[0]
            raise InputError(
                f"the stroke at {x:g},{y:g} starts outside of what its mask marks; begin it there"
            )
    return replace(begun, mask=mask)


def stroke_objects(
    strokes: Sequence[Stroke],
    colours: Float[Tensor, "height width 3"],
    depth_m: Float[Tensor, "height width"],
    likely: Sequence[Bool[np.ndarray, "rows columns"] | None] = (),
) -> tuple[Int[Tensor, "height width"], list[int]]:
    """The number of the object at every pixel, 0 where nothing was asked to move, and that of each stroke.

    Strokes of one thing share its number; of things that overlap the later one has the pixels.

    Args:
        strokes: with points in widths and heights of the picture.
        likely: cells of the thing under each stroke, where a network says so (`outlines.object_at`).
    """
    height, width = depth_m.shape
    objects, numbers = torch.zeros(height, width, dtype=torch.long), []
    for stroke, cells in zip_longest(strokes, likely):
        if stroke.mask is not None:
            thing = stroke.mask
        else:
            x, y = stroke.points[0][0] * width, stroke.points[0][1] * height
            thing = object_at(colours, depth_m, (x, y), cells)
            # Ground and sky have no outline: what moves is reported, so that a mask can be given instead.
            # In pixels of the photo, as the stroke is: those of the film are another size.
            places = torch.where(thing)[::-1]
            ends = (
                [[int(pick(each)) for each in places] for pick in (min, max)] if thing.any() else [(x, y)] * 2
            )
            first, last = (stroke.on_photo((x / width, y / height)) for x, y in ends)
            _log.warning(
                "the stroke at %.0f,%.0f moves %.1f %% of the picture: columns %.0f to %.0f, rows %.0f to "
                "%.0f of the photo; a mask says exactly what moves",
                *(*stroke.on_photo(stroke.points[0]), 100 * float(thing.float().mean())),
                *(first[0], last[0], first[1], last[1]),
            )
        # Two strokes that start on one thing turn or stretch it: they need not find quite the same outline.
        taken = sorted(set(numbers))
        same = [n for n in taken if (thing & (objects == n)).sum() >= SAME_THING * thing.sum()]
        numbers.append(same[0] if same else len(taken) + 1)
        objects[thing] = numbers[-1]
    return objects, numbers


def stroke_motion(
    strokes: Sequence[tuple[int, Stroke]],
    cells: Int[Tensor, "height width"],
    start: Float[Tensor, "height width 3"],
    camera: Camera,
    *,
    frames: int,
) -> Float[Tensor, "frames height width 3"]:
    """Normalised motion (`geometry.tracks`) of objects whose points follow strokes.

    Args:
        strokes: with the number of the object of each; points in widths and heights of the picture.
        cells: the object of each small pixel.
        start: points of frame 0 of small pixels, metres.
    """
    # [frames, height, width, 3]: everything rests to begin with.
    positions = start.double().repeat(frames, 1, 1, 1)
    for number in sorted({number for number, _ in strokes}):
        inside = cells == number
        if not bool(inside.any()):  # smaller than a small pixel, or covered by another thing
            continue
        mine = [stroke for own, stroke in strokes if own == number]
        depths = [_depth_at(stroke.points[0], start[..., 2], inside) for stroke in mine]
        paths = torch.stack(
            [_path(*each, camera, frames=frames) for each in zip(mine, depths, strict=True)], 1
        )
        # x' = R x + t, one (R, t) per frame.
        points = positions[0, inside]
        poses = fit_rigid(paths[0], paths)  # of one stroke: a translation
        positions[:, inside] = points @ poses[:, :3, :3].mT + poses[:, None, :3, 3]
        # What a rigid motion leaves of each stroke, by inverse squared distance to its start.
        left = paths - (paths[0] @ poses[:, :3, :3].mT + poses[:, None, :3, 3])
        weight = 1 / (torch.cdist(points, paths[0]).square() + 1e-9)
        positions[:, inside] += (weight / weight.sum(1, keepdim=True)) @ left
    return normalise_motion(positions, camera).to(start.dtype)


def _depth_at(
    point: tuple[float, float], depth_m: Float[Tensor, "height width"], inside: Bool[Tensor, "height width"]
) -> float:
    """The depth of the small pixel of an object that is nearest to a point."""
    # The small pixel under the point may show the background: outlines are finer than small pixels.
    height, width = inside.shape
    rows, columns = inside.nonzero().unbind(1)
    y, x = (rows + 0.5) / height - point[1], (columns + 0.5) / width - point[0]
    nearest = (y.square() + x.square()).argmin()
    return float(depth_m[rows[nearest], columns[nearest]])


def _path(stroke: Stroke, depth_m: float, camera: Camera, *, frames: int) -> Float[Tensor, "frames 3"]:
    """Where the point under the start of a stroke is in each frame, metres."""
    places, z = torch.tensor(stroke.points).double(), depth_m * torch.tensor(stroke.depths).double()
    # X = (u - c_x) / f_x z and likewise Y: the pinhole camera backwards, at the stroke's own depths.
    rays = (places - torch.tensor([camera.cx, camera.cy])) / torch.tensor([camera.fx, camera.fy])
    keys = torch.cat([rays * z[:, None], z[:, None]], 1)
    # Straight between its points; after the last one it rests.
    query = torch.linspace(0, 1, frames, dtype=torch.float64)
    return linear(torch.tensor(stroke.times, dtype=torch.float64), keys, query)


def linear(
    times: Float[Tensor, " keys"], values: Float[Tensor, "keys dim"], query: Float[Tensor, " samples"]
) -> Float[Tensor, "samples dim"]:
    """Values between keys, those at the ends beyond."""
    # Number of the key before each sample; of the first and last piece beyond the ends.
    last = (torch.searchsorted(times, query, right=True) - 1).clamp(0, len(times) - 2)
    share = ((query - times[last]) / (times[last + 1] - times[last])).clamp(0, 1)[:, None]
    return values[last] + share * (values[last + 1] - values[last])
