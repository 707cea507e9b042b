"""Rotations and rigid motions: exponential and logarithm, quaternions, look-at, smooth interpolation.

Formulas that named camera paths need are written here; the others are scipy's, imported where they are used.

Matrices act on column vectors. Axes are OpenCV's (x right, y down, z forward), so a positive yaw turns the
view to the right, a positive pitch turns it up and a positive roll turns the camera clockwise.
"""

import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.camera_recipes import CAMERA_PATHS, MAX_STRENGTH, check_camera_path_name

if TYPE_CHECKING:
    from scipy.interpolate import PchipInterpolator

# Below this angle (radians) sin(a) / a and the like are replaced by their series.
_SMALL_ANGLE = 1e-4


def skew(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The matrix S with S w = vector x w."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    # by rows: (0, -z, y), (z, 0, -x), (-y, x, 0)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def so3_exp(rotation_vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation about the vector's direction by its length in radians (Rodrigues' formula)."""
    # R = 1 + sin(a) / a S + (1 - cos(a)) / a^2 S^2, S = skew(vector)
    angle = rotation_vector.norm(dim=-1)[..., None, None]
    small = angle < _SMALL_ANGLE
    safe = torch.where(small, torch.ones_like(angle), angle)
    sine = torch.where(small, 1 - angle**2 / 6, safe.sin() / safe)
    cosine = torch.where(small, 0.5 - angle**2 / 24, (1 - safe.cos()) / safe**2)
    matrix = skew(rotation_vector)
    identity = torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    return identity + sine * matrix + cosine * (matrix @ matrix)


def so3_log(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """The inverse of `so3_exp`: the rotation vector of length at most pi, in radians."""
    from scipy.spatial.transform import Rotation  # takes a third of a second to import

    # scipy takes one batch axis: [..., 3, 3] -> [n, 3, 3] -> [n, 3] -> [..., 3]
    vectors = Rotation.from_matrix(rotation.detach().cpu().double().reshape(-1, 3, 3).numpy()).as_rotvec()
    return torch.from_numpy(vectors).to(rotation).reshape(rotation.shape[:-1])


def right_jacobian_inverse(rotation_vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The matrix J^-1 with: d/dt exp(h) = exp(h) skew(omega) implies dh/dt = J^-1(h) omega."""
    angle = rotation_vector.norm(dim=-1)[..., None, None]
    small = angle < 1e-2
    safe = torch.where(small, torch.ones_like(angle), angle)
    # J^-1 = 1 + S / 2 + (1 - (a / 2) cot(a / 2)) / a^2 S^2
    half = safe / 2
    factor = torch.where(small, 1 / 12 + angle**2 / 720, (1 - half * half.cos() / half.sin()) / safe**2)
    matrix = skew(rotation_vector)
    identity = torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    return identity + matrix / 2 + factor * (matrix @ matrix)


def turning_degrees(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch"]:
    """By how much rotations turn, in [0, 180]: trace R = 1 + 2 cos(angle)."""
    cosine = (rotation.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return torch.rad2deg(cosine.clamp(-1, 1).acos())


def quaternion_to_matrix(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Quaternion (w, x, y, z) of any non-zero length to a rotation matrix.

    Raises:
        ValueError: a quaternion has length 0.
    """
    from scipy.spatial.transform import Rotation

    if bool((quaternion.norm(dim=-1) == 0).any()):
        raise ValueError("a quaternion of length 0 is no rotation")
    flat = quaternion.detach().cpu().double().reshape(-1, 4)[:, [1, 2, 3, 0]]  # scipy: (x, y, z, w)
    matrices = torch.from_numpy(Rotation.from_quat(flat.numpy()).as_matrix())
    return matrices.to(quaternion).reshape(*quaternion.shape[:-1], 3, 3)


def yaw_pitch_roll_to_matrix(
    yaw: Float[Tensor, "*batch"], pitch: Float[Tensor, "*batch"], roll: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch 3 3"]:
    """Camera-to-world rotation: turn right by yaw, then look up by pitch, then roll clockwise (radians)."""
    zero = torch.zeros_like(yaw)
    # OpenCV axes: y down, so a positive turn about y looks right; x right, so about x looks up
    about_y = so3_exp(torch.stack([zero, yaw, zero], -1))
    about_x = so3_exp(torch.stack([pitch, zero, zero], -1))
    about_z = so3_exp(torch.stack([zero, zero, roll], -1))
    return about_y @ about_x @ about_z


def look_at(
    position: Float[Tensor, "*batch 3"],
    target: Float[Tensor, "*batch 3"],
    up: tuple[float, float, float] = (0.0, -1.0, 0.0),
) -> Float[Tensor, "*batch 3 3"]:
    """Camera-to-world rotation that points z from `position` at `target` and keeps `up` upwards.

    Looking straight along `up`, where "upright" has no meaning, the camera's x axis stays as near to the
    world's x axis (or, should that be `up`, the world's z axis) as it can.

    Raises:
        ValueError: a position coincides with its target, or `up` is zero.
    """
    # z axis of the camera
    forward = target - position
    length = forward.norm(dim=-1, keepdim=True)
    down = -torch.tensor(up, dtype=position.dtype, device=position.device)
    if bool((length == 0).any()) or not bool(down.norm() > 0):
        raise ValueError("cannot look from a point at itself, nor with an up direction of length 0")
    forward = forward / length
    down = down / down.norm()
    # x = down x forward; its length is the sine of the angle between the two
    right = torch.linalg.cross(down.expand_as(forward), forward)
    sine = right.norm(dim=-1, keepdim=True)
    # Looking along `up`: take the world's x axis (or z, if x is up), made perpendicular to forward.
    x_axis, z_axis = torch.eye(3, dtype=position.dtype, device=position.device)[[0, 2]]
    spare = x_axis if abs(float(down[0])) < 0.9 else z_axis
    spare = spare - (spare * forward).sum(-1, keepdim=True) * forward
    parallel = sine < 1e-6
    right = torch.where(parallel, spare, right)
    right = right / right.norm(dim=-1, keepdim=True)
    # columns x, y, z of camera-to-world
    return torch.stack([right, torch.linalg.cross(forward, right), forward], -1)


def rigid_inverse(transform: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """Inverse of a rotation and translation, exactly rigid again."""
    # (R, t)^-1 = (R^T, -R^T t)
    rotation = transform[..., :3, :3].mT
    return rigid(rotation, -(rotation @ transform[..., :3, 3:])[..., 0])


def rigid(
    rotation: Float[Tensor, "*batch 3 3"], translation: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 4 4"]:
    """Rotation and translation as one homogeneous matrix."""
    upper = torch.cat([rotation, translation[..., None]], -1)
    last = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=upper.dtype, device=upper.device)
    return torch.cat([upper, last.expand(*upper.shape[:-2], 1, 4)], -2)


def interpolate(
    times: Float[Tensor, " keys"], values: Float[Tensor, "keys dim"], query: Float[Tensor, " samples"]
) -> Float[Tensor, "samples dim"]:
    """A smooth (C1) curve through `values` at strictly increasing `times`, evaluated at `query` times.

    Piecewise cubic Hermite interpolation without overshoot (PCHIP; Fritsch and Butland 1984), so two equal
    keys in a row are a rest. Outside the keys the curve keeps its end value.

    Raises:
        ValueError: fewer than two times, or they do not increase.
    """
    _check_times(times)
    curve = _pchip(times, values)
    return torch.from_numpy(curve(query.clamp(times[0], times[-1]).double().numpy())).to(values)


def interpolate_rigid(
    times: Float[Tensor, " keys"], poses: Float[Tensor, "keys 4 4"], query: Float[Tensor, " samples"]
) -> Float[Tensor, "samples 4 4"]:
    """A smooth (C1) motion through rigid `poses` (for example camera-to-world) at increasing `times`.

    Translations follow `interpolate`. Rotations are, between neighbours a and b, a exp(h(t)) with h a cubic
    from 0 to log(a^-1 b). Its end slopes come from one angular velocity per key, so there is no kink at a
    key; the velocities are the PCHIP slopes of the summed relative rotations, so that two equal keys in a row
    are a rest here, too.

    Raises:
        ValueError: fewer than two times, or they do not increase.
    """
    _check_times(times)
    rotations = poses[:, :3, :3]
    relative = so3_log(rotations[:-1].mT @ rotations[1:])  # [keys - 1, 3], in the frame of the earlier key
    summed = torch.cat([torch.zeros_like(relative[:1]), relative.cumsum(0)])
    velocity = torch.from_numpy(_pchip(times, summed).derivative()(times.double().numpy())).to(poses)
    piece = (torch.searchsorted(times, query, right=True) - 1).clamp(0, len(times) - 2)
    duration = times.diff()[piece]
    part = ((query - times[piece]) / duration).clamp(0, 1)[:, None]  # 0 to 1 within the piece
    change = relative[piece]
    # h'(end) = J^-1(h) omega, since d/dt exp(h) = exp(h) skew(omega) at the end of the piece
    end = (right_jacobian_inverse(change) @ velocity[piece + 1][..., None])[..., 0] * duration[:, None]
    start = velocity[piece] * duration[:, None]
    # cubic Hermite basis: h(0) = 0, h(1) = change, h'(0) = start, h'(1) = end
    square, cube = part**2, part**3
    turn = (3 * square - 2 * cube) * change + (cube - 2 * square + part) * start + (cube - square) * end
    return rigid(rotations[piece] @ so3_exp(turn), interpolate(times, poses[:, :3, 3], query))


def _pchip(times: Tensor, values: Tensor) -> "PchipInterpolator":
    from scipy.interpolate import PchipInterpolator

    return PchipInterpolator(times.double().numpy(), values.double().numpy())


def _check_times(times: Tensor) -> None:
    if len(times) < 2 or not bool((times.diff() > 0).all()):
        raise ValueError(f"need at least two strictly increasing times, got {times.tolist()}")


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
