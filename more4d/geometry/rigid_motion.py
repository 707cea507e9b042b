"""Rigid motions fitted to points, and how far generated motion goes.

Motion is made smaller along its paths and larger as motion of rigid parts. (Were paths made longer, a wheel
that turns would grow, as every point would leave along its chord.)
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from more4d.geometry.camera import Camera
from more4d.geometry.poses import rigid, so3_exp, so3_log
from more4d.geometry.tracks import normalise_motion, positions_from_motion

MOST_PARTS = 6
"""An object is described by so many rigid parts at most."""
EXPLAINED = 0.8
"""Parts are added until they explain this share of the motion's length, root mean square."""
ROUNDS = 8
SOFTNESS = 0.15
"""How far neighbouring parts reach into each other, in the size of the object."""
MOVING = 0.004
"""Normalised motion (image widths) above which a point counts as moving: half a pixel of the tiny preset."""


def fit_rigid(
    before: Float[Tensor, "points 3"], after: Float[Tensor, "*batch points 3"]
) -> Float[Tensor, "*batch 4 4"]:
    """The rigid motion that takes `before` nearest to `after`, in the sum of squares (Kabsch 1976).

    Points on a line, or a single one, leave the rotation about it free: the least one is taken.
    """
    centre, goal = before.mean(-2, keepdim=True), after.mean(-2, keepdim=True)
    covariance = (before - centre).mT @ (after - goal)  # sum of x y^T: [*batch, 3, 3]
    # A little of the identity decides what the points leave free, and nothing else.
    scale = covariance.abs().amax((-1, -2), keepdim=True).clamp(min=1e-12)
    u, _, vh = torch.linalg.svd(covariance + 1e-6 * scale * torch.eye(3).to(covariance))
    flip = torch.ones_like(covariance[..., 0])
    flip[..., 2] = torch.linalg.det(u @ vh).sign()  # no mirror images
    rotation = vh.mT @ (flip[..., None] * u.mT)
    return rigid(rotation, (goal - centre @ rotation.mT)[..., 0, :])


def scale_poses(
    poses: Float[Tensor, "frames 4 4"], centre: Float[Tensor, "3"], amount: float | int
) -> Float[Tensor, "frames 4 4"]:
    """The motion of a body about its `centre`, from frame 0, with every step `amount` times as long.

    A ball that rolls turns further and its centre goes on straight; a leg that swings stays at its joint, and
    a car drives on round its bend: there the steps of the centre turn with the body. Which of the two it is,
    is seen from where steps have more nearly one axis, in the world or in the frame of the body.
    """
    # x' = R x + t moves the centre to R c + t.
    rotations, centres = poses[:, :3, :3], poses[:, :3, :3] @ centre + poses[:, :3, 3]
    turns = so3_log(rotations[:-1].mT @ rotations[1:])
    steps = centres.diff(dim=0)
    # Steps as the body sees them halfway through each.
    seen = ((rotations[:-1] @ so3_exp(turns / 2)).mT @ steps[..., None])[..., 0]
    turning = _along_one_axis(seen) > _along_one_axis(steps) + 1e-3
    # Integrated anew, with every turn and every step longer.
    rotation, place = rotations[0], centres[0]
    scaled = [poses[0]]
    for turn, step, own in zip(turns, steps, seen, strict=True):
        if turning:
            step = rotation @ so3_exp(amount * turn / 2) @ own
        rotation, place = rotation @ so3_exp(amount * turn), place + amount * step
        # The rigid motion that turns so and takes the centre there.
        scaled.append(rigid(rotation, place - rotation @ centre))
    return torch.stack(scaled)


def _along_one_axis(steps: Float[Tensor, "steps 3"]) -> float:
    """1 if all steps go along one axis, forth or back; 1/3 if they go everywhere."""
    moments = torch.linalg.eigvalsh(steps.T @ steps)
    return float(moments[-1] / moments.sum().clamp(min=1e-12))


def scale_motion(
    motion: Float[Tensor, "frames height width 3"],
    start: Float[Tensor, "height width 3"],
    camera: Camera,
    amount: float | int,
    objects: Int[Tensor, "height width"] | None = None,
) -> Float[Tensor, "frames height width 3"]:
    """Motion that goes `amount` times as far: 0 stands still, 1 is `motion` itself.

    Up to 1 every path is shortened along itself. Beyond, an object is divided into parts that move rigidly
    and go further (`scale_poses`); what is not rigid is added as it was.

    Args:
        motion: normalised (`geometry.tracks`).
        start: points of frame 0, metres.
        amount: at least 0.
        objects: the object of each pixel, 0 for what stays; None: all that moves is one object.

    Raises:
        ValueError: the amount is negative or not finite.
    """
    if not 0 <= amount < math.inf:
        raise ValueError(f"the amount of motion must be 0 or more, got {amount}")
    if amount <= 1:
        return motion if amount == 1 else motion * amount
    # In metres: rotations are rigid there, and not in units of depth.
    positions = positions_from_motion(motion, start, camera).double()
    moving = motion.abs().amax((0, -1)) > 0
    labels = moving.long() if objects is None else torch.where(moving, objects, 0)
    for number in labels.unique().tolist():
        if number != 0:
            inside = labels == number
            positions[:, inside] = _scale_object(positions[:, inside], amount)
    scaled = normalise_motion(positions.to(motion.dtype), camera)
    return torch.where((labels > 0)[..., None], scaled, motion)


def _scale_object(
    points: Float[Tensor, "frames points 3"], amount: float
) -> Float[Tensor, "frames points 3"]:
    before = points[0]
    weights = rigid_parts(points)
    rigidly, further = torch.zeros_like(points), torch.zeros_like(points)
    for weight in weights.T:
        # Linear blend skinning: each part carries its points, by their weights.
        core = weight >= 0.5 * weight.max()
        motions = fit_rigid(before[core], points[:, core])
        for poses, sum_of in (
            (motions, rigidly),
            (scale_poses(motions, before[core].mean(0), amount), further),
        ):
            sum_of += weight[:, None] * (before @ poses[:, :3, :3].mT + poses[:, None, :3, 3])
    return further + (points - rigidly)


def rigid_parts(points: Float[Tensor, "frames points 3"]) -> Float[Tensor, "points parts"]:
    """How much each point belongs to each of few rigid parts; the sum over parts is 1.

    Parts are clusters of place and motion (k-means); as few as explain the motion.
    """
    before, way = points[0], points - points[:1]
    size = before.std(0).norm().clamp(min=1e-9)
    reach = way.square().sum(-1).mean().sqrt().clamp(min=1e-9)
    # Place, and where it is halfway and at the end: parts are near each other and move in one way.
    halfway = len(points) // 2
    features = torch.cat([before / size, way[halfway] / reach, way[-1] / reach], -1)
    for count in range(1, min(MOST_PARTS, len(before)) + 1):
        labels = _cluster(features, count)
        centres = torch.stack([before[labels == part].mean(0) for part in labels.unique().tolist()])
        weights = (-0.5 * (torch.cdist(before, centres) / (SOFTNESS * size)).square()).softmax(-1)
        if count == MOST_PARTS or _explained(points, weights) >= EXPLAINED:
            break
    return weights


def _explained(points: Tensor, weights: Tensor) -> float:
    """The share of the motion's length that rigid parts account for."""
    rigidly = torch.zeros_like(points)
    for weight in weights.T:
        core = weight >= 0.5 * weight.max()
        poses = fit_rigid(points[0, core], points[:, core])
        rigidly += weight[:, None] * (points[0] @ poses[:, :3, :3].mT + poses[:, None, :3, 3])
    # 1 - |residual| / |way|, root mean squares.
    way = (points - points[:1]).square().sum(-1).mean().sqrt()
    return float(1 - (points - rigidly).square().sum(-1).mean().sqrt() / way.clamp(min=1e-12))


def _cluster(features: Float[Tensor, "points dim"], count: int) -> Int[Tensor, " points"]:
    """k-means, started from points far from each other: the same clusters every time."""
    centres = features[:1]
    while len(centres) < count:
        farthest = torch.cdist(features, centres).amin(1).argmax()
        centres = torch.cat([centres, features[farthest, None]])
    for _ in range(ROUNDS):
        labels = torch.cdist(features, centres).argmin(1)
        centres = torch.stack(
            [
                features[labels == part].mean(0) if bool((labels == part).any()) else centre
                for part, centre in enumerate(centres)
            ]
        )
    return torch.cdist(features, centres).argmin(1)


def reach(
    motion: Float[Tensor, "frames height width 3"],
    moving: Bool[Tensor, "height width"] | None = None,
    weight: Float[Tensor, "frames height width"] | None = None,
) -> float:
    """How far things go: root mean square of normalised motion over frames and what moves; 0 if nothing does.

    A mean over the picture would confuse a small thing that goes far with a large one that trembles.

    Args:
        moving: by default what ever is `MOVING` from where it began.
        weight: of each point and frame, such as its visibility.
    """
    squared = motion.square().sum(-1)
    weight = torch.ones_like(squared) if weight is None else weight
    moving = squared.amax(0) > MOVING**2 if moving is None else moving
    total = weight[:, moving].sum().clamp(min=1e-6)  # 0 / 1e-6 = 0 where nothing moves
    return float(((weight * squared)[:, moving].sum() / total).sqrt())


def quantiles_text(reaches: Sequence[float], count: int = 21) -> str:
    """The reach of clips at `count` equal ranks, as a list for configurations; "" if too few differ."""
    moving = torch.tensor([value for value in reaches if value > 0], dtype=torch.float64)
    if len(moving) < 2:
        return ""
    values = moving.quantile(torch.linspace(0, 1, count, dtype=torch.float64)).tolist()
    texts = [f"{value:.4g}" for value in values]
    # Ranks are found between quantiles that grow: of few clips, fewer quantiles.
    grow = all(float(low) < float(high) for low, high in pairwise(texts))
    return f"[{', '.join(texts)}]" if grow else quantiles_text(reaches, count // 2) if count > 3 else ""
