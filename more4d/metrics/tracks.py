"""How well generated tracks agree with true ones, and with what was asked for."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from more4d.geometry.camera import Camera
from more4d.geometry.motion import normalise_motion

DIRECTION_AXES = {
    "left": (0, -1.0),
    "right": (0, 1.0),
    "up": (1, -1.0),
    "down": (1, 1.0),
    "toward": (2, -1.0),
    "away": (2, 1.0),
}
"""Axis and sign of each direction a caption can name, in the camera's frame (x right, y down, z forward)."""


def image_error_px(
    predicted: Float[Tensor, "frames height width 3"],
    truth: Float[Tensor, "frames height width 3"],
    camera: Camera,
) -> Float[Tensor, "frames height width"]:
    """Distance in pixels of the photo between where two sets of tracks appear in the source camera."""
    height, width = truth.shape[1:3]
    size = torch.tensor([width, height], dtype=truth.dtype)
    positions = [camera.project(tracks)[0] * size for tracks in (predicted, truth)]
    return (positions[0] - positions[1]).norm(dim=-1)


def moving_pixels(
    truth: Float[Tensor, "frames height width 3"], camera: Camera, *, threshold_px: float = 0.5
) -> Bool[Tensor, "height width"]:
    """Pixels whose normalised motion ever exceeds `threshold_px` pixels (depth counted like width)."""
    motion = normalise_motion(truth, camera)
    return motion.norm(dim=-1).amax(0) * truth.shape[2] > threshold_px


def follows_direction(
    predicted: Float[Tensor, "frames height width 3"],
    mask: Bool[Tensor, "height width"],
    direction: str,
    camera: Camera,
    *,
    least: float = 0.01,
) -> bool:
    """Whether the pixels of `mask` go, on average and by the end, the way `direction` says.

    The mean normalised displacement along the named axis must have the right sign and be at least `least`
    (a hundredth of the picture, or of the depth).
    """
    if direction not in DIRECTION_AXES:
        raise ValueError(f"direction must be one of {', '.join(DIRECTION_AXES)}, got '{direction}'")
    if not bool(mask.any()):
        raise ValueError("no pixel is asked about: the mask is empty")
    axis, sign = DIRECTION_AXES[direction]
    end = normalise_motion(predicted, camera)[-1][mask].mean(0)
    return bool(sign * end[axis] >= least)


@dataclass(frozen=True, kw_only=True)
class PositionErrors:
    """How far tracks moved by being stored.

    Attributes:
        mean_px: in pixels of the photo, over all points in front of the camera.
        largest_px: the largest of these.
        mean_mm: in millimetres, over all points.
        largest_of_depth: the largest distance, as a share of the point's depth in frame 0.
    """

    mean_px: float
    largest_px: float
    mean_mm: float
    largest_of_depth: float


def position_errors(
    stored: Float[Tensor, "frames height width 3"],
    truth: Float[Tensor, "frames height width 3"],
    camera: Camera,
) -> PositionErrors:
    """Compare tracks with what they were before they were stored.

    Pixels are counted where the point is further off than a tenth of its depth in frame 0: nearer, any
    distance at all is many pixels.
    """
    depth_m = truth[0, ..., 2]
    before_camera = truth[..., 2] > 0.1 * depth_m
    pixels = image_error_px(stored, truth, camera)[before_camera]
    distance_m = (stored - truth).norm(dim=-1)
    return PositionErrors(
        mean_px=float(pixels.mean()),
        largest_px=float(pixels.max()),
        mean_mm=1000 * float(distance_m.mean()),
        largest_of_depth=float((distance_m / depth_m).max()),
    )
