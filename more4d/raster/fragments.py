"""Which pixels a point covers: the drawing rule that all z-buffers share.

A point stands for a patch of surface. Seen by a camera, the patch's bounding box measures `2 half_x` by
`2 half_y` pixels around the projected point: half the sum of what its two edges span (first order in the
perspective), or footprint * focal / z for a patch that faces the camera. The point covers

* the pixels whose centres lie inside that box, its *core*, at least the one pixel the point falls in;
* a *margin*: the pixels inside the box enlarged by `MARGIN`. It closes the cracks that rounding, noise in the
  depth and curved surfaces leave between boxes that only just touch.

The nearest depth wins a pixel, the lowest point index among equals. In the margin a point competes as though
it lay `MARGIN_DEPTH_BIAS` footprints farther away, so a margin never overrides the core of its own surface, yet
does hide what is behind it. Since a margin reaches less than a pixel beyond a box of one pixel, the camera
that took the photo sees every point in exactly its own pixel.

Boxes are half open, (x - half, x + half]. Points nearer than `NEAR_M` or infinitely far are not drawn. No box
is larger than `MAX_BOX` of the longer side of the picture: a point almost at the camera shall not hide
the scene.

All arithmetic is float32 in the order written here; every z-buffer follows it to the bit.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from more4d.geometry.camera_path import CameraPath

NEAR_M = 1e-3
MARGIN = 1.5
MARGIN_DEPTH_BIAS = 4.0
MAX_BOX = 1 / 8


@dataclass(frozen=True, kw_only=True)
class Fragments:
    """One entry per pixel that a point covers.

    Attributes:
        pixel: row * width + column.
        point: index of the point.
        depth_m: depth at which it competes for the pixel.
    """

    pixel: Int[Tensor, " fragments"]
    point: Int[Tensor, " fragments"]
    depth_m: Float[Tensor, " fragments"]


def pack_cameras(camera_path: CameraPath, height: int, width: int) -> Float[Tensor, "frames 16"]:
    """Per frame the rotation by rows, the translation, and fx, fy, cx, cy in pixels, as float32."""
    pose = camera_path.world_to_camera.detach().cpu().double()
    pixels = torch.tensor([width, height, width, height], dtype=torch.float64)
    intrinsics = camera_path.intrinsics.detach().cpu().double() * pixels
    return torch.cat([pose[:, :3, :3].flatten(1), pose[:, :3, 3], intrinsics], 1).float()


def max_half_size(height: int, width: int) -> float:
    """Half the side of the largest box in pixels."""
    return max(0.5, max(height, width) * MAX_BOX / 2)


def camera_depth(
    positions: Float[Tensor, "points 3"], camera: Float[Tensor, "16"]
) -> Float[Tensor, " points"]:
    """The z coordinate in the camera."""
    return _rotate(positions, camera, 2) + camera[11]


def make_fragments(
    positions: Float[Tensor, "points 3"],
    footprint_m: Float[Tensor, " points"],
    patches_m: Float[Tensor, "points 2 3"] | None,
    camera: Float[Tensor, "16"],
    size: tuple[int, int],
) -> Fragments:
    """All fragments of one frame; `camera` is a row of `pack_cameras` on the points' device."""
    height, width = size
    fx, fy, cx, cy = camera[12:].unbind()
    z = camera_depth(positions, camera)
    inverse = 1 / z
    slope_x = (_rotate(positions, camera, 0) + camera[9]) * inverse
    slope_y = (_rotate(positions, camera, 1) + camera[10]) * inverse
    x, y = slope_x * fx + cx, slope_y * fy + cy
    if patches_m is None:
        half_x = footprint_m * inverse * (0.5 * fx)
        half_y = footprint_m * inverse * (0.5 * fy)
    else:
        right, down = patches_m.unbind(1)
        depth_right, depth_down = _rotate(right, camera, 2), _rotate(down, camera, 2)
        span_x = _span(right, camera, 0, slope_x, depth_right) + _span(down, camera, 0, slope_x, depth_down)
        span_y = _span(right, camera, 1, slope_y, depth_right) + _span(down, camera, 1, slope_y, depth_down)
        half_x, half_y = span_x * inverse * (0.5 * fx), span_y * inverse * (0.5 * fy)
    half_x, half_y = half_x.clamp(max=max_half_size(*size)), half_y.clamp(max=max_half_size(*size))
    ranges = [
        _pixels(x, half_x, width),
        _pixels(y, half_y, height),
        _pixels(x, half_x * MARGIN, width),
        _pixels(y, half_y * MARGIN, height),
    ]
    return _expand_boxes(z, footprint_m, ranges, width)


def _rotate(vectors: Tensor, camera: Tensor, row: int) -> Tensor:
    x, y, z = vectors.unbind(-1)
    return (camera[3 * row] * x + camera[3 * row + 1] * y) + camera[3 * row + 2] * z


def _span(edge: Tensor, camera: Tensor, row: int, slope: Tensor, depth: Tensor) -> Tensor:
    return (_rotate(edge, camera, row) - slope * depth).abs()


def _pixels(centre: Tensor, half: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """First pixel and one past the last, clipped to the picture; an empty range for what is not finite."""
    first = torch.floor(centre + (0.5 - half.clamp(min=0.5)))
    stop = torch.where(half > 0.5, torch.floor(centre + (half + 0.5)), first + 1)
    inside = (first < length) & (stop > 0)
    first = torch.where(inside, first, 0).clamp(min=0)
    stop = torch.where(inside, stop, 0).clamp(max=length)
    return first.long(), stop.long()


def _expand_boxes(
    z: Tensor, footprint_m: Tensor, ranges: list[tuple[Tensor, Tensor]], width: int
) -> Fragments:
    (core_left, core_right), (core_top, core_bottom), (left, right), (top, bottom) = ranges
    columns = right - left
    count = torch.where((z > NEAR_M) & torch.isfinite(z), columns * (bottom - top), 0)
    point = torch.repeat_interleave(torch.arange(len(z), device=z.device), count)
    start = (count.cumsum(0) - count)[point]
    within = torch.arange(len(point), device=z.device) - start
    column = left[point] + within % columns[point]
    row = top[point] + within // columns[point]
    core = (
        (column >= core_left[point])
        & (column < core_right[point])
        & (row >= core_top[point])
        & (row < core_bottom[point])
    )
    behind = z + MARGIN_DEPTH_BIAS * footprint_m
    return Fragments(
        pixel=row * width + column, point=point, depth_m=torch.where(core, z[point], behind[point])
    )
