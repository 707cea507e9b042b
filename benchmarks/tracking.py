"""Errors of point trackers on procedural videos and on a real pair of RGB-D frames.

    python benchmarks/tracking.py --scenes 16 --output benchmarks/results/tracking.json
    python benchmarks/tracking.py --tracker cotracker --device cuda --scenes 16

Procedural videos (192 x 256, 25 frames) have exact tracks. They are rendered with a static camera and along
camera paths, and tracked with the true depth and with depth estimated by the small network; the true field of
view is given. Camera motion is then estimated from the tracks and compared with the ground truth. Errors in
metres include those of estimated depth; `motion` does not depend on its scale.

The real pair is from DeepDeform (a shirt, 640 x 480, measured depth, 110 frames apart; the truth is dense
flow and scene flow of the shirt). `no motion` has the errors of static points.
"""

import argparse
import json
import math
import platform
import subprocess
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from more4d.datasets.procedural import HELD_OUT_SEED
from more4d.depth.interface import DepthEstimator
from more4d.depth.registry import open_depth_estimator
from more4d.files.image import load_depth_image, load_image
from more4d.geometry.camera import Camera, CameraPath, DepthMap
from more4d.geometry.poses import named_camera_path, rigid_inverse, so3_log
from more4d.geometry.tracks import PointTracks
from more4d.metrics.tracks import moving_pixels, track_errors
from more4d.scenes.render import render_clip, render_video
from more4d.scenes.scene_sampling import sample_scene
from more4d.tracking.camera_motion import estimate_camera_motion, remove_camera_motion
from more4d.tracking.interface import PointTracker
from more4d.tracking.registry import open_tracker

HEIGHT, WIDTH, FRAMES = 192, 256, 25
PATHS = ("x_moving", "surrounding", "turn-left", "orbit")
STRENGTH = 0.5
SEEN_TOLERANCE = 0.01
PAIR = "neuraltracking-pair/seq258"


@dataclass(frozen=True, kw_only=True)
class FilmedClip:
    """A video with its ground truth.

    Attributes:
        video: [frames, height, width, 3].
        depth_m: true depth of every frame.
        tracks: the truth, in each frame's own camera.
        moving: pixels of frame 0 that move in the world.
        camera_path: where the camera was; None if it stood still.
    """

    video: Tensor
    depth_m: Tensor
    tracks: PointTracks
    moving: Tensor
    camera_path: CameraPath | None


def render_camera_clip(
    seed: int, path_name: str | None, *, height: int = HEIGHT, width: int = WIDTH, frames: int = FRAMES
) -> FilmedClip:
    """Render a procedural scene with a static camera, or along a named path.

    Seen from a moving camera, a point counts as visible where it lies at most 1 % behind the true depth round
    its place in the image.
    """
    scene = sample_scene(seed)
    clip = render_clip(scene, height=height, width=width, frames=frames)
    world = clip.tracks
    path, tracks = None, world
    if path_name is not None:
        path = named_camera_path(
            path_name,
            frames=frames,
            scene_depth_m=clip.depth.scene_depth_m,
            camera=scene.camera,
            strength=STRENGTH,
        )
    movie = render_video(scene, height=height, width=width, frames=frames, camera_path=path)
    if path is not None:
        positions = torch.stack([path.to_camera(t, world.positions[t]) for t in range(frames)])
        seen = torch.stack([seen_at(positions[t], movie.depth_m[t], scene.camera) for t in range(frames)])
        tracks = replace(world, positions=positions, visibility=seen)
    return FilmedClip(
        video=movie.frames,
        depth_m=movie.depth_m,
        tracks=tracks,
        moving=moving_pixels(world.positions, world.camera, threshold_px=1.0),
        camera_path=path,
    )


def seen_at(points: Tensor, depth_m: Tensor, camera: Camera) -> Tensor:
    """Whether points in a camera's own frame are what it sees, by the depth of the four pixels round them."""
    height, width = depth_m.shape
    position, depth = camera.project(points)
    inside = (depth > 0) & (position >= 0).all(-1) & (position < 1).all(-1)
    place = torch.where(inside[..., None], position, 0.5) * torch.tensor([width, height]) - 0.5
    column, row = place.floor().long().unbind(-1)
    round_it = [
        depth_m[(row + down).clamp(0, height - 1), (column + right).clamp(0, width - 1)]
        for down in (0, 1)
        for right in (0, 1)
    ]
    return inside & (depth <= torch.stack(round_it).amax(0) * (1 + SEEN_TOLERANCE))


def estimate_depths(estimator: DepthEstimator, video: Tensor, camera: Camera) -> Tensor:
    """Estimated depth of every frame independently."""
    return torch.stack([estimator.estimate(frame, camera).depth_m for frame in video])


def camera_errors(clip: FilmedClip, tracked: PointTracks) -> dict[str, float]:
    """Errors of the estimated camera motion, in the worst frame.

    `camera_still_px`: how far it displaces the median point of the scene in the image, the points of frame
    0 being where the tracker's depth puts them. `camera_turn_deg`: error of the rotation. `camera_shift`:
    error of the translation, each in scene depths of its own.
    """
    motion = estimate_camera_motion(tracked)
    true = clip.camera_path.world_to_camera if clip.camera_path else torch.eye(4).expand(FRAMES, 4, 4)
    size = torch.tensor([clip.tracks.width, clip.tracks.height])
    poses, places, shifts = [motion.world_to_camera.double(), true.double()], [], []
    for pose, tracks in zip(poses, (tracked, clip.tracks), strict=True):
        start = tracks.positions[0].double()
        moved = torch.einsum("fij,hwj->fhwi", pose[:, :3, :3], start) + pose[:, None, None, :3, 3]
        places.append(clip.tracks.camera.project(moved)[0] * size)
        shifts.append(rigid_inverse(pose)[:, :3, 3] / torch.quantile(tracks.depth_m.double(), 0.3))
    inside = ((places[1] >= 0) & (places[1] < size)).all(-1)
    error = (places[0] - places[1]).norm(dim=-1)
    turn = poses[0][:, :3, :3] @ poses[1][:, :3, :3].mT
    in_world = remove_camera_motion(tracked, motion.world_to_camera)
    errors = track_errors(in_world, remove_camera_motion(clip.tracks, true), moving=clip.moving)
    return {
        "camera_still_px": max(float(e[i].median()) for e, i in zip(error, inside, strict=True) if i.any()),
        "camera_turn_deg": math.degrees(float(so3_log(turn).norm(dim=-1).max())),
        "camera_shift": float((shifts[0] - shifts[1]).norm(dim=-1).max()),
        "camera_inliers": float(motion.inlier_share.mean()),
        "world_motion": errors["motion"],
    }


def measure_scenes(
    tracker: PointTracker, estimator: DepthEstimator, count: int, path_names: tuple[str | None, ...]
) -> dict[str, dict[str, float]]:
    """Mean and median over `count` unseen scenes, with true and with estimated depth."""
    rows: dict[str, dict[str, list[float]]] = {
        name: defaultdict(list) for name in ("true depth", "estimated depth")
    }
    for index in tqdm(range(count), desc="moving camera" if path_names[0] else "still camera"):
        clip = render_camera_clip(HELD_OUT_SEED + 1 + index, path_names[index % len(path_names)])
        camera = clip.tracks.camera
        depths = {
            "true depth": clip.depth_m,
            "estimated depth": estimate_depths(estimator, clip.video, camera),
        }
        for name, depth_m in depths.items():
            started = time.process_time()
            tracked = tracker.track(clip.video, depth_m, camera)
            rows[name]["cpu_seconds"].append(time.process_time() - started)
            errors = track_errors(tracked, clip.tracks, moving=clip.moving)
            for key, value in (errors | camera_errors(clip, tracked)).items():
                rows[name][key].append(value)
    return {name: summary(row) for name, row in rows.items()}


def summary(values: dict[str, list[float]]) -> dict[str, float]:
    """Means over the clips that have the number, and the median clip for the main ones."""
    known = {key: [v for v in column if math.isfinite(v)] for key, column in values.items()}
    means = {key: round(sum(column) / max(1, len(column)), 4) for key, column in known.items()}
    median = ("error_px", "moving_px", "motion", "camera_still_px")
    return means | {f"{key} (median clip)": round(float(np.median(known[key])), 4) for key in median}


def read_planes(path: Path) -> Tensor:
    """A dense field of DeepDeform: int32 width, height, channels, then float32 planes; -inf is unknown."""
    raw = path.read_bytes()
    width, height, channels = np.frombuffer(raw, np.int32, 3)
    values = np.frombuffer(raw, np.float32, offset=12).reshape(channels, height, width)
    return torch.from_numpy(values.copy()).permute(1, 2, 0)


def measure_pair(tracker: PointTracker, data: Path) -> dict[str, dict[str, float]]:
    """Errors on the shirt, in pixels and metres, and those of standing still."""
    folder = data / PAIR
    names = ("000000", "000110")
    video = torch.stack([load_image(folder / "color" / f"{name}.jpg") for name in names])
    height, width = video.shape[1:3]
    matrix = np.loadtxt(folder / "intrinsics.txt")
    camera = Camera.from_pixels(
        matrix[0, 0], matrix[1, 1], matrix[0, 2] + 0.5, matrix[1, 2] + 0.5, width=width, height=height
    )
    depths = [
        DepthMap.from_raw(load_depth_image(folder / "depth" / f"{name}.png") / 1000, camera) for name in names
    ]
    flow = read_planes(folder / "optical_flow" / "shirt_000000_000110.oflow")
    shift = read_planes(folder / "scene_flow" / "shirt_000000_000110.sflow")
    known = torch.isfinite(flow).all(-1) & torch.isfinite(shift).all(-1) & depths[0].valid
    tracked = tracker.track(video, torch.stack([depth.depth_m for depth in depths]), camera)
    start = depths[0].points
    size = torch.tensor([width, height])
    found = {
        "tracked": (
            (camera.project(tracked.positions[1])[0] - camera.project(start)[0]) * size,
            tracked.positions[1] - start,
        ),
        "no motion": (torch.zeros_like(flow), torch.zeros_like(shift)),
    }
    sure = known & tracked.visibility[1]
    rows = {}
    for name, (flow_found, shift_found) in found.items():
        for label, mask in (("", known), (", where called visible", sure)):
            image = (flow_found - flow).norm(dim=-1)[mask]
            space = (shift_found - shift).norm(dim=-1)[mask]
            rows[f"{name}{label}"] = {
                "points": int(mask.sum()),
                "error_px": round(float(image.mean()), 3),
                "median_px": round(float(image.median()), 3),
                "within_5px": round(float((image <= 5).float().mean()), 4),
                "error_m": round(float(space.mean()), 4),
                "median_m": round(float(space.median()), 4),
                "within_5cm": round(float((space <= 0.05).float().mean()), 4),
            }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tracker", default="optical-flow", help="optical-flow, cotracker or delta")
    parser.add_argument("--weights", type=Path, help="file of the tracker's weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--scenes", type=int, default=16)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of real data")
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    arguments = parser.parse_args()
    weights = f":{arguments.weights}" if arguments.weights else ""
    tracker = open_tracker(f"{arguments.tracker}{weights}", device=arguments.device)
    estimator = open_depth_estimator("small")
    result: dict = {
        "tracker": arguments.tracker,
        "hardware": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
        "scenes": arguments.scenes,
        "size": [FRAMES, HEIGHT, WIDTH],
    }
    if arguments.scenes:
        result["still camera"] = measure_scenes(tracker, estimator, arguments.scenes, (None,))
        result["moving camera"] = measure_scenes(tracker, estimator, arguments.scenes, PATHS)
    if (arguments.data / PAIR).is_dir():
        result["real pair"] = measure_pair(tracker, arguments.data)
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
