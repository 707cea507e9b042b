"""The poses of a named camera path, in metres, from the table of `geometry.camera_recipes`."""

import math

import torch

from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.camera_recipes import CAMERA_PATHS, MAX_STRENGTH, check_camera_path_name
from more4d.geometry.rotation import look_at, rigid, rigid_inverse, yaw_pitch_roll_to_matrix


def named_camera_path(
    name: str, *, frames: int, scene_depth_m: float, camera: Camera, strength: float = 1.0
) -> CameraPath:
    """One of the paths of `CAMERA_PATHS`, sampled so that the first and last frames are its two ends.

    Args:
        name: a key of `CAMERA_PATHS`.
        frames: how many poses; a single one is the source view.
        scene_depth_m: metres per unit of the table, and the distance of the pivot.
        camera: intrinsics of the source view.
        strength: factor on its extent: 1 for the table's, at most `MAX_STRENGTH`.

    Raises:
        InputError: the name is unknown, or `strength` is not in [0, MAX_STRENGTH].
        ValueError: `frames` or `scene_depth_m` is not positive.
    """
    check_camera_path_name(name)
    if not 0 <= strength <= MAX_STRENGTH:
        raise InputError(f"camera path strength must lie between 0 and {MAX_STRENGTH:g}, got {strength}")
    if frames < 1 or not (math.isfinite(scene_depth_m) and scene_depth_m > 0):
        raise ValueError(f"need frames >= 1 and a positive depth, got {frames} and {scene_depth_m} m")
    recipe = CAMERA_PATHS[name]
    # both ends included; float64 until the very end
    time = torch.linspace(0, 1, frames, dtype=torch.float64)
    position = recipe.position(time, strength)
    if recipe.look_at_pivot:
        rotation = look_at(position, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand_as(position))
    else:
        yaw, pitch = recipe.yaw_deg(time, strength), recipe.pitch_deg(time, strength)
        rotation = yaw_pitch_roll_to_matrix(torch.deg2rad(yaw), torch.deg2rad(pitch), torch.zeros_like(time))
    # positions are in scene depths: times metres
    camera_to_world = rigid(rotation, position * scene_depth_m)
    zoom = recipe.zoom(time, strength)
    intrinsics = torch.tensor([camera.fx, camera.fy, camera.cx, camera.cy], dtype=torch.float64)
    intrinsics = intrinsics.repeat(frames, 1)
    # fx and fy; the principal point stays
    intrinsics[:, :2] *= zoom[:, None]
    return CameraPath(
        name=name, world_to_camera=rigid_inverse(camera_to_world).float(), intrinsics=intrinsics.float()
    )
