"""What is done to the poses of a path, whatever file it is from: pivot, upright, strength, smoothing.

All poses are camera to world [frames, 4, 4], in OpenCV axes.
"""

import math

import torch
from torch import Tensor

from more4d.geometry.poses import rigid, rigid_inverse, skew, so3_exp, so3_log

PIVOT_SPREAD = 0.01
"""Least mean squared sine of the angle between optical axes and any one direction, for axes that meet."""
PIVOT_MISS = 0.2
"""How far the axes may pass by the pivot (rms), in its distances from the first camera."""
PIVOT_NEAREST = 0.4
"""Least distance of a camera from the pivot, as a share of the largest."""
UP_SPREAD, UP_SHARE = 0.002, 0.25
"""Least mean squared sine between x axes for up to be known (a pan of 9 degrees), and the most of it
that they may leave their common plane by.
"""
UPRIGHT = 0.3
"""Least cosine between down and the cameras' y axes: steeper ones have no horizon."""
STEEP = 0.1
"""Radians from straight up or down within which a camera has no horizon."""


def level_poses(poses: Tensor) -> Tensor | None:
    """Poses [frames, 4, 4] relative to the first, as they are if that is held level; None if up is unknown.

    Cameras are held upright, so their x axes are horizontal: down is the eigenvector d of the least
    eigenvalue of sum_t x_t x_t^T, on the side of their y axes. With L the camera that has the first one's x
    axis made horizontal and d as its y axis, P = L^-1 R_0 is what the first camera is pitched and rolled by,
    and relative rotations R_t become P R_t P^-1: turns about gravity become turns about the photo's y axis.
    Displacements are turned by P as well; but where cameras look at a pivot, each sees it where it was.
    """
    right, first = poses[:, :3, 0], poses[0, :3, :3]
    value, vector = torch.linalg.eigh(right.T @ right / len(poses))
    side = float(poses[:, :3, 1].mean(0) @ vector[:, 0])
    down = vector[:, 0] * math.copysign(1, side)
    flat = right[0] - (right[0] @ down) * down
    spread = float(value[1]) > max(UP_SPREAD, float(value[0]) / UP_SHARE)
    if not spread or min(abs(side), float(flat.norm())) < UPRIGHT:
        return None
    flat = flat / flat.norm()
    pitch = torch.stack([flat, down, torch.linalg.cross(flat, down)], -1).T @ first
    relative = rigid_inverse(poses[:1]) @ poses
    rotation, place = relative[:, :3, :3], relative[:, :3, 3]
    turned, pivot = pitch @ rotation @ pitch.T, find_pivot(relative)
    if pivot is None:
        return rigid(turned, place @ pitch.T)
    return rigid(turned, pivot + (turned @ rotation.mT @ (place - pivot)[..., None])[..., 0])


def horizon_tilt_deg(poses: Tensor) -> float:
    """The most that x axes of poses [frames, 4, 4] leave the horizontal plane of the first by."""
    tilt = (poses[:, :3, 0] @ poses[0, :3, 1]).abs().clamp(max=1).asin()
    return math.degrees(float(tilt.max()))


def roll_of(poses: Tensor) -> Tensor:
    """How far cameras of a level world are turned about their optical axes, radians [frames]."""
    right, down = _upright(poses)
    return torch.atan2((poses[:, :3, 0] * down).sum(-1), (poses[:, :3, 0] * right).sum(-1))


def with_roll(poses: Tensor, roll: Tensor) -> Tensor:
    """Poses [frames, 4, 4] that look where they look, with these turns about their axes; see `roll_of`.

    A path that is shortened as a screw motion rolls where heading and height change together.
    """
    right, down = _upright(poses)
    x = roll.cos()[:, None] * right + roll.sin()[:, None] * down
    forward = poses[:, :3, 2]
    rotation = torch.stack([x, torch.linalg.cross(forward, x), forward], -1)
    # Straight up or down there is no horizon.
    steep = poses[:, 1, 2].abs() > math.cos(STEEP)
    return rigid(torch.where(steep[:, None, None], poses[:, :3, :3], rotation), poses[:, :3, 3])


def _upright(poses: Tensor) -> tuple[Tensor, Tensor]:
    """x and y axes [frames, 3] that cameras would have with the same optical axis and a level horizon."""
    forward = poses[:, :3, 2]
    gravity = torch.tensor([0.0, 1.0, 0.0], dtype=poses.dtype).expand_as(forward)
    right = torch.linalg.cross(gravity, forward)
    right = right / right.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    return right, torch.linalg.cross(forward, right)


def find_pivot(poses: Tensor) -> Tensor | None:
    """The point [3] that cameras look at, in the world of camera-to-world poses [frames, 4, 4].

    The nearest point to all optical axes: (sum_t I - f_t f_t^T) p = sum_t (I - f_t f_t^T) c_t, with f_t the
    direction and c_t the centre of a camera. None where the axes are nearly parallel, where they pass by each
    other, or where some camera is behind the point or far nearer to it than others: a walk, no orbit.
    """
    forward, centre = poses[:, :3, 2], poses[:, :3, 3]
    across = torch.eye(3, dtype=poses.dtype) - forward[:, :, None] * forward[:, None, :]
    spread = torch.linalg.eigvalsh(across.sum(0)) / len(poses)
    if float(spread[0]) < PIVOT_SPREAD:
        return None
    point = torch.linalg.solve(across.sum(0), (across @ centre[..., None]).sum(0))[:, 0]
    miss = (across @ (point - centre)[..., None])[..., 0].norm(dim=-1).square().mean().sqrt()
    distance = ((point - centre) * forward).sum(-1)
    round_it = float(distance.min()) > PIVOT_NEAREST * float(distance.max()) > 0
    # A camera that turns on the spot shakes about a "pivot" as near as it shakes.
    return point if round_it and float(miss) < PIVOT_MISS * float(distance[0]) else None


def scale_poses(poses: Tensor, strength: float) -> Tensor:
    """Poses [frames, 4, 4] whose every step is the same screw motion, `strength` times as far.

    An orbit stays an orbit about its pivot, a slide a slide, a turn a turn.
    """
    scaled = [poses[0]]
    steps = rigid_inverse(poses[:-1]) @ poses[1:]
    vector = so3_log(steps[:, :3, :3])
    # exp of a twist (omega, u): rotation exp(omega) and translation V(omega) u
    twist = torch.linalg.solve(_left_jacobian(vector), steps[:, :3, 3:])[..., 0]
    part = rigid(
        so3_exp(strength * vector),
        (_left_jacobian(strength * vector) @ (strength * twist)[..., None])[..., 0],
    )
    for step in part:
        scaled.append(scaled[-1] @ step)
    return torch.stack(scaled)


def _left_jacobian(vector: Tensor) -> Tensor:
    """V = 1 + (1 - cos a) / a^2 S + (a - sin a) / a^3 S^2 of rotation vectors [n, 3]."""
    angle = vector.norm(dim=-1)[:, None, None]
    small = angle < 1e-3
    safe = torch.where(small, torch.ones_like(angle), angle)
    first = torch.where(small, 0.5 - angle**2 / 24, (1 - safe.cos()) / safe**2)
    second = torch.where(small, 1 / 6 - angle**2 / 120, (safe - safe.sin()) / safe**3)
    matrix = skew(vector)
    return torch.eye(3, dtype=vector.dtype) + first * matrix + second * matrix @ matrix


def smooth_motion(poses: Tensor, sigma: float) -> Tensor:
    """Poses [frames, 4, 4], smoothed by a Gaussian of `sigma` frames; the first and the last stay.

    Beyond its ends a path goes on as its own reflection through them, so the weighted mean there is the end
    itself. Rotations are averaged as vectors relative to the pose in the middle.
    """
    radius = min(math.ceil(3 * sigma), len(poses) - 1)
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (offsets / max(sigma, 1e-9)) ** 2).double()
    weights = weights / weights.sum()
    rotation, position = poses[:, :3, :3], poses[:, :3, 3]

    def beyond(end: int, at: slice) -> tuple[Tensor, Tensor]:
        turned = rotation[end] @ rotation[at].flip(0).mT @ rotation[end]
        return turned, 2 * position[end] - position[at].flip(0)

    before, after = beyond(0, slice(1, radius + 1)), beyond(-1, slice(-1 - radius, -1))
    rotations = torch.cat([before[0], rotation, after[0]]).unfold(0, 2 * radius + 1, 1).movedim(-1, 1)
    positions = torch.cat([before[1], position, after[1]]).unfold(0, 2 * radius + 1, 1).movedim(-1, 1)
    turn = (so3_log(rotation[:, None].mT @ rotations) * weights[:, None]).sum(1)
    return rigid(rotation @ so3_exp(turn), (positions * weights[:, None]).sum(1))
