"""The measures of TAPVid-3D (Koppula et al., arXiv 2407.05921): 3D-AJ, APD and OA.

A point is within delta pixels if it is nearer to the truth than the length that delta pixels have at the
true depth: delta Z / f, with f the geometric mean of the focal lengths in pixels of a picture of 256 x 256,
and delta 1, 2, 4, 8 and 16.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from more4d.geometry.tracks import PointTracks

THRESHOLDS_PX = (1, 2, 4, 8, 16)
IMAGE_PX = 256


@dataclass(frozen=True, kw_only=True)
class TapVid3d:
    """Each in [0, 1], the mean over the five thresholds where there are any.

    Attributes:
        average_jaccard: 3D-AJ: points right in place and visibility, of these, the wrong and the missed.
        average_within: APD: share of the truly visible points that are within the threshold.
        occlusion_accuracy: OA: share of all points whose visibility is right.
    """

    average_jaccard: float
    average_within: float
    occlusion_accuracy: float


def tapvid3d(
    predicted: PointTracks, truth: PointTracks, *, scaling: Literal["median", "none"] = "median"
) -> TapVid3d:
    """The three measures over the frames after the first, in which every point is asked about.

    Args:
        predicted: what is said.
        truth: what is so; its camera gives the thresholds.
        scaling: "median" first scales the predicted points by the ratio of the median distances from the
            camera, over the points that both call visible, as the benchmark does.

    Raises:
        ValueError: the tracks differ in shape or have a single frame.
    """
    if predicted.positions.shape != truth.positions.shape or truth.frames < 2:
        raise ValueError(
            f"tracks must have one shape and at least 2 frames, got {tuple(predicted.positions.shape)} "
            f"and {tuple(truth.positions.shape)}"
        )
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
    return TapVid3d(
        average_jaccard=float(torch.stack(jaccards).mean()),
        average_within=float(torch.stack(shares).mean()),
        occlusion_accuracy=float((seen == pred_visible).float().mean()),
    )


def _median_range(positions: Tensor, where: Tensor) -> Tensor:
    return positions[where].norm(dim=-1).median()
