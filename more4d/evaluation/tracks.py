"""Errors of generated motion on the test set, from true depth with several seeds and from estimated depth.

The baselines are no motion, and the mean motion of the direction that the prompt names.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from more4d.evaluation.data import UnseenScene, large_objects
from more4d.evaluation.record import mean, median, ratio
from more4d.files.previews import colour_ramp, draw_tracks, save_sheet
from more4d.geometry.camera import Camera, resize, working_size
from more4d.geometry.tracks import PointTracks, denormalise_motion, normalise_motion, positions_from_motion
from more4d.metrics.motion import (
    diversity,
    edge_jumps,
    jerk_px,
    max_displacement_px,
    motion_errors,
    moved_mask,
    object_motion_px,
    prompted_objects_move,
)
from more4d.metrics.tracks import follows_direction, tapvid3d
from more4d.pipelines.codec_check import through_codec
from more4d.pipelines.components import Components
from more4d.pipelines.motion_filters import Guide, joint_bilateral_source
from more4d.pipelines.moving_objects import move_as_wholes
from more4d.pipelines.preset import Preset
from more4d.pipelines.prompt_words import understand
from more4d.pipelines.tracks import generate_motion, seen_by_source_camera
from more4d.scenes.render import SceneClip, render_clip, render_image
from more4d.scenes.scene_sampling import sample_scene

Positions = Float[Tensor, "frames height width 3"]
SURVEYED = 200
"""Number of training scenes whose motions are averaged."""

MeanMotion = dict[str | None, Float[Tensor, "frames 3"]]
"""By the direction that the prompt names; None for motions without one."""

PHOTO_SCALE = 2
"""The photo is rendered at twice the size that the networks generate at: motion features look closer."""
OURS, NO_MOTION, MEAN_MOTION, ESTIMATED = "ours", "no motion", "mean motion", "ours, estimated depth"
WHOLE = "ours, whole objects"


def mean_motion(frames: int) -> MeanMotion:
    """The mean normalised motion of moving objects, by direction, over the first training scenes."""
    found: dict[str | None, list[Tensor]] = defaultdict(list)
    for seed in range(SURVEYED):
        clip = render_clip(sample_scene(seed), height=24, width=32, frames=frames, visibility="none")
        motion = normalise_motion(clip.tracks.positions, clip.tracks.camera)
        for action in clip.actions:
            pixels = clip.object_ids == action.object_id
            if action.verb != "still" and bool(pixels.any()):
                found[action.direction].append(motion[:, pixels].mean(1))
    return {direction: torch.stack(motions).mean(0) for direction, motions in found.items()}


def apply_mean_motion(clip: SceneClip, means: MeanMotion) -> Positions:
    """A baseline: every object in the prompt moves by the mean of its direction, within its true mask.

    Returns:
        Positions in metres, in the coordinates of the photo's camera.
    """
    tracks = clip.tracks
    motion = torch.zeros_like(tracks.positions)
    for action in clip.actions:
        if action.verb != "still" and action.direction in means:
            motion[:, clip.object_ids == action.object_id] = means[action.direction][:, None]
    return denormalise_motion(motion, tracks.positions[0], tracks.camera)


def native_size(preset: Preset) -> tuple[int, int]:
    """Height and width of a 4:3 image at the resolution of the networks, in pixels."""
    return working_size(3, 4, pixels=preset.pixels, multiple=preset.multiple)


def measure_tracks(
    models: Components,
    unseen: UnseenScene,
    means: MeanMotion,
    *,
    seeds: int,
    estimated_depth: bool = True,
    sheet: Path | None = None,
) -> dict[str, Any]:
    """All measures of one scene, as plain numbers; `summarise_tracks` averages them over scenes.

    Args:
        means: from `mean_motion`.
        seeds: motions generated.
        estimated_depth: whether the motion is generated from the estimated depth as well.
        sheet: file for a contact sheet of photo, ground truth and generated motion.

    Raises:
        WeightsError: a network's file cannot be used.
    """
    height, width = native_size(models.preset)
    clip = render_clip(unseen.scene, height=height, width=width, frames=models.preset.frames)
    truth, camera = clip.tracks.positions, clip.tracks.camera
    photo = render_image(unseen.scene, height=PHOTO_SCALE * height, width=PHOTO_SCALE * width)
    guide = Guide(colours=clip.tracks.colours, depth_m=clip.depth.depth_m)
    first = 1000 * unseen.index
    ours = [_generated(models, guide, clip, seed, photo) for seed in range(first, first + seeds)]
    still = truth[:1].expand_as(truth)
    by_mean = apply_mean_motion(clip, means)
    where = moved_mask(truth, camera)
    codec = through_codec(models, clip.tracks)
    result: dict[str, Any] = {
        "seed": unseen.seed,
        "caption": clip.caption,
        "held_out": unseen.held_out,
        "several": unseen.several,
        "moving_share": float(where.float().mean()),
        OURS: [about_positions(positions, clip) for positions in ours],
        NO_MOTION: [about_positions(still, clip)],
        MEAN_MOTION: [about_positions(by_mean, clip)],
        "diversity": diversity(ours, truth, camera) if len(ours) > 1 else None,
        "truth": _shape(truth, clip),
        "codec": {
            "errors": motion_errors(codec.positions, truth, camera),
            "jerk_px": jerk_px(codec.positions, camera, where),
        },
        "tapvid3d": {
            name: _tapvid3d(clip.tracks, positions, camera)
            for name, positions in ((OURS, ours[0]), (NO_MOTION, still), (MEAN_MOTION, by_mean))
        },
    }
    if models.preset.whole_objects:
        # Objects are found at the size of the photo; the motion that they get is compared as all others are.
        large_m = resize(guide.depth_m[..., None], *photo.shape[:2], mode="nearest")[..., 0]
        picks = joint_bilateral_source(guide, Guide(colours=photo, depth_m=large_m))
        normalised = (normalise_motion(positions, camera) for positions in ours)
        wholes = [move_as_wholes(motion, photo, large_m, picks=picks)[0] for motion in normalised]
        result[WHOLE] = [
            about_positions(denormalise_motion(motion, truth[0], camera), clip) for motion in wholes
        ]
    if estimated_depth:
        estimate = models.depth_estimator().estimate(clip.tracks.colours)
        guide = replace(guide, depth_m=estimate.depth_m)
        motion = _motion(models, guide, clip.caption, first, photo)
        result[ESTIMATED] = [about_positions(denormalise_motion(motion, truth[0], camera), clip)]
        own = positions_from_motion(motion, estimate.points, estimate.camera)
        result["tapvid3d"][ESTIMATED] = _tapvid3d(clip.tracks, own, estimate.camera)
    if sheet is not None:
        _draw(sheet, clip, ours, codec.positions)
    return result


def _generated(models: Components, guide: Guide, clip: SceneClip, seed: int, photo: Tensor) -> Positions:
    motion = _motion(models, guide, clip.caption, seed, photo)
    return denormalise_motion(motion, clip.tracks.positions[0], clip.tracks.camera)


def _motion(
    models: Components, guide: Guide, prompt: str, seed: int, photo: Tensor
) -> Float[Tensor, "frames height width 3"]:
    """Normalised motion as the pipeline generates it of a prompt in words of captions."""
    clauses = understand(prompt, models.preset).clauses
    motion = generate_motion(models, guide, prompt, clauses, seed=seed, photo=photo)
    return rearrange(motion, "xyz t h w -> t h w xyz")


def _tapvid3d(truth: PointTracks, positions: Positions, camera: Camera) -> dict[str, float]:
    """Of positions with the visibility in the photo's camera that follows from them."""
    seen = seen_by_source_camera(positions, camera)
    return tapvid3d(replace(truth, positions=positions, visibility=seen, camera=camera), truth)


def about_positions(positions: Positions, clip: SceneClip) -> dict[str, Any]:
    """Measures of one prediction against the ground truth, as plain numbers."""
    tracks = clip.tracks
    errors = motion_errors(positions, tracks.positions, tracks.camera)
    movers = [action for action in clip.actions if action.verb != "still"]
    large = large_objects(clip)
    objects = [
        object_motion_px(each, clip.object_ids, tracks.camera) for each in (positions, tracks.positions)
    ]
    return {
        "errors": errors,
        "directions": [
            [
                action.direction,
                follows_direction(
                    positions, clip.object_ids == action.object_id, action.direction, tracks.camera
                ),
            ]
            for action in movers
            if action.direction and action.object_id in large
        ],
        "objects": prompted_objects_move(objects[0], objects[1], [action.object_id for action in movers]),
        **_shape(positions, clip),
    }


def _shape(positions: Positions, clip: SceneClip) -> dict[str, float]:
    """Smoothness of tracks, in time and between neighbouring pixels."""
    camera = clip.tracks.camera
    border_px, inside_px = edge_jumps(positions, clip.object_ids, camera)
    jerk = jerk_px(positions, camera, moved_mask(clip.tracks.positions, camera))
    return {"jerk_px": jerk, "border_px": border_px, "inside_px": inside_px}


def _draw(path: Path, clip: SceneClip, ours: Sequence[Positions], codec: Positions) -> None:
    """A contact sheet: photo, tracks of the last frame and displacement of each pixel, true and generated."""
    tracks = clip.tracks
    versions = {"truth": tracks.positions}
    versions |= {f"seed {index}": each for index, each in enumerate(ours[:2])}
    versions["truth through codec"] = codec
    true_way = max_displacement_px(tracks.positions, tracks.camera)
    full = float(true_way[true_way > 0].quantile(0.9).clamp(min=4))
    drawn = [draw_tracks(replace(tracks, positions=each), frames=[-1])[0] for each in versions.values()]
    ways = [colour_ramp(max_displacement_px(each, tracks.camera) / full) for each in versions.values()]
    save_sheet(
        path,
        [[tracks.colours, *drawn], [clip.object_ids.gt(0).float()[..., None].expand(-1, -1, 3), *ways]],
        captions=[["photo", *versions], ["objects", *[f"how far, pale is {full:.0f} px"] * len(ways)]],
        title=clip.caption,
        tile_height=180,
    )


def summarise_tracks(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over scenes: of generated motion, baselines, subsets of the test set, codec and smoothness."""
    names = [
        name
        for name in (OURS, WHOLE, ESTIMATED, MEAN_MOTION, NO_MOTION)
        if any(name in each for each in results)
    ]
    parts = {
        "all pairs known to training": [each for each in results if not each["held_out"]],
        "a pair never seen": [each for each in results if each["held_out"]],
        "one of several moves": [each for each in results if each["several"]],
    }
    return {
        "scenes": len(results),
        "seeds": len(results[0][OURS]) if results else 0,
        **{name: _summary(results, name) for name in names},
        "parts": {name: _summary(each, OURS) for name, each in parts.items() if each},
        "codec": _codec_summary(results),
    }


def _summary(results: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    kept = [each for each in results if name in each]
    runs = [run for each in kept for run in each[name]]

    def over(key: str) -> float | None:
        return mean(run["errors"][key] for run in runs)

    errors = [[run["errors"]["moving_px"] for run in each[name]] for each in kept]
    best = mean(min((px for px in each if px is not None), default=None) for each in errors)
    directions = [pair for run in runs for pair in run["directions"]]
    objects = [run["objects"] for run in runs if run["objects"]]
    tapvid = [each["tapvid3d"][name] for each in kept if name in each["tapvid3d"]]
    truth_jerk = mean(each["truth"]["jerk_px"] for each in kept)
    edges = ratio(mean(run["border_px"] for run in runs), mean(run["inside_px"] for run in runs))
    truth_edges = ratio(
        mean(each["truth"]["border_px"] for each in kept), mean(each["truth"]["inside_px"] for each in kept)
    )
    return {
        "scenes": len(kept),
        "moving_error_px": over("moving_px"),
        "moving_error_median_px": over("moving_median_px"),
        "moving_error_m": over("moving_m"),
        "share_of_no_motion": ratio(over("moving_px"), over("no_motion_px")),
        "share_of_no_motion_median": ratio(over("moving_median_px"), over("no_motion_median_px")),
        "share_of_no_motion_m": ratio(over("moving_m"), over("no_motion_m")),
        "best_of_seeds_share": ratio(best, over("no_motion_px")),
        "motion_iou": over("iou"),
        "leak": over("leak"),
        "still_drift_px": over("drift_px"),
        "extent": ratio(over("taken_px"), over("no_motion_px")),
        "direction_accuracy": mean(right for _, right in directions),
        "directions": {
            way: mean(right for each, right in directions if each == way)
            for way in sorted({each for each, _ in directions})
        },
        "prompted_object_moves": mean(right for right, _ in objects),
        "others_stay_still": mean(still for _, still in objects),
        "diversity": mean(each["diversity"] for each in kept) if name == OURS else None,
        "jerk_of_truth": ratio(mean(run["jerk_px"] for run in runs), truth_jerk),
        "cell_edges": edges,
        "cell_edges_of_truth": truth_edges,
        "average_jaccard_3d": mean(each["average_jaccard"] for each in tapvid),
        "average_points_within": mean(each["average_within"] for each in tapvid),
        "visibility_accuracy": mean(each["occlusion_accuracy"] for each in tapvid),
    }


def _codec_summary(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Median errors of the moving pixels over the medians of their motion: of all scenes, and of each."""
    errors = [each["codec"]["errors"] for each in results]
    off, gone = ([each[key] for each in errors] for key in ("moving_median_px", "no_motion_median_px"))
    return {
        "relative_error": ratio(mean(off), mean(gone)),
        "relative_error_median_scene": median(map(ratio, off, gone)),
        "still_px": mean(each["drift_px"] for each in errors),
        "jerk_of_truth": ratio(
            mean(each["codec"]["jerk_px"] for each in results),
            mean(each["truth"]["jerk_px"] for each in results),
        ),
    }
