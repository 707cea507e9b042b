"""Which points a moving camera really sees."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from more4d.geometry.camera_path import CameraPath
from more4d.raster.fragments import NEAR_M, camera_depth, pack_cameras
from more4d.raster.interface import open_rasteriser


def visible_points(  # noqa: PLR0917 - as Rasteriser.render
    positions: Float[Tensor, "poses points 3"],
    footprint_m: Float[Tensor, " points"],
    camera_path: CameraPath,
    height: int,
    width: int,
    tolerance: float = 0.02,
    *,
    patches_m: Float[Tensor, "poses points 2 3"] | None = None,
) -> Bool[Tensor, "frames points"]:
    """Whether each point is the nearest surface at its own pixel, and in the picture, in each frame.

    A point counts as visible while it lies at most `tolerance` (relative) behind what the points of the same
    frame cover in its pixel. With the photo's own still camera this gives tracks their visibility.

    Args:
        positions: as in `Rasteriser.render`, as are `footprint_m` and `patches_m`.
        tolerance: relative depth that still counts as the same surface.
    """
    if not tolerance >= 0:
        raise ValueError(f"the depth tolerance must not be negative, got {tolerance}")
    rasteriser = open_rasteriser("auto", positions.device)
    cameras = pack_cameras(camera_path, height, width).to(positions.device)
    colours = torch.zeros_like(positions[0])
    seen = []
    for frame, camera in enumerate(cameras):
        pose = slice(frame, frame + 1) if len(positions) > 1 else slice(0, 1)
        here = CameraPath(
            name=camera_path.name,
            world_to_camera=camera_path.world_to_camera[frame : frame + 1],
            intrinsics=camera_path.intrinsics[frame : frame + 1],
        )
        patches = None if patches_m is None else patches_m[pose]
        nearest = rasteriser.render(
            positions[pose], colours, footprint_m, here, height, width, patches_m=patches
        ).depth_m[0]
        points = positions[pose][0]
        position, _ = here.camera(0).project(here.to_camera(0, points))
        z = camera_depth(points, camera)
        u, v = position.unbind(-1)
        inside = (z > NEAR_M) & (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
        column = torch.where(inside, u * width, 0).long().clamp(max=width - 1)
        row = torch.where(inside, v * height, 0).long().clamp(max=height - 1)
        seen.append(inside & (z <= nearest[row, column] * (1 + tolerance)))
    return torch.stack(seen)
