"""Z-buffers in PyTorch: the specification, and the one that runs on GPUs.

Both expand every point into its fragments (`make_fragments`: the pixels it covers, see `interface`) and keep
the nearest per pixel. `ZBuffer` sorts all fragments: slow and obvious, the reference that the others are
tested against. `ScatterRasteriser` takes a scatter-min over keys that pack depth and point index.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from more4d.geometry.camera import CameraPath
from more4d.raster.interface import (
    MARGIN,
    MARGIN_DEPTH_BIAS,
    NEAR_M,
    Points,
    Rasteriser,
    Rendering,
    camera_depth,
    max_half_size,
    pack_cameras,
    rotate,
)

# Keys hold depth bits above, point index below: the smallest key is the nearest depth, then the lowest index.
EMPTY_KEY = torch.iinfo(torch.int64).max
INDEX_BITS = 32


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


def make_fragments(
    positions: Float[Tensor, "points 3"],
    footprint_m: Float[Tensor, " points"],
    patches_m: Float[Tensor, "points 2 3"] | None,
    camera: Float[Tensor, "16"],
    size: tuple[int, int],
    *,
    margin: float = MARGIN,
) -> Fragments:
    """All fragments of one frame; `camera` is a row of `pack_cameras` on the points' device."""
    height, width = size
    fx, fy, cx, cy = camera[12:].unbind()
    z = camera_depth(positions, camera)
    inverse = 1 / z
    # (X / Z, Y / Z), then pixels from the corner of the image
    slope_x = (rotate(positions, camera, 0) + camera[9]) * inverse
    slope_y = (rotate(positions, camera, 1) + camera[10]) * inverse
    x, y = slope_x * fx + cx, slope_y * fy + cy
    if patches_m is None:
        # a square that faces the camera: half its side in pixels
        half_x = footprint_m * inverse * (0.5 * fx)
        half_y = footprint_m * inverse * (0.5 * fy)
    else:
        # An edge d moves the projection by (d_x - (X / Z) d_z) / Z to first order; both edges' spans add up.
        right, down = patches_m.unbind(1)
        depth_right, depth_down = rotate(right, camera, 2), rotate(down, camera, 2)
        span_x = _span(right, camera, 0, slope_x, depth_right) + _span(down, camera, 0, slope_x, depth_down)
        span_y = _span(right, camera, 1, slope_y, depth_right) + _span(down, camera, 1, slope_y, depth_down)
        half_x, half_y = span_x * inverse * (0.5 * fx), span_y * inverse * (0.5 * fy)
    half_x, half_y = half_x.clamp(max=max_half_size(*size)), half_y.clamp(max=max_half_size(*size))
    ranges = [
        _pixels(x, half_x, width),
        _pixels(y, half_y, height),
        _pixels(x, half_x * margin, width),
        _pixels(y, half_y * margin, height),
    ]
    return _expand_boxes(z, footprint_m, ranges, width)


def _span(edge: Tensor, camera: Tensor, row: int, slope: Tensor, depth: Tensor) -> Tensor:
    return (rotate(edge, camera, row) - slope * depth).abs()


def _pixels(centre: Tensor, half: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """First pixel and one past the last, clipped to the image; an empty range for what is not finite."""
    # A box of at most one pixel covers exactly the pixel that its centre falls in.
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
    # One entry per covered pixel: [points] -> [fragments], in the order of the points.
    point = torch.repeat_interleave(torch.arange(len(z), device=z.device), count)
    # The how-manieth pixel of its box a fragment is, row by row.
    start = (count.cumsum(0) - count)[point]
    within = torch.arange(len(point), device=z.device) - start
    # position of the fragment within its box, turned into image coordinates
    column = left[point] + within % columns[point]
    row = top[point] + within // columns[point]
    # whether the pixel centre lies in the box itself, and not only in the enlarged one
    core = (
        (column >= core_left[point])
        & (column < core_right[point])
        & (row >= core_top[point])
        & (row < core_bottom[point])
    )
    # Margins compete as if they lay farther away: they close cracks and never cover a core of their surface.
    behind = z + MARGIN_DEPTH_BIAS * footprint_m
    return Fragments(
        pixel=row * width + column, point=point, depth_m=torch.where(core, z[point], behind[point])
    )


class ZBuffer(Rasteriser):
    """The specification: sort all fragments and let the first of each pixel win."""

    name = "zbuffer"

    def _render(
        self, points: Points, camera_path: CameraPath, size: tuple[int, int], out: Rendering | None
    ) -> Rendering:
        frames = []
        for frame, camera in enumerate(pack_cameras(camera_path, *size).to(self.device)):
            # shapes: points x 3, and points x 2 x 3 or None
            positions, patches_m = points.at(frame)
            fragments = make_fragments(
                positions, points.footprint_m, patches_m, camera, size, margin=points.margin
            )
            pixel, winner = _resolve_depth(fragments)
            frames.append(shade(positions, points.colours, camera, size, (pixel, winner)))
        return Rendering.concat(frames, out)


def _resolve_depth(fragments: Fragments) -> tuple[Tensor, Tensor]:
    # Fragments come in the order of their points and the sorts are stable: the lowest index leads its equals.
    by_depth = torch.argsort(fragments.depth_m, stable=True)
    order = by_depth[torch.argsort(fragments.pixel[by_depth], stable=True)]
    pixel, point = fragments.pixel[order], fragments.point[order]
    first = torch.ones_like(pixel, dtype=torch.bool)
    first[1:] = pixel[1:] != pixel[:-1]
    return pixel[first], point[first]


def shade(
    positions: Tensor, colours: Tensor, camera: Tensor, size: tuple[int, int], winners: tuple[Tensor, Tensor]
) -> Rendering:
    """One frame from the pixels that are covered and the point that won each."""
    (height, width), (pixel, winner) = size, winners
    # flat images: [height * width, 3] and [height * width]
    colour = positions.new_zeros(height * width, 3)
    depth_m = positions.new_full((height * width,), torch.inf)
    coverage = positions.new_zeros(height * width)
    colour[pixel] = colours[winner]
    depth_m[pixel] = camera_depth(positions[winner], camera)
    coverage[pixel] = 1
    return Rendering(
        colour=colour.reshape(1, height, width, 3),
        depth_m=depth_m.reshape(1, height, width),
        coverage=coverage.reshape(1, height, width),
    )


class ScatterRasteriser(Rasteriser):
    """One scatter-min: the bits of a positive float32 sort like the number, and the index breaks ties."""

    name = "scatter"

    def _render(
        self, points: Points, camera_path: CameraPath, size: tuple[int, int], out: Rendering | None
    ) -> Rendering:
        frames = []
        for frame, camera in enumerate(pack_cameras(camera_path, *size).to(self.device)):
            positions, patches_m = points.at(frame)
            fragments = make_fragments(
                positions, points.footprint_m, patches_m, camera, size, margin=points.margin
            )
            keys = (fragments.depth_m.view(torch.int32).long() << INDEX_BITS) | fragments.point
            nearest = torch.full((size[0] * size[1],), EMPTY_KEY, device=self.device)
            # [fragments] -> [height * width]: the smallest key of each pixel
            nearest.scatter_reduce_(0, fragments.pixel, keys, "amin")
            pixel = torch.nonzero(nearest != EMPTY_KEY).squeeze(1)
            winner = nearest[pixel] & ((1 << INDEX_BITS) - 1)
            frames.append(shade(positions, points.colours, camera, size, (pixel, winner)))
        return Rendering.concat(frames, out)
