"""Filled holes on the test set: true tracks seen from a second camera, against what that camera really
sees.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from more4d.evaluation.baselines import nearest_colour
from more4d.evaluation.inpainting_backend import opencv_inpainting
from more4d.evaluation.perception import PerceptualMetrics, summarise_perceptual
from more4d.evaluation.record import mean, ratio
from more4d.evaluation.tracks import native_size
from more4d.evaluation.unseen import UnseenScene
from more4d.files.previews import save_sheet
from more4d.foundation.errors import MissingPackageError
from more4d.geometry.background import fill_background
from more4d.geometry.camera_paths import named_camera_path
from more4d.metrics.image_quality import (
    hole_flicker,
    hole_psnr_db,
    masked_psnr_db,
    masked_ssim,
    psnr_db,
    ssim,
)
from more4d.networks.tiny_video import pull_push_fill
from more4d.pipelines.components import Components
from more4d.pipelines.views import fill_holes
from more4d.raster.render import render_tracks
from more4d.scenes.render import render_clip, render_video

Video = Float[Tensor, "frames height width 3"]
PATHS = (
    "orbit",
    "surrounding",
    "turn-left",
    "static",
    "forward_backward",
    "anti-surrounding",
    "x_moving",
    "mix1",
)
"""One after the other; a still camera sees only the holes that moving things leave."""

LEAST_HOLES = 0.002
"""Pairs with a smaller share of holes are not asked about."""

MEASURES = ("hole_psnr_db", "psnr_db", "ssim")
OURS, BEHIND, OPENCV = "ours", "from behind, no network", "OpenCV"
NEAREST, PULL_PUSH, GREY = "nearest colour", "pull-push", "no inpainting"
FILLERS = (OURS, BEHIND, OPENCV, NEAREST, PULL_PUSH, GREY)


def measure_view(
    models: Components, unseen: UnseenScene, perception: PerceptualMetrics, *, sheet: Path | None = None
) -> dict[str, Any]:
    """One scene along one path: every filler's holes against the truth.

    Raises:
        WeightsError: a network's file cannot be used.
    """
    height, width = native_size(models.preset)
    size = {"height": height, "width": width, "frames": models.preset.frames}
    clip = render_clip(unseen.scene, visibility="none", **size)
    name = PATHS[(unseen.index + unseen.index // 4) % len(PATHS)]  # no path belongs to one stratum
    path = named_camera_path(
        name,
        frames=models.preset.frames,
        scene_depth_m=clip.depth.scene_depth_m,
        camera=clip.tracks.camera,
    )
    rendering = render_tracks(clip.tracks, path, height=height, width=width)
    holes = rendering.hole_mask
    result: dict[str, Any] = {
        "seed": unseen.seed,
        "caption": clip.caption,
        "path": name,
        "hole_share": float(holes.float().mean()),
    }
    if result["hole_share"] < LEAST_HOLES:
        return result
    truth = render_video(unseen.scene, camera_path=path, **size).frames
    coverage = (~holes).float()
    known = rendering.colour * coverage[..., None]
    result["rendering"] = {
        "covisible_psnr_db": float(masked_psnr_db(known, truth, ~holes).clamp(max=100).nanmean()),
        "covisible_ssim": float(masked_ssim(known, truth, ~holes).mean()),
    }
    videos = {OURS: fill_holes(models, rendering, truth[0], clip.caption, seed=unseen.index)}
    videos[BEHIND] = fill_background(rendering.colour, rendering.depth_m, ~holes)
    videos |= fill_without_networks(known, coverage)
    result |= {
        each: {**compare_video(video, truth, holes), **perception.compare(video, truth, name, ~holes)}
        for each, video in videos.items()
    }
    result["truth_features"] = perception.features(truth)
    result["truth_change"] = hole_flicker(truth, holes)
    if sheet is not None:
        _draw(sheet, f"{clip.caption} ({name})", known, videos, truth)
    return result


def fill_without_networks(known: Video, coverage: Float[Tensor, "frames height width"]) -> dict[str, Video]:
    """The baselines; OpenCV's is left out where it is not installed."""
    packed = rearrange(known, "t h w c -> 1 c t h w") * 2 - 1
    smooth = pull_push_fill(packed * coverage, rearrange(coverage, "t h w -> 1 1 t h w"))
    videos = {
        NEAREST: nearest_colour(known, coverage),
        PULL_PUSH: (rearrange(smooth[0], "c t h w -> t h w c") / 2 + 0.5).clamp(0, 1),
        GREY: torch.where(coverage[..., None] > 0.5, known, 0.5),
    }
    try:
        grown = opencv_inpainting(known, coverage)
    except MissingPackageError:
        return videos
    return {**videos, OPENCV: torch.where(coverage[..., None] > 0.5, known, grown)}


def compare_video(video: Video, truth: Video, holes: Bool[Tensor, "frames height width"]) -> dict[str, float]:
    """One filler's measures: in the holes, and of whole frames."""
    return {
        "hole_psnr_db": hole_psnr_db(video, truth, holes),
        "change": hole_flicker(video, holes),
        "psnr_db": float(psnr_db(video, truth).clamp(max=100).mean()),
        "ssim": float(ssim(video, truth).mean()),
    }


def _draw(path: Path, title: str, known: Video, videos: Mapping[str, Video], truth: Video) -> None:
    rows = {"seen": known, **{each: videos[each] for each in FILLERS if each in videos}, "truth": truth}
    frames = [round(part * (len(truth) - 1)) for part in (0.4, 0.7, 1)]
    save_sheet(
        path,
        [[video[frame] for video in rows.values()] for frame in frames],
        captions=[list(rows) for _ in frames],
        title=title,
        tile_height=120,
    )


def summarise_views(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over pairs that have holes, per filler; and how far ours is ahead of each."""
    kept = [each for each in results if OURS in each]
    names = [name for name in FILLERS if any(name in each for each in kept)]
    summary: dict[str, Any] = {
        name: {
            **{key: mean(each[name][key] for each in kept) for key in MEASURES},
            "flicker": ratio(
                mean(each[name]["change"] for each in kept), mean(each["truth_change"] for each in kept)
            ),
            **summarise_perceptual(kept, name),
        }
        for name in names
    }
    ahead = {
        name: mean(
            each[OURS]["hole_psnr_db"] - each[name]["hole_psnr_db"]
            for each in kept
            if each[OURS]["hole_psnr_db"] is not None
        )
        for name in names
        if name != OURS
    }
    return {
        "pairs": len(results),
        "pairs_with_holes": len(kept),
        "hole_share": mean(each["hole_share"] for each in kept),
        "rendering": {
            key: mean(each["rendering"][key] for each in kept)
            for key in ("covisible_psnr_db", "covisible_ssim")
        },
        **summary,
        "ahead_in_holes_db": ahead,
    }
