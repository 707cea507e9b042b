"""Inpainting on the test set: true tracks rendered along a second camera path, against its ground truth.

Perceptual measures need networks that the user provides; a measure without its network is left out. The
baselines that need no network are the nearest colour, pull-push and OpenCV's inpainting (Telea 2004).
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from more4d.evaluation.data import UnseenScene
from more4d.evaluation.record import mean, ratio
from more4d.evaluation.tracks import native_size
from more4d.files.previews import save_sheet
from more4d.foundation.errors import MissingPackageError
from more4d.foundation.optional import require
from more4d.geometry.background import fill_background
from more4d.geometry.poses import named_camera_path
from more4d.metrics.features_backend import ClipSimilarity, Lpips, VideoFeatures
from more4d.metrics.image_quality import (
    frechet_distance,
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

Coverage = Float[Tensor, "frames height width"]
Holes = Bool[Tensor, "frames height width"]

Video = Float[Tensor, "frames height width 3"]
PATHS = tuple("orbit surrounding turn-left static forward_backward anti-surrounding x_moving mix1".split())
"""Camera paths, in turn; a static camera has only the holes that moving objects leave."""

FRONT = "static"
"""The path on which CLIP's similarity is CLIP-F; on all others it is CLIP-O."""

LEAST_HOLES = 0.002
"""Pairs with a smaller fraction of hole pixels are not evaluated."""

MEASURES = ("hole_psnr_db", "psnr_db", "ssim")
COVISIBLE = ("covisible_psnr_db", "covisible_ssim")
RADIUS_PX = 3  # of OpenCV's inpainting
OURS, BEHIND, OPENCV = "ours", "from behind, no network", "OpenCV"
NEAREST, PULL_PUSH, GREY = "nearest colour", "pull-push", "no inpainting"
FILLERS = (OURS, BEHIND, OPENCV, NEAREST, PULL_PUSH, GREY)


class PerceptualMetrics:
    """Perceptual measures with the networks that the user has."""

    def __init__(
        self,
        clip: Path | None = None,
        video_features: Path | None = None,
        *,
        lpips: bool = False,
        device: str | torch.device = "cpu",
    ) -> None:
        """Open the networks; see `run.EvaluationOptions`.

        Raises:
            WeightsError: a folder holds no such model.
            MissingPackageError: LPIPS is requested and not installed.
        """
        self._clip = ClipSimilarity(clip, device=device) if clip else None
        self._features = VideoFeatures(video_features, device=device) if video_features else None
        self._lpips = Lpips.open() if lpips else None

    def compare(self, video: Video, truth: Video, path: str, covisible: Holes) -> dict[str, Any]:
        """The available measures of a video against `truth`, and its features."""
        measured: dict[str, Any] = {}
        if self._clip is not None:
            measured["clip_f" if path == FRONT else "clip_o"] = self._clip.similarity(video, truth)
        if self._lpips is not None:
            measured["lpips"] = self._lpips.distance(video, truth)
            measured["masked_lpips"] = self._lpips.distance(video, truth, covisible)
        if self._features is not None:
            measured["features"] = self.features(video)
        return measured

    def features(self, video: Video) -> list[float] | None:
        """VideoMAE features of a video, for a distance between sets; None without that network."""
        return None if self._features is None else self._features.embed(video).tolist()


def measure_view(
    models: Components, unseen: UnseenScene, perception: PerceptualMetrics, *, sheet: Path | None = None
) -> dict[str, Any]:
    """Measures of every method on one scene along one path.

    Raises:
        WeightsError: a network's file cannot be used.
    """
    height, width = native_size(models.preset)
    size = {"height": height, "width": width, "frames": models.preset.frames}
    clip = render_clip(unseen.scene, visibility="none", **size)
    name = PATHS[(unseen.index + unseen.index // 4) % len(PATHS)]  # so that no path belongs to one stratum
    scene_depth_m, camera = clip.depth.scene_depth_m, clip.tracks.camera
    path = named_camera_path(name, frames=size["frames"], scene_depth_m=scene_depth_m, camera=camera)
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
    # As films are drawn: points twice as large, averaged. The fills start from plain points, as in training.
    drawn = render_tracks(clip.tracks, path, height=height, width=width, supersampling=2)
    seen = ~holes & ~drawn.hole_mask
    for each, pixels in (("rendering", known), ("antialiased", drawn.colour)):
        result[each] = {
            "covisible_psnr_db": float(masked_psnr_db(pixels, truth, seen).clamp(max=100).nanmean()),
            "covisible_ssim": float(masked_ssim(pixels, truth, seen).mean()),
        }
    videos = {OURS: fill_holes(models, rendering, truth[0], clip.caption, seed=unseen.index)}
    videos[BEHIND] = fill_background(rendering.colour, rendering.depth_m, ~holes)
    videos |= fill_without_networks(known, coverage)
    result |= {
        each: {
            "hole_psnr_db": hole_psnr_db(video, truth, holes),
            "change": hole_flicker(video, holes),
            "psnr_db": float(psnr_db(video, truth).clamp(max=100).mean()),
            "ssim": float(ssim(video, truth).mean()),
            **perception.compare(video, truth, name, ~holes),
        }
        for each, video in videos.items()
    }
    result["truth_features"] = perception.features(truth)
    result["truth_change"] = hole_flicker(truth, holes)
    if sheet is not None:
        _draw(sheet, f"{clip.caption} ({name})", known, videos, truth)
    return result


def fill_without_networks(known: Video, coverage: Coverage) -> dict[str, Video]:
    """The baselines; without OpenCV, its inpainting is left out."""
    packed = rearrange(known, "t h w c -> 1 c t h w") * 2 - 1
    smooth = pull_push_fill(packed * coverage, rearrange(coverage, "t h w -> 1 1 t h w"))
    covered = coverage[..., None] > 0.5
    videos = {
        NEAREST: nearest_colour(known, coverage),
        PULL_PUSH: (rearrange(smooth[0], "c t h w -> t h w c") / 2 + 0.5).clamp(0, 1),
        GREY: torch.where(covered, known, 0.5),
    }
    with suppress(MissingPackageError):
        videos[OPENCV] = torch.where(covered, known, opencv_inpainting(known, coverage))
    return videos


def nearest_colour(known: Video, coverage: Coverage) -> Video:
    """Fill hole pixels with the colour of the nearest known pixel in their frame; grey if there is none."""
    filled = torch.full_like(known, 0.5)
    for frame, (image, covered) in enumerate(zip(known, coverage > 0.5, strict=True)):
        if bool(covered.any()):
            rows, columns = distance_transform_edt(
                ~covered.numpy(), return_distances=False, return_indices=True
            )
            filled[frame] = image[torch.from_numpy(rows).long(), torch.from_numpy(columns).long()]
    return filled


def opencv_inpainting(known: Video, coverage: Coverage) -> Video:
    """Fill holes frame by frame with OpenCV's inpainting (Telea 2004), at 8 bits per colour.

    Raises:
        MissingPackageError: OpenCV is not installed.
    """
    cv2 = require("cv2", extra="train")
    filled = []
    for image, covered in zip(known, coverage, strict=True):
        pixels = (image * 255).round().clamp(0, 255).byte().numpy()
        holes = (covered <= 0.5).byte().numpy()
        grown = cv2.inpaint(np.ascontiguousarray(pixels), holes, RADIUS_PX, cv2.INPAINT_TELEA)
        filled.append(torch.from_numpy(grown).float() / 255)
    return torch.stack(filled)


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
    """Means per method over pairs with holes, and the lead in hole PSNR of ours over each baseline."""
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
        **{
            drawn: {key: mean(each[drawn][key] for each in kept) for key in COVISIBLE}
            for drawn in ("rendering", "antialiased")
        },
        **summary,
        "ahead_in_holes_db": ahead,
    }


def summarise_perceptual(results: Sequence[Mapping[str, Any]], name: str) -> dict[str, float | None]:
    """Means of the perceptual measures of method `name`, and the Frechet distance of its features."""
    keys = ("clip_f", "clip_o", "lpips", "masked_lpips")
    summary = {
        key: mean(each[name].get(key) for each in results)
        for key in keys
        if any(key in each[name] for each in results)
    }
    known = [each for each in results if each.get("truth_features") and "features" in each[name]]
    if len(known) > 1:
        videos = torch.tensor([each[name]["features"] for each in known])
        truths = torch.tensor([each["truth_features"] for each in known])
        summary["video_feature_distance"] = frechet_distance(videos, truths)
    return summary
