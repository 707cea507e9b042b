"""Camera paths through keyframes: a few poses, and a smooth motion through them."""

import difflib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.poses import interpolate, interpolate_rigid, look_at, quaternion_to_matrix, rigid
from more4d.geometry.poses import rigid_inverse as inverse_pose

KEYS = ("time", "position", "look_at", "rotation", "focal_factor", "fov_x_deg")


@dataclass(frozen=True, kw_only=True)
class Keyframe:
    """Where the camera is at one time.

    Attributes:
        time: in any unit; the frames of the path are spread evenly from the first time to the last.
        position: the camera's centre in the world.
        rotation: camera-to-world; given by `target` where there is one.
        target: the point looked at, if the keyframe names one.
        focal_factor: focal length relative to the photo's.
    """

    time: float
    position: Float[Tensor, "3"]
    rotation: Float[Tensor, "3 3"]
    target: Float[Tensor, "3"] | None = None
    focal_factor: float = 1.0


def parse_keyframe(values: Any, *, number: int, camera: Camera, order: str = "wxyz") -> Keyframe:
    """Check one keyframe as a user writes it.

    Args:
        values: `position` (3 numbers) and optionally `time` (default: `number`), `look_at` (3 numbers) or
            `rotation` (camera-to-world, quaternion w, x, y, z or 3 rows of 3), `focal_factor` or `fov_x_deg`.
        number: which keyframe it is, counted from 1, for messages.
        camera: the photo's, to turn `fov_x_deg` into a factor.
        order: of quaternions; "xyzw" has w last.

    Raises:
        InputError: names the keyframe, the key and the value.
    """
    where = f"keyframe {number}"
    if not isinstance(values, Mapping):
        raise InputError(f"{where} must be a mapping with 'position', got {values!r}")
    for key in values:
        if key not in KEYS:
            # a typing error is answered with the nearest key
            close = difflib.get_close_matches(str(key), KEYS, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(KEYS)}"
            raise InputError(f"{where} has an unknown key '{key}'; {hint}")
    if "position" not in values:
        raise InputError(f"{where} lacks 'position' (3 numbers: right, down, forward)")
    for one, other in (("look_at", "rotation"), ("focal_factor", "fov_x_deg")):
        if one in values and other in values:
            raise InputError(f"{where} has both '{one}' and '{other}'; give one of them")
    position = _numbers(values, "position", 3, where)
    target = _numbers(values, "look_at", 3, where) if "look_at" in values else None
    if target is not None and torch.equal(target, position):
        raise InputError(f"{where} looks at its own position {values['position']}; move one of them")
    if target is not None:
        rotation = look_at(position, target)
    elif "rotation" in values:
        rotation = _rotation(values, where, order)
    else:
        rotation = torch.eye(3, dtype=torch.float64)
    return Keyframe(
        time=float(_numbers(values, "time", 1, where)[0]) if "time" in values else float(number),
        position=position,
        rotation=rotation,
        target=target,
        focal_factor=_focal_factor(values, camera, where),
    )


def keyframe_values(key: Keyframe) -> dict[str, Any]:
    """The inverse of `parse_keyframe`: a keyframe as a user writes it."""
    turned = {"rotation": key.rotation.tolist()} if key.target is None else {"look_at": key.target.tolist()}
    return {
        **{"time": key.time, "position": key.position.tolist()},
        **turned,
        "focal_factor": key.focal_factor,
    }


def keyframe_in(key: Keyframe, *, metres_per_unit: float) -> Keyframe:
    """A keyframe of another unit in metres."""
    target = None if key.target is None else key.target * metres_per_unit
    return replace(key, position=key.position * metres_per_unit, target=target)


def keyframe_path(
    name: str, keyframes: Sequence[Keyframe], *, frames: int, camera: Camera, metres_per_unit: float = 1.0
) -> CameraPath:
    """A smooth path through keyframes, sampled evenly from the first time to the last.

    Where every keyframe names a target, the target moves smoothly too and the camera looks at it in every
    frame; else rotations are interpolated. One keyframe alone is a static camera.

    Raises:
        InputError: there is no keyframe, times do not increase, or the camera passes through its target.
        ValueError: `frames` is not positive.
    """
    if frames < 1:
        raise ValueError(f"a camera path needs at least one frame, got {frames}")
    if not keyframes:
        raise InputError(f"camera path '{name}' has no keyframes; give at least one")
    for number, (one, other) in enumerate(itertools.pairwise(keyframes), start=2):
        if other.time <= one.time:
            raise InputError(
                f"keyframe {number} of camera path '{name}' has time {other.time:g}, not after {one.time:g}; "
                f"times must increase"
            )
    # camera-to-world in float64: [keys, 4, 4]
    poses = torch.stack([rigid(key.rotation, key.position) for key in keyframes]).double()
    # Focal lengths are interpolated in the log: zooming in and out by a factor look alike.
    zoom = torch.tensor([[key.focal_factor] for key in keyframes], dtype=torch.float64).log()
    if len(keyframes) == 1:
        poses, zoom = poses.expand(frames, 4, 4), zoom.expand(frames, 1)
    else:
        times = torch.tensor([key.time for key in keyframes], dtype=torch.float64)
        # frames spread evenly over time, both ends included
        query = torch.linspace(keyframes[0].time, keyframes[-1].time, frames, dtype=torch.float64)
        poses, zoom = _look_at_poses(name, times, poses, query, keyframes), interpolate(times, zoom, query)
    # only the translation column is in units of the path
    scale = torch.tensor([1.0, 1.0, 1.0, metres_per_unit], dtype=torch.float64)
    camera_to_world = torch.cat([poses[:, :3] * scale, poses[:, 3:]], 1)
    intrinsics = torch.tensor([camera.fx, camera.fy, camera.cx, camera.cy], dtype=torch.float64)
    intrinsics = intrinsics.repeat(frames, 1)
    # fx and fy; the principal point stays
    intrinsics[:, :2] *= zoom.exp()
    return CameraPath(
        name=name, world_to_camera=inverse_pose(camera_to_world).float(), intrinsics=intrinsics.float()
    )


def _look_at_poses(
    name: str, times: Tensor, poses: Tensor, query: Tensor, keyframes: Sequence[Keyframe]
) -> Tensor:
    targets = [key.target for key in keyframes if key.target is not None]
    if len(targets) < len(keyframes):
        return interpolate_rigid(times, poses, query)
    # Position and target move apart from each other; the rotation follows from both.
    position = interpolate(times, poses[:, :3, 3], query)
    target = interpolate(times, torch.stack(targets).double(), query)
    if bool(((target - position).norm(dim=-1) < 1e-9).any()):
        raise InputError(f"camera path '{name}' passes through the point it looks at; move a keyframe aside")
    return rigid(look_at(position, target), position)


def _numbers(values: Mapping[str, Any], key: str, count: int, where: str) -> Tensor:
    given = values[key]
    listed = [given] if count == 1 and not isinstance(given, (list, tuple)) else given
    # bool is an int in Python, and no number here
    numeric = isinstance(listed, (list, tuple)) and all(
        isinstance(item, (int, float)) and not isinstance(item, bool) and math.isfinite(item)
        for item in listed
    )
    if not numeric or len(listed) != count:
        wanted = "a number" if count == 1 else f"{count} numbers"
        raise InputError(f"{where}: '{key}' must be {wanted}, got {given!r}")
    return torch.tensor(listed, dtype=torch.float64)


def _rotation(values: Mapping[str, Any], where: str, order: str) -> Tensor:
    given = values["rotation"]
    rows = (
        isinstance(given, (list, tuple))
        and len(given) == 3
        and all(isinstance(r, (list, tuple)) for r in given)
    )
    if not rows:
        quaternion = _numbers(values, "rotation", 4, where)
        if float(quaternion.norm()) < 1e-6:
            raise InputError(
                f"{where}: 'rotation' {given!r} is a quaternion of length 0; [1, 0, 0, 0] is no turn"
            )
        return quaternion_to_matrix(quaternion.roll(1) if order == "xyzw" else quaternion)
    matrix = torch.stack([_numbers({"rotation": row}, "rotation", 3, where) for row in given])
    # R R^T = 1 up to rounding; determinant -1 would be a mirror
    orthogonal = torch.allclose(matrix @ matrix.T, torch.eye(3, dtype=torch.float64), atol=1e-3)
    if not orthogonal or float(torch.linalg.det(matrix)) < 0:
        raise InputError(
            f"{where}: 'rotation' {given!r} is not a rotation matrix (orthonormal, determinant 1)"
        )
    # nearest rotation to a matrix that was written with few digits
    left, _, right = torch.linalg.svd(matrix)
    return left @ right


def _focal_factor(values: Mapping[str, Any], camera: Camera, where: str) -> float:
    if "fov_x_deg" in values:
        fov = float(_numbers(values, "fov_x_deg", 1, where)[0])
        if not 1 <= fov <= 175:
            raise InputError(f"{where}: 'fov_x_deg' must lie between 1 and 175 degrees, got {fov:g}")
        # focal length of the wanted field of view, relative to the photo's
        return 0.5 / math.tan(math.radians(fov) / 2) / camera.fx
    if "focal_factor" not in values:
        return 1.0
    factor = float(_numbers(values, "focal_factor", 1, where)[0])
    if not 0.01 <= factor <= 100:
        raise InputError(f"{where}: 'focal_factor' must lie between 0.01 and 100, got {factor:g}")
    return factor
