"""Random scenes and cameras for the rasteriser's tests."""

import torch
from torch import Tensor

from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.tracks import PointTracks


def still_path(camera: Camera, *world_to_camera: Tensor) -> CameraPath:
    """One frame per pose, all with one camera; the identity if no pose is given."""
    poses = torch.stack(world_to_camera) if world_to_camera else torch.eye(4)[None]
    intrinsics = torch.tensor([[camera.fx, camera.fy, camera.cx, camera.cy]])
    return CameraPath(name="test", world_to_camera=poses, intrinsics=intrinsics.repeat(len(poses), 1))


def camera_at(position: tuple[float, float, float], pitch: float = 0.0, yaw: float = 0.0) -> Tensor:
    """World to camera of a camera at `position`, turned down by `pitch` and right by `yaw` radians."""
    skew = torch.tensor([[0.0, 0.0, yaw], [0.0, 0.0, pitch], [-yaw, -pitch, 0.0]])
    pose = torch.eye(4)
    pose[:3, :3] = torch.matrix_exp(skew)
    pose[:3, 3] = torch.tensor(position)
    return torch.linalg.inv(pose)


def random_path(generator: torch.Generator, frames: int, height: int, width: int) -> CameraPath:
    """Cameras that look roughly along z with square pixels and any principal point near the middle."""
    poses = torch.eye(4).repeat(frames, 1, 1)
    for pose in poses:
        skew = torch.randn(3, 3, generator=generator) * 0.2
        pose[:3, :3] = torch.matrix_exp(skew - skew.T)
        pose[:3, 3] = torch.randn(3, generator=generator) * 0.5
    focal = 0.5 + torch.rand(frames, generator=generator)
    centre = 0.4 + 0.2 * torch.rand(frames, 2, generator=generator)
    intrinsics = torch.stack([focal, focal * width / height, centre[:, 0], centre[:, 1]], 1)
    return CameraPath(name="random", world_to_camera=poses, intrinsics=intrinsics)


def tracks_of(depth_m: Tensor, camera: Camera, seed: int = 0) -> PointTracks:
    """A still photo of random colours, one of them black, at this depth."""
    height, width = depth_m.shape
    colours = torch.rand(height, width, 3, generator=torch.Generator().manual_seed(seed))
    colours[0, 0] = 0
    return PointTracks(
        positions=camera.unproject_depth(depth_m)[None],
        colours=colours,
        visibility=torch.ones(1, height, width, dtype=torch.bool),
        camera=camera,
    )


def plane_depth(camera: Camera, height: int, width: int, slope: tuple[float, float], at_m: float) -> Tensor:
    """Depth of the plane z = at_m + slope_x x + slope_y y, which must lie in front of every pixel."""
    rays = camera.rays(height, width)
    return at_m / (1 - slope[0] * rays[..., 0] - slope[1] * rays[..., 1])
