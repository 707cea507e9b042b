"""From 2-D tracks to 3-D tracks: depth along the way, without mixing surfaces.

`EdgeAwareFilter` averages over one surface only. It is the recursive form of the domain transform (Gastal and
Oliveira 2011, section 4): each pass replaces a value by a share of its neighbour's, and the share falls with
the step of colour and log depth between them. Unlike a window it reaches along a whole surface, so values
from the border of a panel without texture reach its middle.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from more4d.geometry.camera import Camera
from more4d.geometry.tracks import PointTracks
from more4d.tracking.camera_motion import CameraMotion

Channels = Float[ndarray, "height width channels"]

COLOUR_STEP = 0.08
LOG_DEPTH_STEP = 0.1


class EdgeAwareFilter:
    """Averages over the surfaces of one picture."""

    def __init__(
        self,
        colours: Float[ndarray, "height width 3"],
        depth_m: Float[ndarray, "height width"],
        *,
        sigma_px: float = 20.0,
    ) -> None:
        """`sigma_px` is the standard deviation of the average on a surface without edges."""
        log_depth = np.log(depth_m)
        steps = [
            np.abs(np.diff(log_depth, axis=axis)) / LOG_DEPTH_STEP
            + np.abs(np.diff(colours, axis=axis)).mean(-1) / COLOUR_STEP
            for axis in (1, 0)
        ]
        self._shares = []
        for scale in (2, 1):
            # Halved from pass to pass and normalised so that the variances add up to sigma_px squared.
            sigma = sigma_px * np.sqrt(3) * scale / np.sqrt(15)
            feedback = np.exp(-np.sqrt(2) / sigma)
            self._shares.append([(feedback * np.exp(-step)).astype(np.float32) for step in steps])

    def __call__(self, values: Channels) -> Channels:
        """The averages; constants stay what they are."""
        values = values.astype(np.float32, copy=True)
        for across, down in self._shares:
            _smooth(values.swapaxes(0, 1), across.T)
            _smooth(values, down)
        return values

    def fill(self, values: Channels, weight: Float[ndarray, "height width"]) -> Channels:
        """Weighted averages; where no weight reaches, zero."""
        total = self(np.concatenate([values * weight[..., None], weight[..., None]], -1))
        return total[..., :-1] / np.maximum(total[..., -1:], 1e-12)


def _smooth(values: ndarray, share: ndarray) -> None:
    """Forth and back along the first axis, in place."""
    count = len(values)
    for row in range(1, count):
        values[row] += share[row - 1, :, None] * (values[row - 1] - values[row])
    for row in range(count - 2, -1, -1):
        values[row] += share[row, :, None] * (values[row + 1] - values[row])


SURFACE_TOLERANCE = 0.05
MIN_ALIGNED = 50
MAX_CONTRAST = 1.25
OCCLUDED_WEIGHT = 0.03
SLOPE_PRIOR = 25.0
"""In variances of the errors: a slope is taken where depths differ by more than five times their errors."""
SMOOTHING = (1e6, 1e4, 1e3, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
"""Weights of the penalty on curvature: the first leaves a line."""


def sample_depth(
    depth_m: Float[Tensor, "height width"],
    position: Float[Tensor, "*grid 2"],
    expected_m: Float[Tensor, "*grid"] | None = None,
) -> Float[Tensor, "*grid"]:
    """Depth in metres at normalised image positions, from one surface only.

    Of the four pixels round a position the one nearest in depth to `expected_m` (else the nearest in the
    image) decides which surface is meant; those within `SURFACE_TOLERANCE` (in log depth) of it are
    interpolated.
    Positions outside take the border's depth.
    """
    height, width = depth_m.shape
    x = (position[..., 0] * width - 0.5).clamp(0, width - 1)
    y = (position[..., 1] * height - 0.5).clamp(0, height - 1)
    left, top = x.floor().long().clamp(max=max(width - 2, 0)), y.floor().long().clamp(max=max(height - 2, 0))
    corners, weights = [], []
    for down in (0, 1):
        for right in (0, 1):
            row, column = (top + down).clamp(max=height - 1), (left + right).clamp(max=width - 1)
            corners.append(depth_m[row, column].log())
            weights.append((1 - (x - column).abs()).clamp(min=0) * (1 - (y - row).abs()).clamp(min=0))
    log_depth, weight = torch.stack(corners), torch.stack(weights)
    # A corner with no weight may not decide: it is on the far side of a pixel that was hit exactly.
    fitness = weight if expected_m is None else -(log_depth - expected_m.log()).abs()
    chosen = torch.where(weight > 1e-3, fitness, -torch.inf).argmax(0, keepdim=True)
    surface = log_depth.gather(0, chosen)
    weight = weight * ((log_depth - surface).abs() <= SURFACE_TOLERANCE)
    return ((weight * log_depth).sum(0) / weight.sum(0)).exp()


def align_depths(
    depth_m: Float[Tensor, "frames height width"],
    position: Float[Tensor, "frames height width 2"],
    visibility: Bool[Tensor, "frames height width"],
    camera: Camera,
    motion: CameraMotion,
) -> Float[Tensor, "frames height width"]:
    """Depth whose scale and contrast no longer jump from frame to frame.

    Estimates from single images differ by a factor, and by contrast, from frame to frame. Static parts
    of the scene determine both: the points of frame 0, moved by the camera's `motion`, have a depth that
    frame t should have where they are seen. log depth of frame t is replaced by a log depth + b, with a and b
    fitted to that robustly; moving objects are few and have little weight. Frame 0 is not changed. A frame in
    which fewer than `MIN_ALIGNED` points are seen takes the fit of the frame before.
    """
    start = camera.unproject_depth(depth_m[0])
    aligned, fit = [depth_m[0]], (1.0, 0.0)
    for frame in range(1, len(depth_m)):
        expected = motion.to_camera(frame, start)[..., 2]
        seen = visibility[frame] & (expected > 0)
        if int(seen.sum()) >= MIN_ALIGNED:
            given = sample_depth(depth_m[frame], position[frame][seen]).log().double()
            fit = fit_line_robust(given, expected[seen].log().double())
        aligned.append((fit[0] * depth_m[frame].double().log() + fit[1]).exp().to(depth_m.dtype))
    return torch.stack(aligned)


def lift_tracks(
    video: Float[Tensor, "frames height width 3"],
    depth_m: Float[Tensor, "frames height width"],
    camera: Camera,
    position: Float[Tensor, "frames height width 2"],
    visibility: Bool[Tensor, "frames height width"],
    *,
    static: Bool[Tensor, "frames height width"] | None = None,
    motion: CameraMotion | None = None,
) -> PointTracks:
    """Tracks in each frame's own camera, from normalised image positions and per-frame depth.

    Where a point is seen its depth is sampled on the surface it was last seen on; where it is not, its
    position is guessed (`estimate_occluded`). Frame 0 is the depth map itself.

    Args:
        video: colours in [0, 1]; those of frame 0 become the tracks' own.
        depth_m: of every frame.
        camera: intrinsics of all frames.
        position: where the pixels of frame 0 are.
        visibility: where they are seen.
        static: points known to be static in a frame; with the camera's `motion` that gives their position,
            and no jitter of the depth moves them.
        motion: of the camera.
    """
    seen = visibility.clone()
    seen[0] = True
    start = camera.unproject_depth(depth_m[0])
    known, positions = depth_m[0], [start]
    for frame in range(1, len(seen)):
        depth = sample_depth(depth_m[frame], position[frame], known)
        points = camera.unproject(position[frame], torch.where(seen[frame], depth, known))
        if static is not None and motion is not None:
            points = torch.where(static[frame, ..., None], motion.to_camera(frame, start), points)
        known = torch.where(seen[frame], points[..., 2], known)
        positions.append(points)
    points = estimate_occluded(torch.stack(positions), seen, video[0])
    return PointTracks(positions=points, colours=video[0], visibility=seen, camera=camera)


def estimate_occluded(
    positions: Float[Tensor, "frames height width 3"],
    visibility: Bool[Tensor, "frames height width"],
    colours: Float[Tensor, "height width 3"],
) -> Float[Tensor, "frames height width 3"]:
    """Positions with those of unseen points replaced by a guess.

    An unseen point moves as the seen points of its surface do, or if there are next to none, as the given
    positions of the unseen ones do. What it was off from them when it was last seen, and is when it is seen
    again, is added, linear in time in between and constant after the last time. All points must be seen in
    frame 0.
    """
    if bool(visibility.all()):
        return positions
    start = positions[0]
    on_surface = EdgeAwareFilter(colours.numpy(), start[..., 2].numpy())
    scale = start[..., 2:].numpy()
    carried = []
    for now, seen in zip(positions, visibility, strict=True):
        weight = np.where(seen.numpy(), 1.0, OCCLUDED_WEIGHT).astype(np.float32)
        motion = on_surface.fill((now - start).numpy() / scale, weight)
        carried.append(start + torch.from_numpy(motion * scale))
    away = interpolate_unseen(positions - torch.stack(carried), visibility)
    return torch.where(visibility[..., None], positions, torch.stack(carried) + away)


def inside_image(position: Float[Tensor, "*grid 2"]) -> Bool[Tensor, "*grid"]:
    """Whether normalised positions lie in the picture."""
    return ((position >= 0) & (position < 1)).all(-1)


def interpolate_unseen(
    values: Float[Tensor, "frames *grid"], seen: Bool[Tensor, "frames *points"]
) -> Float[Tensor, "frames *grid"]:
    """Values of unseen frames, linear in time between the seen ones; constant after the last one."""
    frames = len(values)
    extra = [1] * (values.ndim - seen.ndim)
    time = torch.arange(frames).view(-1, *[1] * (seen.ndim - 1))
    before = torch.where(seen, time, 0).cummax(0).values
    after = torch.where(seen, time, frames).flip(0).cummin(0).values.flip(0)
    after = torch.where(after == frames, before, after)
    part = (time - before) / (after - before).clamp(min=1)

    def at(index: Tensor) -> Tensor:
        return values.gather(0, index.view(*index.shape, *extra).expand_as(values))

    return torch.lerp(at(before), at(after), part.view(*part.shape, *extra).to(values))


def smooth_over_time(
    values: Float[Tensor, "frames points"], noise: float | Float[Tensor, "*points"]
) -> Float[Tensor, "frames points"]:
    """The smoothest course of every point's values that differs from them by no more than their noise.

    Whittaker smoothing: least squares with a penalty on second differences (Eilers, Analytical Chemistry
    2003). The weight of the penalty is the largest whose residual has at most the standard deviation `noise`
    (Morozov's discrepancy principle); if a constant has, it is taken, then a line.
    """
    frames = len(values)
    if frames < 3:
        return values
    one = torch.ones(frames, frames, dtype=torch.float64) / frames
    identity = torch.eye(frames, dtype=torch.float64)
    curve = identity.diff(n=2, dim=0)
    smoothers = [one]
    smoothers += [torch.linalg.inv(identity + weight * curve.T @ curve) for weight in SMOOTHING]
    chosen, done = values.clone(), torch.zeros(values.shape[1], dtype=torch.bool)
    for smoother in smoothers:
        smooth = smoother.to(values) @ values
        fits = ~done & ((values - smooth).square().mean(0).sqrt() <= noise)
        chosen[:, fits], done = smooth[:, fits], done | fits
    return chosen


def fit_line_robust(x: Tensor, y: Tensor) -> tuple[float, float]:
    """a and b of y = a x + b: the median of y - x, then five rounds of weighted least squares (Cauchy).

    Errors in x would flatten the line, and depth alike over large parts of an image makes many pixels few
    independent ones: the slope is drawn towards 1, the more the larger errors are beside the spread of x.
    """
    middle = x.median()
    slope, offset = torch.ones((), dtype=x.dtype), (y - x).median()
    for _ in range(5):
        left = y - slope * (x - middle) - middle - offset
        spread = left.abs().median().clamp(min=1e-4) * 1.5
        weight = 1 / (1 + (left / spread).square())
        mean_x, mean_y = (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()
        variance = (weight * (x - mean_x).square()).sum() / weight.sum()
        if float(variance) > 1e-4:
            shared = (weight * (x - mean_x) * (y - mean_y)).sum() / weight.sum()
            known = SLOPE_PRIOR * spread.square()
            slope = (shared + known) / (variance + known)
            slope = slope.clamp(1 / MAX_CONTRAST, MAX_CONTRAST)
        offset = mean_y - slope * (mean_x - middle) - middle
    return float(slope), float(offset + middle - slope * middle)
