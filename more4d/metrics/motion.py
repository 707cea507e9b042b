"""How good generated motion is: distance to the truth, prompted objects, stillness of the rest, smoothness.

All numbers are in pixels of the image that the motion belongs to, except where metres are named. Motion in
depth counts like motion sideways: a pixel of motion is 1 / width of normalised motion (`geometry.tracks`). A
pixel **moves** if it is ever more than `MOVING_PX` away from where it began; all others are **still**.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from more4d.geometry.camera import Camera
from more4d.geometry.tracks import normalise_motion
from more4d.metrics.tracks import Mask, Positions, check_same_tracks, image_error_px

ObjectIds = Int[Tensor, "height width"]

MOVING_PX = 1.0
MIN_AREA_SHARE = 0.005
"""Objects that cover less of the image than this are left out."""


def motion_px(positions: Positions, camera: Camera) -> Float[Tensor, "frames height width 3"]:
    """Normalised motion in pixels: all three axes in units of 1 / width."""
    return normalise_motion(positions, camera) * positions.shape[2]


def max_displacement_px(positions: Positions, camera: Camera) -> Float[Tensor, "height width"]:
    """How far each pixel ever is from where it began."""
    return motion_px(positions, camera).norm(dim=-1).amax(0)


def moved_mask(positions: Positions, camera: Camera, *, threshold_px: float = MOVING_PX) -> Mask:
    """The pixels that ever are more than `threshold_px` from where they began."""
    return max_displacement_px(positions, camera) > threshold_px


def motion_errors(predicted: Positions, truth: Positions, camera: Camera) -> dict[str, float]:
    """One generated motion against the true one; both are in the photo's camera and start at the same points.

    Distances are means over the frames after the first, in the image, hidden points included.

    Returns:
        NaN where no pixel of the kind is there.

        * `moving_px`: mean over the pixels that truly move; `moving_median_px`: median over these pixels and
          the frames; `moving_m`: mean distance in space, in metres.
        * `no_motion_px`, `no_motion_median_px`, `no_motion_m`: what predicting no motion has for these.
        * `drift_px`: mean over the still pixels: how far they are taken; `leak`: share of them that move.
        * `iou`: of the pixels that move with those that truly move: their intersection over their union.
        * `taken_px`: how far the moving pixels are taken; `no_motion_px` is how far they truly go.

    Raises:
        ValueError: the shapes differ, or there is a single frame.
    """
    check_same_tracks(predicted, truth)
    unmoved = truth[:1].expand_as(truth)
    off, gone = (image_error_px(tracks, truth, camera)[1:] for tracks in (predicted, unmoved))
    taken = image_error_px(predicted, unmoved, camera)[1:]
    moving, pred_moving = moved_mask(truth, camera), moved_mask(predicted, camera)
    distance_m, way_m = (
        (tracks - truth)[1:].norm(dim=-1)[:, moving].mean() for tracks in (predicted, unmoved)
    )
    return {
        "moving_px": float(off[:, moving].mean()),
        "moving_median_px": float(off[:, moving].nanmedian()),
        "no_motion_px": float(gone[:, moving].mean()),
        "no_motion_median_px": float(gone[:, moving].nanmedian()),
        "moving_m": float(distance_m),
        "no_motion_m": float(way_m),
        "drift_px": float(off[:, ~moving].mean()),
        "leak": float(pred_moving[~moving].float().mean()),
        "iou": float((moving & pred_moving).sum() / (moving | pred_moving).sum()),
        "taken_px": float(taken[:, moving].mean()),
    }


def object_motion_px(positions: Positions, object_ids: ObjectIds, camera: Camera) -> dict[int, float]:
    """Per object that is large enough: the mean over its pixels of how far each ever is from its start."""
    farthest = max_displacement_px(positions, camera)
    objects = {number: object_ids == number for number in object_ids.unique().tolist() if number > 0}
    return {
        number: float(farthest[mask].mean())
        for number, mask in objects.items()
        if float(mask.float().mean()) >= MIN_AREA_SHARE
    }


def prompted_objects_move(
    predicted_px: Mapping[int, float], truth_px: Mapping[int, float], prompted: Iterable[int]
) -> tuple[bool, bool] | None:
    """(prompted objects move and no other moves as much, the others are still); None without any prompted or
    without any other object.

    A prompted object moves if it goes `MOVING_PX`, or half of its true way where that is short (a nod). The
    others do not move as much if none goes half as far as the prompted one that goes least; they are
    still if none goes `MOVING_PX`.

    Args:
        predicted_px: `object_motion_px` of the generated motion.
        truth_px: the same of the true motion.
        prompted: the objects that the prompt lets move; those that are too small are left out.
    """
    prompted = set(prompted) & predicted_px.keys()
    others = [way for number, way in predicted_px.items() if number not in prompted]
    if not prompted or not others:
        return None
    going = all(predicted_px[number] >= min(MOVING_PX, truth_px[number] / 2) for number in prompted)
    weakest = min(predicted_px[number] for number in prompted)
    return going and max(others) < weakest / 2, max(others) < MOVING_PX


def diversity(predictions: Sequence[Positions], truth: Positions, camera: Camera) -> float:
    """How unlike several predictions for one prompt are: the mean distance of two of them where the truth
    moves, as a share of the true way. 0: all are one.

    Raises:
        ValueError: there is only one prediction.
    """
    if len(predictions) < 2:
        raise ValueError(f"diversity needs at least 2 predictions, got {len(predictions)}")
    moving = moved_mask(truth, camera)
    way = image_error_px(truth[:1].expand_as(truth), truth, camera)[1:, moving].mean()
    apart = [
        image_error_px(first, second, camera)[1:, moving].mean()
        for index, first in enumerate(predictions)
        for second in predictions[index + 1 :]
    ]
    return float(torch.stack(apart).mean() / way)


def jerk_px(positions: Positions, camera: Camera, where: Mask) -> float:
    """Mean length of the third difference in time, in pixels per frame cubed; NaN where there is no pixel.

    Raises:
        ValueError: there are fewer than 4 frames.
    """
    if len(positions) < 4:
        raise ValueError(f"jerk needs at least 4 frames, got {len(positions)}")
    return float(motion_px(positions, camera)[:, where].diff(n=3, dim=0).norm(dim=-1).mean())


def edge_jumps(
    positions: Positions, object_ids: ObjectIds, camera: Camera, *, cell: int = 8
) -> tuple[float, float]:
    """Jumps of motion between neighbouring pixels of one object, in pixels of motion: means over those that
    straddle the border of two cells of `cell` pixels (of the latent grid), and over all others.

    Equal ones mean that no cell is visible. Outlines of objects do not count, since there motion does jump.
    """
    motion = motion_px(positions, camera)[1:]
    border, inside = [], []
    for axis in (0, 1):
        jump = motion.diff(dim=axis + 1).norm(dim=-1).mean(0)
        length = object_ids.shape[axis]
        same = object_ids.narrow(axis, 1, length - 1) == object_ids.narrow(axis, 0, length - 1)
        at_border = torch.arange(1, length) % cell == 0
        at_border = at_border.view((-1, 1) if axis == 0 else (1, -1))
        border.append(jump[same & at_border])
        inside.append(jump[same & ~at_border])
    return float(torch.cat(border).mean()), float(torch.cat(inside).mean())


def motion_magnitude(
    moving: Float[Tensor, "frames height width channels"],
    static: Float[Tensor, "frames height width channels"],
) -> float:
    """Mean squared difference of two videos in [0, 1] that were rendered along one path: 0 if nothing moves.

    Raises:
        ValueError: the videos differ in shape.
    """
    if moving.shape != static.shape:
        raise ValueError(
            f"videos must have one shape, got {tuple(moving.shape)} and {tuple(static.shape)}; film both "
            "along one path"
        )
    return float((moving - static).square().mean())
