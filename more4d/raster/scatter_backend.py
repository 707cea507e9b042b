"""The z-buffer for GPUs: one scatter-min over keys that pack depth and point index."""

import torch

from more4d.geometry.camera_path import CameraPath
from more4d.raster.fragments import make_fragments, pack_cameras
from more4d.raster.interface import Points, Rasteriser, Rendering
from more4d.raster.zbuffer import shade

EMPTY_KEY = torch.iinfo(torch.int64).max
INDEX_BITS = 32


class ScatterRasteriser(Rasteriser):
    """The bits of a positive float32 sort like the number; below them the index breaks ties."""

    name = "torch"

    def _render(
        self, points: Points, camera_path: CameraPath, size: tuple[int, int], out: Rendering | None
    ) -> Rendering:
        frames = []
        for frame, camera in enumerate(pack_cameras(camera_path, *size).to(self.device)):
            positions, patches_m = points.at(frame)
            fragments = make_fragments(positions, points.footprint_m, patches_m, camera, size)
            keys = (fragments.depth_m.view(torch.int32).long() << INDEX_BITS) | fragments.point
            nearest = torch.full((size[0] * size[1],), EMPTY_KEY, device=self.device)
            nearest.scatter_reduce_(0, fragments.pixel, keys, "amin")
            pixel = torch.nonzero(nearest != EMPTY_KEY).squeeze(1)
            winner = nearest[pixel] & ((1 << INDEX_BITS) - 1)
            frames.append(shade(positions, points.colours, camera, size, (pixel, winner)))
        return Rendering.concat(frames, out)
