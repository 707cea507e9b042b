"""How fast procedural scenes are made on one core, and a page of them to look at.

    OMP_NUM_THREADS=1 python benchmarks/scenes.py --output benchmarks/results/scenes.json
    python benchmarks/scenes.py --sheet docs/scenes.png

Processor time of this process is counted, so that a busy machine tells the same; the wall clock stands beside
it. A scene is sampled, cast, shaded and followed; textures are made before the clock starts.
"""

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from more4d.files.previews import save_sheet
from more4d.geometry.camera import CameraPath
from more4d.scenes.render import SceneClip, render_clip, render_video
from more4d.scenes.scene import Scene
from more4d.scenes.scene_sampling import sample_scene

HEIGHT, WIDTH, FRAMES = 96, 128, 13
SHEET_HEIGHT, SHEET_WIDTH = 96, 128
# chosen for what they show, in the order of the rows
SHEET_SEEDS = (203, 209, 225, 226, 211, 217)


def measure(work: Callable[[int], object], count: int) -> dict[str, float]:
    """Scenes per second of processor time and of wall clock."""
    for seed in range(count):
        work(seed)
    cpu, wall = time.process_time(), time.perf_counter()
    for seed in range(count):
        work(seed)
    return {
        "per_cpu_second": round(count / (time.process_time() - cpu), 2),
        "per_wall_second": round(count / (time.perf_counter() - wall), 2),
    }


def orbit(scene: Scene, clip: SceneClip, frames: int) -> CameraPath:
    """A path that swings around the middle of the picture while looking at it."""
    camera, middle = scene.camera, clip.depth.scene_depth_m
    poses = torch.eye(4).repeat(frames, 1, 1)
    for frame in range(frames):
        angle = torch.tensor(0.35 * frame / max(frames - 1, 1))
        turn = torch.tensor([[angle.cos(), 0, angle.sin()], [0, 1, 0], [-angle.sin(), 0, angle.cos()]])
        pivot = torch.tensor([0.0, 0.0, middle])
        poses[frame, :3, :3], poses[frame, :3, 3] = turn, pivot - turn @ pivot
    intrinsics = torch.tensor([camera.fx, camera.fy, camera.cx, camera.cy]).repeat(frames, 1)
    return CameraPath(name="orbit", world_to_camera=poses, intrinsics=intrinsics)


def run(count: int) -> dict[str, dict[str, float]]:
    """All measurements."""
    size = {"height": HEIGHT, "width": WIDTH}
    return {
        "image_depth_tracks": measure(
            lambda seed: render_clip(sample_scene(seed), frames=FRAMES, visibility="none", **size), count
        ),
        "image_depth_tracks_visibility": measure(
            lambda seed: render_clip(sample_scene(seed), frames=FRAMES, **size), count
        ),
        "full_video_13_frames": measure(
            lambda seed: render_video(sample_scene(seed), frames=FRAMES, **size), count // 4
        ),
    }


def hardware() -> dict[str, str]:
    """Where and what was measured."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [line for line in information.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "processor": model,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "commit": commit,
    }


def coloured(depth_m: Tensor) -> Tensor:
    """Near is warm, far is dark blue, by the rank of the logarithm's range."""
    value = depth_m.log()
    low, high = torch.quantile(value, 0.02), torch.quantile(value, 0.9)
    near = 1 - ((value - low) / (high - low + 1e-6)).clamp(0, 1)
    return torch.stack([near, near * (1 - 0.55 * near), 0.35 + 0.5 * near - 0.8 * near**2], -1).clamp(0, 1)


def overlaid(clip: SceneClip) -> Tensor:
    """The photo with the paths of a grid of moving points, from green to red."""
    picture = clip.tracks.colours.clone() * 0.7
    height, width = picture.shape[:2]
    steps = 120
    moving = (clip.tracks.positions - clip.tracks.positions[:1]).abs().amax((0, 3)) > 1e-5
    grid = torch.zeros(height, width, dtype=torch.bool)
    grid[3::7, 3::7] = True
    paths = clip.tracks.positions[:, moving & grid]
    for step in range(steps):
        place = step / (steps - 1) * (clip.tracks.frames - 1)
        low = min(int(place), clip.tracks.frames - 2)
        points = paths[low] + (place - low) * (paths[low + 1] - paths[low])
        uv, z = clip.tracks.camera.project(points)
        inside = ((uv >= 0) & (uv < 1)).all(-1) & (z > 0)
        rows, columns = (uv[inside, 1] * height).long(), (uv[inside, 0] * width).long()
        picture[rows, columns] = torch.tensor([step / steps, 1 - step / steps, 0.1])
    return picture


def identified(ids: Tensor) -> Tensor:
    """One colour per object."""
    palette = torch.tensor(
        [[0.12, 0.12, 0.14], [0.9, 0.35, 0.2], [0.2, 0.6, 0.9], [0.95, 0.8, 0.2], [0.4, 0.8, 0.4]]
    )
    return palette[ids.clamp(max=len(palette) - 1)]


def draw_sheet(path: Path, seeds: tuple[int, ...]) -> None:
    """Photo, depth, tracks, ids, last frame and an orbit's last frame of some scenes."""
    size = {"height": SHEET_HEIGHT, "width": SHEET_WIDTH}
    rows, labels = [], []
    for seed in seeds:
        scene = sample_scene(seed)
        clip = render_clip(scene, frames=FRAMES, **size)
        last = render_video(scene, frames=FRAMES, **size).frames[-1]
        view = render_video(scene, frames=FRAMES, camera_path=orbit(scene, clip, FRAMES), **size).frames[-1]
        depth, ids = coloured(clip.depth.depth_m), identified(clip.object_ids)
        rows.append([clip.tracks.colours, depth, overlaid(clip), ids, last, view])
        labels.append(f"{seed}: {clip.caption}")
    title = "Procedural scenes: photo, depth, tracks, objects, last frame, last frame of an orbit"
    save_sheet(path, rows, row_labels=labels, title=title, tile_height=SHEET_HEIGHT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file of the measurements")
    parser.add_argument("--sheet", type=Path, help="draw the page of scenes here")
    parser.add_argument("--count", type=int, default=80, help="scenes to measure")
    parser.add_argument("--seeds", type=int, nargs="*", help="seeds of the page")
    arguments = parser.parse_args()
    if arguments.sheet is not None:
        draw_sheet(arguments.sheet, tuple(arguments.seeds or SHEET_SEEDS))
        return
    result = {
        "size": [FRAMES, HEIGHT, WIDTH],
        "threads": torch.get_num_threads(),
        **hardware(),
        **run(arguments.count),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
