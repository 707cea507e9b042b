"""How well a preset does on procedural scenes it has never seen.

    python benchmarks/tiny.py --scenes 100 --pairs 24 --output benchmarks/results/tiny.json

Tracks: does the acting object go the way the prompt says; how far do still pixels drift; how far are moving
pixels from the truth (predicting no motion at all is the yardstick). Views: peak signal-to-noise ratio of
filled holes, against pull-push and mid grey. Depth is the scene's own, or with --estimated-depth the
preset's estimate.
"""

import argparse
import json
import platform
import subprocess
from collections import defaultdict
from pathlib import Path

import torch
from einops import rearrange
from tqdm import tqdm

from more4d.datasets.holes import HoleClips, HoleOptions
from more4d.datasets.procedural import HELD_OUT_SEED
from more4d.geometry.motion import denormalise_motion
from more4d.metrics.tracks import follows_direction, image_error_px, moving_pixels
from more4d.networks.tiny_video import fill_smoothly
from more4d.pipelines.guided_upsampling import Guide
from more4d.pipelines.image_to_tracks import generate_motion
from more4d.pipelines.models import Models
from more4d.pipelines.tracks_to_video import fill_holes
from more4d.scenes.capture import capture
from more4d.scenes.library import sample_scene


def mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


def measure_tracks(models: Models, count: int, estimated_depth: bool) -> dict[str, float]:
    """Direction, drift and error over `count` unseen scenes whose captions name one direction."""
    right, by_direction = [], defaultdict(list)
    drift, moving_error, zero_error = [], [], []
    seed = HELD_OUT_SEED
    bar = tqdm(total=count, desc="tracks")
    while len(right) < count:
        seed += 1
        scene = sample_scene(seed)
        directed = [action for action in scene.actions if action.direction]
        if len(directed) != 1:
            continue
        clip = capture(scene, height=96, width=128, frames=models.preset.frames, visibility="none")
        acting = clip.object_ids == directed[0].object_id
        moving = moving_pixels(clip.tracks.positions, clip.tracks.camera)
        if acting.float().mean() < 0.005 or not bool((acting & moving).any()):
            continue
        depth = clip.depth
        if estimated_depth:
            depth = models.depth_estimator().estimate(clip.tracks.colours, clip.tracks.camera)
        motion = generate_motion(
            models, Guide(colours=clip.tracks.colours, depth_m=depth.depth_m), clip.caption, seed=seed
        )
        start, camera = clip.tracks.positions[0], clip.tracks.camera
        predicted = denormalise_motion(rearrange(motion, "c t h w -> t h w c"), start, camera)
        direction = str(directed[0].direction)
        right.append(float(follows_direction(predicted, acting, direction, camera)))
        by_direction[direction].append(right[-1])
        error = image_error_px(predicted, clip.tracks.positions, camera).mean(0)
        still = image_error_px(start.expand_as(predicted), clip.tracks.positions, camera).mean(0)
        drift.append(float(error[~moving].mean()))
        moving_error.append(float(error[moving].mean()))
        zero_error.append(float(still[moving].mean()))
        bar.update()
    bar.close()
    return {
        "scenes": count,
        "direction_right": mean(right),
        **{f"direction_right_{name}": mean(values) for name, values in sorted(by_direction.items())},
        "still_drift_px": mean(drift),
        "moving_error_px": mean(moving_error),
        "moving_error_of_no_motion_px": mean(zero_error),
    }


def measure_views(models: Models, count: int) -> dict[str, float]:
    """Quality of filled holes over `count` unseen pairs: decibels over all hole pixels of a pair,
    averaged.
    """
    pairs = HoleClips(HoleOptions(shapes=((96, 128),)), seed=0, first_seed=HELD_OUT_SEED)
    scores = defaultdict(list)
    for index in tqdm(range(count), desc="views"):
        view = pairs.make(index)
        holes = view.coverage[0, 0] == 0
        if not bool(holes.any()):
            continue
        truth, known = (rearrange(v[0], "c t h w -> t h w c") / 2 + 0.5 for v in (view.truth, view.known))
        filled = fill_holes(models, known, view.coverage[0, 0], truth[0], view.captions[0], seed=index)
        smooth = rearrange(fill_smoothly(view.known, view.coverage)[0], "c t h w -> t h w c") / 2 + 0.5
        for name, video in (("filled", filled), ("pull_push", smooth), ("grey", torch.full_like(truth, 0.5))):
            error = (video - truth)[holes].square().mean()
            scores[f"{name}_psnr_db"].append(float(-10 * error.clamp(min=1e-8).log10()))
        scores["hole_share"].append(float(holes.float().mean()))
    return {"pairs": count, **{name: mean(values) for name, values in scores.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, default=Path("models/tiny"))
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--estimated-depth", action="store_true")
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    arguments = parser.parse_args()
    models = Models.open(arguments.weights)
    result: dict = {
        "hardware": platform.processor() or platform.machine(),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
    }
    if arguments.scenes:
        result["tracks"] = measure_tracks(models, arguments.scenes, arguments.estimated_depth)
    if arguments.pairs:
        result["views"] = measure_views(models, arguments.pairs)
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
