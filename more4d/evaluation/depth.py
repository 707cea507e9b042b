"""Errors of estimated depth on the procedural test set and on RGB-D frames; baseline: a mean per row."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from more4d.evaluation.data import MeasuredFrame, UnseenScene
from more4d.evaluation.record import mean, median
from more4d.evaluation.tracks import native_size
from more4d.files.previews import colourise_depth, depth_limits, save_sheet
from more4d.geometry.camera import Camera, DepthMap
from more4d.metrics.depth import depth_errors, edge_f1
from more4d.pipelines.components import Components
from more4d.pipelines.depth import sharpen_depth
from more4d.scenes.render import render_clip
from more4d.scenes.scene_sampling import sample_scene

FAR_M = 100.0
"""Depth beyond this counts as sky, and is not evaluated."""

SHARPENED_UP_TO = 3 * 128 * 256
"""Larger images are not sharpened: photos are resized before, RGB-D frames are not."""

PROCEDURAL = "procedural"
SURVEYED = 200
ROWS = 24
OURS, WITH_CAMERA, SHARPENED, BY_ROW = "ours", "ours, true camera", "ours, sharpened", "mean by the row"


def measure_scene_depth(
    models: Components, unseen: UnseenScene, *, sheet: Path | None = None
) -> dict[str, Any]:
    """Depth errors of one procedural photo.

    Raises:
        WeightsError: the estimator's file cannot be used.
    """
    height, width = native_size(models.preset)
    clip = render_clip(unseen.scene, height=height, width=width, frames=1, visibility="none")
    errors = _errors(models, clip.tracks.colours, clip.depth, clip.caption, sheet)
    return {"group": PROCEDURAL, "caption": clip.caption, **errors}


def measure_frame_depth(
    models: Components, frame: MeasuredFrame, *, sheet: Path | None = None
) -> dict[str, Any]:
    """Depth errors of one RGB-D frame.

    Raises:
        InputError: a file cannot be read.
        WeightsError: the estimator's file cannot be used.
    """
    photo, truth = frame.read()
    name = f"{frame.group}: {frame.photo.stem}"
    return {"group": frame.group, "caption": name, **_errors(models, photo, truth, name, sheet)}


def _errors(
    models: Components, photo: Float[Tensor, "height width 3"], truth: DepthMap, name: str, sheet: Path | None
) -> dict[str, Any]:
    estimator = models.depth_estimator()
    estimates = {
        OURS: estimator.estimate(photo),
        WITH_CAMERA: estimator.estimate(photo, truth.camera),
        BY_ROW: depth_by_row(*photo.shape[:2]),
    }
    if models.preset.sharpen_depth and photo.numel() <= SHARPENED_UP_TO:
        sharp = sharpen_depth(estimates[OURS].depth_m, photo)
        estimates[SHARPENED] = replace(estimates[OURS], depth_m=sharp)
    if sheet is not None:
        _draw(sheet, photo, truth, estimates[OURS], name)
    evaluated = truth.valid & (truth.depth_m <= FAR_M)
    return {
        label: {
            **depth_errors(estimate, truth, far_m=FAR_M),
            "edge_f1": edge_f1(estimate.depth_m, truth.depth_m, evaluated),
        }
        for label, estimate in estimates.items()
    }


@lru_cache(maxsize=1)
def _mean_rows() -> tuple[Tensor, float]:
    """(mean log depth per row, mean log focal length in image widths) of the first training scenes."""
    clips = [
        render_clip(sample_scene(seed), height=ROWS, width=32, frames=1, visibility="none")
        for seed in range(SURVEYED)
    ]
    rows = torch.stack([clip.depth.depth_m.clamp(max=FAR_M).log().mean(1) for clip in clips]).mean(0)
    focal = torch.tensor([clip.depth.camera.fx for clip in clips]).log().mean()
    return rows, float(focal.exp())


def depth_by_row(height: int, width: int) -> DepthMap:
    """A baseline: the mean log depth of training scenes at each row of the image."""
    rows, focal = _mean_rows()
    log = interpolate(rows.view(1, 1, -1, 1), (height, width), mode="bilinear", align_corners=False)[0, 0]
    camera = Camera(fx=focal, fy=focal * width / height)
    return DepthMap(depth_m=log.exp(), valid=torch.ones(height, width, dtype=torch.bool), camera=camera)


def _draw(path: Path, photo: Tensor, truth: DepthMap, estimate: DepthMap, name: str) -> None:
    evaluated = truth.valid & (truth.depth_m <= FAR_M)
    factor = (truth.depth_m[evaluated] / estimate.depth_m[evaluated]).median()
    limits = depth_limits(truth.depth_m[evaluated])
    known = torch.where(truth.valid, truth.depth_m, torch.nan)
    fields = [f"{each.camera.fov_x_deg:.0f} deg" for each in (truth, estimate)]
    save_sheet(
        path,
        [[photo, *(colourise_depth(each, limits=limits) for each in (known, estimate.depth_m * factor))]],
        captions=[["photo", f"truth, {fields[0]}", f"estimate times {float(factor):.2f}, {fields[1]}"]],
        title=name,
        tile_height=180,
    )


def summarise_depth(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means per set and over all measured frames; of the field of view also the median."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for each in results:
        groups.setdefault(each["group"], []).append(each)
    measured = [each for each in results if each["group"] != PROCEDURAL]
    if measured:
        groups["all measured frames"] = measured
    return {
        group: {
            "frames": len(members),
            **{
                label: _summary([each[label] for each in members])
                for label in (OURS, SHARPENED, WITH_CAMERA, BY_ROW)
                if all(label in each for each in members)
            },
        }
        for group, members in groups.items()
    }


def _summary(errors: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    keys = [key for key in errors[0] if key != "fov_error_deg"]
    fields = [each["fov_error_deg"] for each in errors]
    return {
        **{key: mean(each[key] for each in errors) for key in keys},
        "fov_error_deg": mean(fields),
        "fov_error_median_deg": median(fields),
    }
