"""How much of the motion in clips from videos is not there: pixels that stand still and whose tracks move.

    python benchmarks/false_motion.py --films 8 --output benchmarks/results/false_motion.json
    python benchmarks/false_motion.py --set validation
    python benchmarks/false_motion.py --data ../shared/data --films 5

Films of procedural scenes (96 x 128, 13 frames, every camera path below) are made into clips as `more4d data
from-video` does, with depth estimated by the small network in every frame, and compared with the truth.

Motion is measured in pixels: normalised motion (docs/conventions.md) times the width or height, and in depth
times the focal length in pixels, so that a metre counts the same in every direction. A pixel that stands
still in the world moves falsely if its track leaves its start by more than 1 pixel in any frame: `lateral`,
in `depth`, or either (`false`; `false_seen`: in frames in which the track is called visible). Of pixels that
really move by more than 1 pixel (where they are truly seen): `recall`, the share that moves by more than 1
pixel, and `right`, the share that does so within 60 degrees of the true direction; `angle_deg`, `extent` and
`error`, the median angle to the true motion, length of the image motion over the true one, and length of the
3-D error over that of the true motion, in the frame in which it is longest. `ate` and `rpe_deg`: RMS error
of the camera's positions after alignment of their scale, in scene depths, and of its rotation from frame to
frame.

`before` is the tracker's answer with the camera's motion removed; `after` is what `from-video` makes of it,
`kept` those of its films that the filters keep.
"""

import argparse
import itertools
import json
import math
import platform
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from more4d.datasets.from_video import filters
from more4d.datasets.from_video.options import Bounds
from more4d.datasets.procedural import HELD_OUT_SEED
from more4d.depth.registry import open_depth_estimator
from more4d.files.image import load_depth_image, load_image
from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.poses import named_camera_path, rigid, rigid_inverse, so3_exp, so3_log
from more4d.geometry.tracks import PointTracks, normalise_motion
from more4d.scenes.render import render_clip, render_video
from more4d.scenes.scene_sampling import sample_scene
from more4d.tracking.camera_motion import estimate_camera_motion, remove_camera_motion
from more4d.tracking.registry import open_tracker
from more4d.tracking.steady_tracks import steady_tracks

HEIGHT, WIDTH, FRAMES = 96, 128, 13
ROOM_PART = 0.3
"""How much of the way from a frame of the room to the next a film shows."""
WHOLE = 25
"""Frames of the whole motion of a scene, two seconds; a film is its beginning."""
PATHS = ("still", "handheld", "x_moving", "still", "surrounding", "turn-left", "handheld", "orbit")
STRENGTH = 0.4
SETS = {"validation": HELD_OUT_SEED + 300, "report": HELD_OUT_SEED + 400}
FALSE_PX, STILL_PX = 1.0, 0.02
RIGHT_COSINE = 0.5


@dataclass(frozen=True, kw_only=True)
class Film:
    """A film with its truth.

    Attributes:
        name: scene and camera path.
        video: [frames, height, width, 3].
        depth_m: estimated in every frame.
        camera: true intrinsics.
        world: true tracks in the world.
        world_to_camera: true poses.
        scene_depth_m: see docs/conventions.md.
    """

    name: str
    video: Tensor
    depth_m: Tensor
    camera: Camera
    world: PointTracks
    world_to_camera: Tensor
    scene_depth_m: float


def handheld(seed: int, frames: int, scene_depth_m: float) -> Tensor:
    """Smooth random poses, world to camera: about 1.5 degrees and 3 % of the scene's depth."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.linspace(0, 2 * math.pi, frames)
    waves = torch.stack([torch.sin(k * time / 2) / k for k in (1, 2, 3, 5)], -1)
    path = waves @ torch.randn(4, 6, generator=generator)
    return rigid(so3_exp(math.radians(1.5) * path[:, :3]), 0.03 * scene_depth_m * path[:, 3:])


def make_film(seed: int, path_name: str) -> Film:
    """Film a scene along a path, and estimate depth in every frame."""
    scene = sample_scene(seed)
    size = {"height": HEIGHT, "width": WIDTH, "frames": WHOLE}
    clip = render_clip(scene, **size)
    depth_m = clip.depth.scene_depth_m
    camera = scene.camera
    path = CameraPath(
        name=path_name,
        world_to_camera=torch.eye(4).repeat(WHOLE, 1, 1),
        intrinsics=torch.tensor([camera.fx, camera.fy, camera.cx, camera.cy]).repeat(WHOLE, 1),
    )
    if path_name == "handheld":
        path = replace(path, world_to_camera=handheld(seed, WHOLE, depth_m))
    elif path_name != "still":
        path = named_camera_path(
            path_name, frames=WHOLE, scene_depth_m=depth_m, camera=scene.camera, strength=STRENGTH
        )
    video = render_video(scene, **size, camera_path=path).frames[:FRAMES]
    estimator = open_depth_estimator("small")
    world = clip.tracks
    return Film(
        name=f"{seed} {path_name}",
        video=video,
        depth_m=torch.stack([estimator.estimate(frame, scene.camera).depth_m for frame in video]),
        camera=scene.camera,
        world=replace(world, positions=world.positions[:FRAMES], visibility=world.visibility[:FRAMES]),
        world_to_camera=path.world_to_camera[:FRAMES],
        scene_depth_m=depth_m,
    )


def motion_px(tracks: PointTracks) -> Tensor:
    """Motion from frame 0 in pixels: right, down and away, [frames, height, width, 3]."""
    fx, fy = tracks.camera.focal_px(width=tracks.width, height=tracks.height)
    unit = torch.tensor([tracks.width, tracks.height, math.sqrt(fx * fy)])
    return normalise_motion(tracks.positions, tracks.camera) * unit


def truly_seen(film: Film) -> Tensor:
    """Whether a point is inside the picture and not hidden in the photo's camera, which is close to where
    the film's camera is.
    """
    inside = []
    for pose, points in zip(film.world_to_camera, film.world.positions, strict=True):
        place, depth = film.camera.project(points @ pose[:3, :3].T + pose[:3, 3])
        inside.append((depth > 0) & (place >= 0).all(-1) & (place < 1).all(-1))
    return torch.stack(inside) & film.world.visibility


def false_motion(tracks: PointTracks, still: Tensor) -> dict[str, float]:
    """Shares of the pixels `still` whose tracks move."""
    moved = motion_px(tracks)
    lateral, depth = moved[..., :2].norm(dim=-1) > FALSE_PX, moved[..., 2].abs() > FALSE_PX
    either = lateral | depth
    kinds = {"lateral": lateral, "depth": depth, "false": either, "false_seen": either & tracks.visibility}
    return {name: float(kind.any(0)[still].float().mean()) for name, kind in kinds.items()}


def true_motion(tracks: PointTracks, film: Film) -> dict[str, float]:
    """How well the motion of what moves is kept; see the head of this file. Empty if nothing moves."""
    true = motion_px(film.world)
    far = true.norm(dim=-1) * truly_seen(film)
    length, frame = far.max(0)
    moving = length > FALSE_PX
    if int(moving.sum()) < 10:
        return {}
    found = motion_px(tracks)
    at = frame[None, ..., None].expand(1, *frame.shape, 3)
    goal, got = true.gather(0, at)[0][moving], found.gather(0, at)[0][moving]
    cosine = torch.cosine_similarity(goal, got, dim=-1).clamp(-1, 1)
    moves = (found.norm(dim=-1) * truly_seen(film)).amax(0)[moving] > FALSE_PX
    lateral = goal[:, :2].norm(dim=-1) > FALSE_PX
    ratio = got[:, :2].norm(dim=-1) / goal[:, :2].norm(dim=-1)
    return {
        "recall": float(moves.float().mean()),
        "right": float((moves & (cosine > RIGHT_COSINE)).float().mean()),
        "angle_deg": math.degrees(float(cosine.acos().median())),
        "extent": float(ratio[lateral].median()) if bool(lateral.any()) else math.nan,
        "error": float(((goal - got).norm(dim=-1) / goal.norm(dim=-1)).median()),
        "error_depth_px": float((goal - got)[:, 2].abs().median()),
    }


def camera_errors(world_to_camera: Tensor, true: Tensor, scene_depth_m: float) -> dict[str, float]:
    """ATE after alignment of scale, and RPE of the rotation."""
    found, goal = rigid_inverse(world_to_camera.double()), rigid_inverse(true.double())
    a, b = found[:, :3, 3], goal[:, :3, 3]
    power = float((a * a).sum())
    scale = max(0.0, float((a * b).sum()) / power) if power > 0 else 0.0
    steps = [rigid_inverse(poses[:-1]) @ poses[1:] for poses in (found, goal)]
    turn = so3_log(steps[0][:, :3, :3] @ steps[1][:, :3, :3].mT).norm(dim=-1)
    return {
        "ate": float((scale * a - b).square().sum(-1).mean().sqrt()) / scene_depth_m,
        "rpe_deg": math.degrees(float(turn.square().mean().sqrt())),
    }


def before(film: Film, tracks: PointTracks) -> tuple[PointTracks, Tensor, list[str]]:
    """Tracks in the world, poses, and reasons to drop the clip: with nothing done about wobbling depth."""
    poses = estimate_camera_motion(tracks).world_to_camera
    return remove_camera_motion(tracks, poses), poses, []


def after(film: Film, tracks: PointTracks) -> tuple[PointTracks, Tensor, list[str]]:
    """The same as `from-video` does it."""
    steady = steady_tracks(film.video, film.depth_m, tracks)
    bounds, motion = Bounds(), steady.scene.motion
    verdicts = [*filters.steadiness(steady, bounds), filters.camera_agreement(motion, bounds)]
    verdicts += filters.track_verdicts(steady.tracks, bounds)
    return steady.tracks, motion.world_to_camera, [each.reason for each in verdicts if each.reason]


METHODS = {"before": before, "after": after}


def films(first: int, count: int) -> Iterator[Film]:
    for index in tqdm(range(count), desc="films"):
        yield make_film(first + index, PATHS[index % len(PATHS)])


def room_films(data: Path) -> Iterator[Film]:
    """Films of a room in which nothing moves (7-Scenes), along its camera's own path.

    Its frames are 1.7 seconds apart, more than any tracker follows. So each film shows the colours and
    measured depth of one frame, as points, while the camera goes the first part of the way to the next.
    """
    folder = data / "tsdf-7scenes-rgbd"
    matrix = np.loadtxt(folder / "camera-intrinsics.txt")
    camera = Camera.from_pixels(
        matrix[0, 0], matrix[1, 1], matrix[0, 2] + 0.5, matrix[1, 2] + 0.5, width=640, height=480
    )
    estimator = open_depth_estimator("small")
    names = [f"frame-{number:06d}" for number in range(0, 1000, 50)]
    for name, after_it in tqdm(list(zip(names[::2], names[1::2], strict=True)), desc="room"):
        depth_m = load_depth_image(folder / f"{name}.depth.png") / 1000
        points = camera.unproject_depth(depth_m)[(depth_m > 0.1) & (depth_m < 20)]
        colours = load_image(folder / f"{name}.color.jpg")[(depth_m > 0.1) & (depth_m < 20)]
        ends = [torch.from_numpy(np.loadtxt(folder / f"{n}.pose.txt")) for n in (name, after_it)]
        whole = so3_log((rigid_inverse(ends[1]) @ ends[0])[:3, :3]), rigid_inverse(ends[1]) @ ends[0]
        time = torch.linspace(0, ROOM_PART, FRAMES, dtype=torch.float64)[:, None]
        poses = rigid(so3_exp(time * whole[0]), time * whole[1][:3, 3]).float()
        video = torch.stack([splat(points @ p[:3, :3].T + p[:3, 3], colours, camera) for p in poses])
        estimated = torch.stack([estimator.estimate(frame, camera).depth_m for frame in video])
        still = camera.unproject_depth(estimated[0]).expand(FRAMES, -1, -1, -1)
        seen = torch.ones(still.shape[:3], dtype=torch.bool)
        yield Film(
            name=f"{name} room",
            video=video,
            depth_m=estimated,
            camera=camera,
            world=PointTracks(positions=still, colours=video[0], visibility=seen, camera=camera),
            world_to_camera=poses,
            scene_depth_m=float(points[:, 2].quantile(0.3)),
        )


def splat(points: Tensor, colours: Tensor, camera: Camera) -> Tensor:
    """A picture of points in a camera's frame: the mean of the nearest ones of a pixel, holes inpainted."""
    place, depth = camera.project(points)
    column, row = (place * torch.tensor([WIDTH, HEIGHT])).floor().long().unbind(-1)
    inside = (depth > 0) & (column >= 0) & (column < WIDTH) & (row >= 0) & (row < HEIGHT)
    cell, depth, colours = (row * WIDTH + column)[inside], depth[inside], colours[inside]
    nearest = torch.full((HEIGHT * WIDTH,), torch.inf).scatter_reduce(0, cell, depth, "amin")
    front = depth < 1.03 * nearest[cell]
    sums = torch.zeros(HEIGHT * WIDTH, 4)
    sums.index_add_(0, cell[front], torch.cat([colours[front], torch.ones(int(front.sum()), 1)], -1))
    picture = (sums[:, :3] / sums[:, 3:].clamp(min=1)).view(HEIGHT, WIDTH, 3)
    holes = (sums[:, 3] == 0).view(HEIGHT, WIDTH).numpy().astype(np.uint8)
    filled = cv2.inpaint((picture * 255).round().byte().numpy(), holes, 3, cv2.INPAINT_TELEA)
    return torch.from_numpy(filled).float() / 255


def measure(film: Film) -> dict[str, dict[str, float]]:
    """The numbers of a film, by method."""
    tracked = open_tracker("optical-flow").track(film.video, film.depth_m, film.camera)
    still = motion_px(film.world).norm(dim=-1).amax(0) < STILL_PX
    numbers = {}
    for name, method in METHODS.items():
        tracks, poses, reasons = method(film, tracked)
        numbers[name] = {
            **false_motion(tracks, still),
            **true_motion(tracks, film),
            **camera_errors(poses, film.world_to_camera, film.scene_depth_m),
            "kept": float(not reasons),
        }
        print(film.name, name, {k: round(v, 3) for k, v in numbers[name].items()}, *reasons, flush=True)
    return numbers


def summary(rows: list[dict[str, float]]) -> dict[str, float]:
    """Means over the films that have the number, and the worst false motion."""
    columns: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for key, value in row.items():
            if math.isfinite(value):
                columns[key].append(value)
    means = {key: round(statistics.mean(column), 4) for key, column in columns.items()}
    return means | {"films": len(rows), "worst_false": round(max(columns["false"], default=0.0), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", choices=SETS, default="report")
    parser.add_argument("--films", type=int, default=16)
    parser.add_argument("--data", type=Path, help="folder of real data: a room with known poses")
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    arguments = parser.parse_args()
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in METHODS}
    names = []
    given = room_films(arguments.data) if arguments.data else films(SETS[arguments.set], arguments.films)
    given = itertools.islice(given, arguments.films)
    for film in given:
        names.append(film.name)
        for method, numbers in measure(film).items():
            rows[method].append(numbers)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    result = {
        "commit": commit.stdout.strip(),
        "hardware": platform.processor() or platform.machine(),
        "set": "room" if arguments.data else arguments.set,
        "names": names,
        "size": [FRAMES, HEIGHT, WIDTH],
        **{method: summary(found) for method, found in rows.items()},
        "kept": summary([row for row in rows["after"] if row["kept"]]),
        "before, of the same films": summary(
            [old for old, new in zip(rows["before"], rows["after"], strict=True) if new["kept"]]
        ),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
