"""Holes filled from the completed background against what is filled frame by frame, on procedural scenes.

    python benchmarks/background.py --scenes 24 --output background.json --sheets sheets

Unseen scenes with their true tracks are filmed at 384 x 512 along the camera paths of the evaluation, in
turn, and compared with the true film in the pixels that are holes. Rows:

    smooth       `views.composite`: what 4D-ViSM generated, enlarged
    background   low frequencies of the completed background
    texture      with texture

`sharpness` is the mean gradient in holes over that of the truth. Seconds are CPU seconds of one thread.
"""

import argparse
import json
import os
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from more4d.evaluation.data import unseen_scene
from more4d.evaluation.views import PATHS
from more4d.files.previews import save_sheet
from more4d.geometry.poses import named_camera_path
from more4d.pipeline import More4DPipeline
from more4d.pipelines.background_completion import complete_background
from more4d.pipelines.scene import View
from more4d.pipelines.views import completed_frame
from more4d.scenes.render import render_clip, render_video

SIZE = {"height": 384, "width": 512}
FRAMES = 13
COMPARED = (4, 8, 12)


def gradient(image: Tensor) -> Tensor:
    """Length of the gradient per pixel, over both directions; the last row and column are left out."""
    across, down = image[:-1].diff(dim=1), image[:, :-1].diff(dim=0)
    return (across.square() + down.square()).mean(-1).sqrt()


def measures(video: list[Tensor], truth: Tensor, holes: Tensor) -> dict[str, float]:
    """PSNR in holes in dB, and their sharpness."""
    wrong = torch.cat(
        [(made - true).square().mean(-1)[hole] for made, true, hole in zip(video, truth, holes, strict=True)]
    )
    inner = holes[:, :-1, :-1]
    made = torch.cat([gradient(frame)[hole] for frame, hole in zip(video, inner, strict=True)])
    true = torch.cat([gradient(frame)[hole] for frame, hole in zip(truth, inner, strict=True)])
    return {
        "hole_psnr_db": float(-10 * wrong.mean().log10()),
        "sharpness": float(made.mean() / true.mean()),
    }


def prepared(pipe: More4DPipeline, index: int, split: str) -> dict[str, Any]:
    """A scene with the view of a camera, holes filled by 4D-ViSM, and the true frames that are compared."""
    unseen = unseen_scene(index, split=split)
    clip = render_clip(unseen.scene, frames=FRAMES, visibility="none", finish=False, **SIZE)
    name = PATHS[(index + index // 4) % len(PATHS)]
    path = named_camera_path(
        name, frames=FRAMES, scene_depth_m=clip.depth.scene_depth_m, camera=clip.tracks.camera
    )
    view = pipe.film(clip.tracks, path, clip.caption, seed=index)
    # Every fourth frame shows what is compared: a clip covers the same time whatever its number of frames.
    shown = replace(path, world_to_camera=path.world_to_camera[::4], intrinsics=path.intrinsics[::4])
    truth = render_video(unseen.scene, frames=shown.frames, camera_path=shown, finish=False, **SIZE).frames
    return {
        "tracks": clip.tracks,
        "view": view,
        "truth": truth[1:],
        "path": name,
        "caption": clip.caption,
    }


def measure(scene: dict[str, Any], index: int, sheets: Path | None) -> dict[str, Any]:
    view: View = scene["view"]
    holes = view.rendering.hole_mask[list(COMPARED)]
    result: dict[str, Any] = {"scene": index, "path": scene["path"], "holes": float(holes.float().mean())}
    videos = {"smooth": [completed_frame(view.rendering, view.fill, number) for number in COMPARED]}
    for row, texture in (("background", False), ("texture", True)):
        videos[row], result[f"{row}_seconds"] = fill(scene["tracks"], view, texture=texture)
    result |= {row: measures(video, scene["truth"], holes) for row, video in videos.items()}
    if sheets is not None:
        tiles = [[video[n] for video in videos.values()] + [true] for n, true in enumerate(scene["truth"])]
        titles = [[*videos, "truth"]] * len(COMPARED)
        save_sheet(sheets / f"{index}.png", tiles, captions=titles, title=scene["caption"], tile_height=288)
    return result


def fill(tracks: Any, view: View, *, texture: bool) -> tuple[list[Tensor], dict[str, float]]:
    """The compared frames, and how long the background took, and each of the frames."""
    start = time.process_time()
    background = complete_background(
        tracks, [(view.camera_path, view.rendering.hole_mask)], [view.filled], texture=texture
    )
    between = time.process_time()
    behind = {"background": background, "camera_path": view.camera_path}
    video = [completed_frame(view.rendering, view.fill, number, **behind) for number in COMPARED]
    seconds = {"complete": between - start, "frame": (time.process_time() - between) / len(COMPARED)}
    return video, seconds


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Losses against what 4D-ViSM generated, in dB, and sharpness."""
    lost = [each["texture"]["hole_psnr_db"] - each["smooth"]["hole_psnr_db"] for each in results]
    sharp = [each["texture"]["sharpness"] for each in results]
    return {
        "processors": os.cpu_count(),
        "worst_against_smooth_db": min(lost),
        "mean_against_smooth_db": statistics.mean(lost),
        "below_half_db": [each["scene"] for each, db in zip(results, lost, strict=True) if db < -0.5],
        "sharpness": [min(sharp), statistics.median(sharp), max(sharp)],
        "scenes": results,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=24, help="number of scenes")
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--output", type=Path, required=True, help="file for the numbers")
    parser.add_argument("--sheets", type=Path, help="folder for pictures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pipe = More4DPipeline.from_pretrained("tiny")
    results = []
    for index in range(arguments.scenes):
        scene = prepared(pipe, index, arguments.split)
        results.append(measure(scene, index, arguments.sheets))
        print(json.dumps(results[-1]), flush=True)
        arguments.output.write_text(json.dumps(summary(results), indent=1) + "\n")


if __name__ == "__main__":
    main()
