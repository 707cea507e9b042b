"""Agreement of tracks with true tracks and with prompted directions, and the measures of TAPVid-3D.

TAPVid-3D (Koppula et al., arXiv 2407.05921) has 3D-AJ, APD and OA. A point is within delta pixels if it is
nearer to the truth than the length that delta pixels have at the true depth: delta Z / f, with f the
geometric mean of the focal lengths in pixels of an image of 256 x 256, and delta 1, 2, 4, 8 and 16.
"""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from more4d.geometry.camera import Camera
from more4d.geometry.tracks import PointTracks, normalise_motion

Positions = Float[Tensor, "frames height width 3"]
Mask = Bool[Tensor, "height width"]

DIRECTION_AXES = {
    "left": (0, -1.0),
    "right": (0, 1.0),
    "up": (1, -1.0),
    "down": (1, 1.0),
    "toward": (2, -1.0),
    "away": (2, 1.0),
}
"""Axis and sign of each direction a caption can name, in the camera's frame (x right, y down, z forward)."""
LEAST_WAY = 0.01
"""That something goes in its direction, in sides of the image, or depths."""


def track_errors(
    predicted: PointTracks, truth: PointTracks, *, moving: Mask | None = None
) -> dict[str, float]:
    """How far a tracker's answer is from the truth, over the frames after the first; both tracks are in each
    frame's own camera, or both in the world.

    Args:
        predicted: tracks of the tracker.
        truth: true tracks; their visibility selects the points that count.
        moving: which pixels count as moving; by default `moving_pixels`, which in tracks of a camera that
            moves calls everything moving.

    Returns:
        Over points that are truly seen (`moving_...`: those that move; `still_px`: those that do not), NaN
        where there are none:

        * `error_px`, `median_px`, `within_1px`: mean and median of the end-point error in pixels of the
          image, and share of points at most 1 pixel off; `error_m`: mean in space, in metres.
        * `relative`: mean of that error divided by the point's true depth in that frame.
        * `motion`: mean error of (X_t - X_0) / Z_0: right up to the scale of the depth is right.

        `visible_precision`: share of the points called visible that are; `visible_recall`: share of the
        visible points that are called so; `visible_accuracy`: share of all points whose visibility is right.

    Raises:
        ValueError: the tracks differ in shape or have a single frame.
    """
    check_same_tracks(predicted.positions, truth.positions)
    if moving is None:
        moving = moving_pixels(truth.positions, truth.camera)
    seen, pred_visible = truth.visibility[1:], predicted.visibility[1:]
    moving = moving.expand_as(seen) & seen
    image = image_error_px(predicted.positions, truth.positions, truth.camera)[1:]
    space = (predicted.positions - truth.positions)[1:].norm(dim=-1)
    relative = space / truth.positions[1:, ..., 2]
    shifts = [(t.positions - t.positions[0])[1:] / t.depth_m[..., None] for t in (predicted, truth)]
    motion = (shifts[0] - shifts[1]).norm(dim=-1)
    both = (seen & pred_visible).sum()
    return {
        "error_px": float(image[seen].mean()),
        "median_px": float(image[seen].nanmedian()),
        "moving_px": float(image[moving].mean()),
        "moving_median_px": float(image[moving].nanmedian()),
        "still_px": float(image[seen & ~moving].mean()),
        "within_1px": float((image[seen] <= 1).float().mean()),
        "moving_within_1px": float((image[moving] <= 1).float().mean()),
        "error_m": float(space[seen].mean()),
        "relative": float(relative[seen].mean()),
        "moving_relative": float(relative[moving].mean()),
        "motion": float(motion[seen].mean()),
        "moving_motion": float(motion[moving].mean()),
        "visible_precision": float(both / pred_visible.sum()),
        "visible_recall": float(both / seen.sum()),
        "visible_accuracy": float((seen == pred_visible).float().mean()),
    }


def check_same_tracks(predicted: Tensor, truth: Tensor) -> None:
    """Refuse positions that cannot be compared.

    Raises:
        ValueError: they differ in shape or have a single frame.
    """
    if predicted.shape != truth.shape or len(truth) < 2:
        raise ValueError(
            f"tracks must have one shape and at least 2 frames, got {tuple(predicted.shape)} "
            f"and {tuple(truth.shape)}"
        )


def image_error_px(
    predicted: Positions, truth: Positions, camera: Camera
) -> Float[Tensor, "frames height width"]:
    """Distance in pixels of the photo between where two sets of tracks appear in the source camera."""
    height, width = truth.shape[1:3]
    size = torch.tensor([width, height], dtype=truth.dtype)
    positions = [camera.project(tracks)[0] * size for tracks in (predicted, truth)]
    return (positions[0] - positions[1]).norm(dim=-1)


def moving_pixels(truth: Positions, camera: Camera, *, threshold_px: float = 0.5) -> Mask:
    """Pixels whose normalised motion ever exceeds `threshold_px` pixels (depth counted like width)."""
    motion = normalise_motion(truth, camera)
    return motion.norm(dim=-1).amax(0) * truth.shape[2] > threshold_px


def follows_direction(predicted: Positions, mask: Mask, direction: str, camera: Camera) -> bool:
    """Whether the pixels of `mask` move, on average and by the end, in `direction`.

    The mean normalised displacement along the named axis must have the right sign and be at least
    `LEAST_WAY`.
    """
    if direction not in DIRECTION_AXES:
        raise ValueError(f"direction must be one of {', '.join(DIRECTION_AXES)}, got '{direction}'")
    if not bool(mask.any()):
        raise ValueError("no pixel is asked about: the mask is empty")
    axis, sign = DIRECTION_AXES[direction]
    end = normalise_motion(predicted, camera)[-1][mask].mean(0)
    return bool(sign * end[axis] >= LEAST_WAY)


def position_errors(stored: Positions, truth: Positions, camera: Camera) -> dict[str, float]:
    """How far tracks moved by being stored.

    Returns:
        `mean_px` and `largest_px` in pixels of the photo, over the points further off than a tenth of their
        depth in frame 0 (nearer, any distance at all is many pixels); `mean_mm` in space, over all points;
        `largest_of_depth`: the largest distance, as a share of the point's depth in frame 0.
    """
    depth_m = truth[0, ..., 2]
    before_camera = truth[..., 2] > 0.1 * depth_m
    pixels = image_error_px(stored, truth, camera)[before_camera]
    distance_m = (stored - truth).norm(dim=-1)
    return {
        "mean_px": float(pixels.mean()),
        "largest_px": float(pixels.max()),
        "mean_mm": 1000 * float(distance_m.mean()),
        "largest_of_depth": float((distance_m / depth_m).max()),
    }


THRESHOLDS_PX = (1, 2, 4, 8, 16)
IMAGE_PX = 256


def tapvid3d(
    predicted: PointTracks, truth: PointTracks, *, scaling: Literal["median", "none"] = "median"
) -> dict[str, float]:
    """The three measures over the frames after the first, in which every point counts, each in [0, 1].

    Args:
        predicted: estimated tracks.
        truth: true tracks; their camera gives the thresholds.
        scaling: "median" first scales the predicted points by the ratio of the median distances from the
            camera, over the points that both call visible, as the benchmark does.

    Returns:
        The first two are means over the five thresholds.

        * `average_jaccard`: 3D-AJ: points right in place and visibility, of these, the wrong and the missed.
        * `average_within`: APD: share of the truly visible points that are within the threshold.
        * `occlusion_accuracy`: OA: share of all points whose visibility is right.

    Raises:
        ValueError: the tracks differ in shape or have a single frame.
    """
    check_same_tracks(predicted.positions, truth.positions)
    seen, pred_visible = truth.visibility[1:], predicted.visibility[1:]
    true, estimate = truth.positions[1:], predicted.positions[1:]
    both = seen & pred_visible
    if scaling == "median" and bool(both.any()):
        estimate = estimate * (_median_range(true, both) / _median_range(estimate, both))
    distance = (estimate - true).norm(dim=-1)
    focal_px = IMAGE_PX * math.sqrt(truth.camera.fx * truth.camera.fy)
    unit = true[..., 2] / focal_px
    jaccards, shares = [], []
    for threshold in THRESHOLDS_PX:
        near = distance < threshold * unit
        hits = (near & both).sum()
        wrong = (pred_visible & ~(seen & near)).sum()
        jaccards.append(hits / (seen.sum() + wrong))
        shares.append((near & seen).sum() / seen.sum())
    return {
        "average_jaccard": float(torch.stack(jaccards).mean()),
        "average_within": float(torch.stack(shares).mean()),
        "occlusion_accuracy": float((seen == pred_visible).float().mean()),
    }


def _median_range(positions: Tensor, where: Tensor) -> Tensor:
    return positions[where].norm(dim=-1).median()
