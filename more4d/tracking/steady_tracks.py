"""Tracks in the world of which only what moves moves, and the depth of that without its wobble.

Static points (`static_scene`) stand still exactly. The depth of the others is read from the estimates of
all frames, after the static points have corrected these, and smoothed over time by as much as their noise
demands.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from more4d.geometry.poses import rigid_inverse
from more4d.geometry.tracks import PointTracks
from more4d.tracking.lifting import (
    MIN_ALIGNED,
    EdgeAwareFilter,
    estimate_occluded,
    fit_line_robust,
    interpolate_unseen,
    sample_depth,
    smooth_over_time,
)
from more4d.tracking.static_scene import (
    CORRECTION_REACH,
    SHARP_REACH,
    StaticScene,
    find_static_scene,
    project_static,
)

MAX_LOCAL = 0.3
"""The largest local correction of depth, in log."""


@dataclass(frozen=True, kw_only=True)
class SteadyTracks:
    """Tracks of which only what moves moves.

    Attributes:
        tracks: in the world, the camera of frame 0.
        scene: its static part.
        depth_noise: standard deviation, in log, of the depth of static surfaces from frame to frame after all
            corrections: what the depth of moving ones is not better known than.
    """

    tracks: PointTracks
    scene: StaticScene
    depth_noise: float


def steady_tracks(
    video: Float[Tensor, "frames height width 3"],
    depth_m: Float[Tensor, "frames height width"],
    tracks: PointTracks,
) -> SteadyTracks:
    """Tracks in the world whose depth does not wobble, from a tracker's, in each frame's own camera.

    Static points stand still exactly. Depth of the others: in every frame the estimates are brought to the
    known depth of the static points, log depth by a line and then by a smooth correction around each pixel;
    then the changes of log depth along tracks are averaged over their surface and smoothed over time.
    """
    scene = find_static_scene(video, tracks)
    camera, moving = tracks.camera, ~scene.static
    position, ahead = camera.project(tracks.positions)
    position = torch.where((ahead > 0)[..., None], position, 0.5)
    rest, rest_m = project_static(scene.points, camera, scene.motion)
    seen = scene.visibility.clone()
    seen[0] = True
    place = torch.where(moving[..., None], position, rest)
    depth = torch.stack(
        [
            _corrected(depth, at, expected, seen=see, static=scene.static)
            for depth, at, expected, see in zip(depth_m, place, rest_m, seen, strict=True)
        ]
    )
    # What the estimate changes by from where it has to be, on surfaces that move and on those that do not.
    on_surface = EdgeAwareFilter(
        video[0].numpy(), tracks.depth_m.numpy(), sigma_px=SHARP_REACH * tracks.width
    )
    start_m = scene.points[..., 2]
    change = depth - torch.where(moving, start_m, rest_m.clamp(min=1e-6)).log()
    for part in (moving, scene.static):
        weight = (seen & part).float().numpy()
        mean = [on_surface.fill(c[..., None].numpy(), w)[..., 0] for c, w in zip(change, weight, strict=True)]
        change = torch.where(part, torch.from_numpy(np.stack(mean)), change)
    noise = _noise(change[:, scene.static], seen[:, scene.static])
    positions = scene.points.expand_as(tracks.positions).clone()
    if bool(moving.any()):
        logs = interpolate_unseen(change[:, moving], seen[:, moving])
        # Surfaces that move have no static points on them: their own jitter shows their noise, too.
        jitter = (logs.diff(n=2, dim=0).square().mean(0) / 6).sqrt() if tracks.frames > 2 else noise
        logs = smooth_over_time(logs, torch.as_tensor(jitter).clamp(min=noise))
        points = camera.unproject(position[:, moving], start_m[moving] * (logs - logs[0]).exp())
        pose = rigid_inverse(scene.motion.world_to_camera)
        positions[:, moving] = torch.einsum("fij,fnj->fni", pose[:, :3, :3], points) + pose[:, None, :3, 3]
        positions[0] = scene.points
        positions = estimate_occluded(positions, seen | scene.static, video[0])
    return SteadyTracks(
        tracks=replace(tracks, positions=positions, visibility=seen), scene=scene, depth_noise=noise
    )


def _corrected(
    depth_m: Tensor, place: Tensor, expected_m: Tensor, *, seen: Tensor, static: Tensor
) -> Float[Tensor, "height width"]:
    """Log depth of one frame at places, brought to that of the static points seen there."""
    height, width = depth_m.shape
    log_depth = sample_depth(depth_m, place).log()
    use = seen & static & (expected_m > 0)
    if int(use.sum()) < MIN_ALIGNED:
        return log_depth
    goal = expected_m[use].log()
    slope, offset = fit_line_robust(log_depth[use].double(), goal.double())
    log_depth = slope * log_depth + offset
    # the rest of the difference, averaged round each place in the image of this frame
    left = (goal - log_depth[use]).clamp(-MAX_LOCAL, MAX_LOCAL)
    column, row = (place * torch.tensor([width, height])).floor().long().unbind(-1)
    cell = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    sums = torch.zeros(height * width, 2)
    sums.index_add_(0, cell[use], torch.stack([left, torch.ones_like(left)], -1))
    blurred = cv2.GaussianBlur(sums.view(height, width, 2).numpy(), (0, 0), CORRECTION_REACH * width)
    correction = torch.from_numpy(blurred[..., 0] / np.maximum(blurred[..., 1], 1e-3))
    return log_depth + correction.flatten()[cell]


def _noise(change: Tensor, seen: Tensor) -> float:
    """Robust standard deviation of changes over time around their mean, of the median point."""
    count = seen.sum(0).clamp(min=1)
    off = (change - (change * seen).sum(0) / count).masked_fill(~seen, torch.nan)
    return float(off.abs().nanmedian() * 1.4826) if off.numel() else 0.0
