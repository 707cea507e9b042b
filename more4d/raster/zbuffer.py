"""The specification of a z-buffer: list every fragment, sort, and let the first of each pixel win."""

import torch
from torch import Tensor

from more4d.geometry.camera_path import CameraPath
from more4d.raster.fragments import camera_depth, make_fragments, pack_cameras
from more4d.raster.interface import Points, Rasteriser, Rendering


class ZBuffer(Rasteriser):
    """The slow, obvious rasteriser that the others are tested against."""

    name = "reference"

    def _render(
        self, points: Points, camera_path: CameraPath, size: tuple[int, int], out: Rendering | None
    ) -> Rendering:
        frames = []
        for frame, camera in enumerate(pack_cameras(camera_path, *size).to(self.device)):
            positions, patches_m = points.at(frame)
            pixel, winner = _resolve_depth(positions, points.footprint_m, patches_m, camera, size)
            frames.append(shade(positions, points.colours, camera, size, (pixel, winner)))
        return Rendering.concat(frames, out)


def _resolve_depth(
    positions: Tensor, footprint_m: Tensor, patches_m: Tensor | None, camera: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    fragments = make_fragments(positions, footprint_m, patches_m, camera, size)
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
