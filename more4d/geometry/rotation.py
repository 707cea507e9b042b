"""Rotations and rigid motions: exponential and logarithm, quaternions, look-at, smooth interpolation.

Matrices act on column vectors. Axes are OpenCV's (x right, y down, z forward), so a positive yaw turns the
view to the right, a positive pitch turns it up and a positive roll turns the camera clockwise.
"""

import torch
from jaxtyping import Float
from torch import Tensor

_SMALL_ANGLE = 1e-4


def skew(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The matrix S with S w = vector x w."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def so3_exp(rotation_vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation about the vector's direction by its length in radians (Rodrigues' formula)."""
    angle = rotation_vector.norm(dim=-1)[..., None, None]
    small = angle < _SMALL_ANGLE
    safe = torch.where(small, torch.ones_like(angle), angle)
    sine = torch.where(small, 1 - angle**2 / 6, safe.sin() / safe)
    cosine = torch.where(small, 0.5 - angle**2 / 24, (1 - safe.cos()) / safe**2)
    matrix = skew(rotation_vector)
    identity = torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    return identity + sine * matrix + cosine * (matrix @ matrix)


def so3_log(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """The inverse of `so3_exp`: the rotation vector of length at most pi (by way of the quaternion)."""
    quaternion = matrix_to_quaternion(rotation)
    w, axis = quaternion[..., :1], quaternion[..., 1:]
    sine = axis.norm(dim=-1, keepdim=True)
    small = sine < _SMALL_ANGLE
    safe = torch.where(small, torch.ones_like(sine), sine)
    # 2 atan2(s, w) / s = 2 / w - 2 s^2 / (3 w^3) + ... near the identity, where w is about 1
    near = 2 - 2 * sine**2 / 3 + (1 - w) * 2
    return axis * torch.where(small, near, 2 * torch.atan2(safe, w) / safe)


def right_jacobian_inverse(rotation_vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The matrix J^-1 with: d/dt exp(h) = exp(h) skew(omega) implies dh/dt = J^-1(h) omega."""
    angle = rotation_vector.norm(dim=-1)[..., None, None]
    small = angle < 1e-2
    safe = torch.where(small, torch.ones_like(angle), angle)
    half = safe / 2
    factor = torch.where(small, 1 / 12 + angle**2 / 720, (1 - half * half.cos() / half.sin()) / safe**2)
    matrix = skew(rotation_vector)
    identity = torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    return identity + matrix / 2 + factor * (matrix @ matrix)


def quaternion_to_matrix(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Quaternion (w, x, y, z) of any non-zero length to a rotation matrix."""
    length = quaternion.norm(dim=-1, keepdim=True)
    if bool((length == 0).any()):
        raise ValueError("a quaternion of length 0 is no rotation")
    w, x, y, z = (quaternion / length).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def matrix_to_quaternion(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Rotation matrix to the unit quaternion (w, x, y, z) with w >= 0.

    Of the four ways to write the quaternion, the one that divides by its largest component is taken.
    """
    xx, yy, zz = rotation.diagonal(dim1=-2, dim2=-1).unbind(-1)
    r = rotation
    skews = [r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]]
    sums = [r[..., 1, 0] + r[..., 0, 1], r[..., 2, 0] + r[..., 0, 2], r[..., 2, 1] + r[..., 1, 2]]
    # Row k of this symmetric matrix is 4 q_k times the quaternion.
    outer = torch.stack(
        [
            torch.stack([1 + xx + yy + zz, skews[0], skews[1], skews[2]], -1),
            torch.stack([skews[0], 1 + xx - yy - zz, sums[0], sums[1]], -1),
            torch.stack([skews[1], sums[0], 1 - xx + yy - zz, sums[2]], -1),
            torch.stack([skews[2], sums[1], sums[2], 1 - xx - yy + zz], -1),
        ],
        -2,
    )
    best = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = outer.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    quaternion = row / row.norm(dim=-1, keepdim=True)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def yaw_pitch_roll_to_matrix(
    yaw: Float[Tensor, "*batch"], pitch: Float[Tensor, "*batch"], roll: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch 3 3"]:
    """Camera-to-world rotation: turn right by yaw, then look up by pitch, then roll clockwise (radians)."""
    zero = torch.zeros_like(yaw)
    about_y = so3_exp(torch.stack([zero, yaw, zero], -1))
    about_x = so3_exp(torch.stack([pitch, zero, zero], -1))
    about_z = so3_exp(torch.stack([zero, zero, roll], -1))
    return about_y @ about_x @ about_z


def matrix_to_yaw_pitch_roll(
    rotation: Float[Tensor, "*batch 3 3"],
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """The inverse of `yaw_pitch_roll_to_matrix` for |pitch| < pi / 2, in radians."""
    yaw = torch.atan2(rotation[..., 0, 2], rotation[..., 2, 2])
    pitch = torch.atan2(-rotation[..., 1, 2], rotation[..., [0, 2], 2].norm(dim=-1))
    roll = torch.atan2(rotation[..., 1, 0], rotation[..., 1, 1])
    return yaw, pitch, roll


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
    forward = target - position
    length = forward.norm(dim=-1, keepdim=True)
    down = -torch.tensor(up, dtype=position.dtype, device=position.device)
    if bool((length == 0).any()) or not bool(down.norm() > 0):
        raise ValueError("cannot look from a point at itself, nor with an up direction of length 0")
    forward = forward / length
    down = down / down.norm()
    right = torch.linalg.cross(down.expand_as(forward), forward)
    sine = right.norm(dim=-1, keepdim=True)
    x_axis, z_axis = torch.eye(3, dtype=position.dtype, device=position.device)[[0, 2]]
    spare = x_axis if abs(float(down[0])) < 0.9 else z_axis
    spare = spare - (spare * forward).sum(-1, keepdim=True) * forward
    parallel = sine < 1e-6
    right = torch.where(parallel, spare, right)
    right = right / right.norm(dim=-1, keepdim=True)
    return torch.stack([right, torch.linalg.cross(forward, right), forward], -1)


def rigid_inverse(transform: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """Inverse of a rotation and translation, exactly rigid again."""
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
    """A smooth (C1) curve through `values` at strictly increasing `times`, read at `query` times.

    Cubic Hermite pieces; slopes are those of the parabola through three keys, held back where they would
    overshoot, so that two equal keys in a row are a rest. Outside the keys the curve keeps its end value.
    """
    slopes = _key_slopes(times, values.diff(dim=0))
    piece, part, step = _locate(times, query)
    start, change = values[piece], values[piece + 1] - values[piece]
    return start + _hermite(part, change, slopes[piece] * step, slopes[piece + 1] * step)


def interpolate_rigid(
    times: Float[Tensor, " keys"], poses: Float[Tensor, "keys 4 4"], query: Float[Tensor, " samples"]
) -> Float[Tensor, "samples 4 4"]:
    """A smooth (C1) motion through rigid `poses` (for example camera-to-world) at increasing `times`.

    Translations follow `interpolate`. Rotations are, between neighbours a and b, a exp(h(t)) with h a cubic
    from 0 to log(a^-1 b) whose end slopes are given by one angular velocity per key, so that both sides of
    a key turn alike.
    """
    rotations = poses[:, :3, :3]
    relative = so3_log(rotations[:-1].mT @ rotations[1:])
    velocity = _key_slopes(times, relative)
    piece, part, step = _locate(times, query)
    change = relative[piece]
    end_tangent = (right_jacobian_inverse(change) @ velocity[piece + 1][..., None])[..., 0]
    turn = _hermite(part, change, velocity[piece] * step, end_tangent * step)
    return rigid(rotations[piece] @ so3_exp(turn), interpolate(times, poses[:, :3, 3], query))


def _locate(times: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each query: the piece it lies in, the fraction of the piece passed, and the piece's duration."""
    if len(times) < 2 or not bool((times.diff() > 0).all()):
        raise ValueError(f"need at least two strictly increasing times, got {times.tolist()}")
    piece = (torch.searchsorted(times, query, right=True) - 1).clamp(0, len(times) - 2)
    step = times.diff()[piece]
    return piece, ((query - times[piece]) / step).clamp(0, 1)[:, None], step[:, None]


def _hermite(part: Tensor, change: Tensor, start_tangent: Tensor, end_tangent: Tensor) -> Tensor:
    """The cubic from 0 to `change` over part 0 to 1 with the given end slopes."""
    square, cube = part**2, part**3
    return (
        (3 * square - 2 * cube) * change
        + (cube - 2 * square + part) * start_tangent
        + (cube - square) * end_tangent
    )


def _key_slopes(times: Tensor, changes: Tensor) -> Tensor:
    """Slope at every key from the changes between neighbours, limited to three times the slower side."""
    step = times.diff()[:, None]
    chord = changes / step
    if len(chord) == 1:
        return chord.repeat(2, 1)
    middle = (step[1:] * chord[:-1] + step[:-1] * chord[1:]) / (step[1:] + step[:-1])
    middle = _limit(middle, torch.minimum(_length(chord[:-1]), _length(chord[1:])))
    first = _limit((3 * chord[:1] - middle[:1]) / 2, _length(chord[:1]))
    last = _limit((3 * chord[-1:] - middle[-1:]) / 2, _length(chord[-1:]))
    return torch.cat([first, middle, last])


def _length(vectors: Tensor) -> Tensor:
    return vectors.norm(dim=-1, keepdim=True)


def _limit(slopes: Tensor, speed: Tensor) -> Tensor:
    tiny = torch.finfo(slopes.dtype).tiny
    return slopes * (3 * speed / _length(slopes).clamp(min=tiny)).clamp(max=1)
