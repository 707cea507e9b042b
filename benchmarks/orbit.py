"""Scenes of Gaussians of a thing that others have filmed: a figure on an orbit (Diffusion4D's example).

    python benchmarks/orbit.py FOLDER --output orbit.json --sheet orbit.png

FOLDER holds 24 pictures each of a fixed camera (front_frame*.png), of an orbit with time running
(multi_frame*.png) and of the same orbit with time frozen (multi_static_frame*.png), RGBA, 15.7 degrees apart.
Given are the fixed camera's film, with tracks by optical flow, each point at the depth that it has in frame
0; and the even cameras of both orbits as finished films, as far as `--reach` degrees. Depth is that of the
visual hull of the frozen orbit's even cameras, or with `--depth estimated` of the bundled network, scaled to
the known distance. Held out are the odd cameras: with time frozen, and with time running, where the camera
and its moment are both new. The fixed camera, whose film is known, says how good the tracks are. Rows:

    tracks     points of the tracks alone
    points     with what the films show in their holes as points
    initial    the scene of Gaussians without an optimiser
    fitted     coarse, then fine

All is done at 128 x 128. PSNR (of the pooled squared error) and SSIM are over white, within the box of the
truth's outline, 4 px wider.
"""

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from more4d.files.image import load_image_and_alpha
from more4d.files.previews import save_sheet
from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.gaussian_scene import GaussianScene
from more4d.geometry.splats import SIGMA_PER_FOOTPRINT
from more4d.geometry.tracks import FilledPoints, PointTracks
from more4d.metrics.image_quality import ssim
from more4d.pipelines.fill_memory import composite_fill, unproject_fill
from more4d.raster.render import render_tracks
from more4d.raster.splatting import render_gaussians
from more4d.reconstruction.films import TrainingFilm
from more4d.reconstruction.fit import Fit, FitSettings
from more4d.reconstruction.initial import SIGMA_TO_OPTIMISE, add_filled, scene_of_tracks
from more4d.tracking.registry import open_tracker

FRAMES, SIDE, DISTANCE_M, WALL_M = 24, 128, 2.0, 6.0  # half the pictures' side
FOCAL = 50 / 36  # in picture widths, as the source's lens
CAMERA = Camera(fx=FOCAL, fy=FOCAL, cx=0.5, cy=0.5)
SIZE = {"height": SIDE, "width": SIDE}
SAMPLES_M = torch.arange(1.3, 2.7, 0.004)
"""Depths at which a ray is asked whether it is inside the visual hull."""


def orbit() -> Tensor:
    """World-to-camera poses [24, 4, 4] of the orbit; the world is the camera of frame 0."""
    poses = []
    for frame in range(FRAMES):
        angle = 2 * math.pi * (1 - frame / (FRAMES - 1))
        # The source's world has z up; its camera looks at the origin.
        centre = -DISTANCE_M * torch.tensor([math.sin(angle), math.cos(angle), 0.0], dtype=torch.float64)
        forward, up = -centre / DISTANCE_M, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3] = torch.stack([torch.linalg.cross(forward, up), -up, forward])
        pose[:3, 3] = -pose[:3, :3] @ centre
        poses.append(pose)
    return torch.stack([pose @ poses[0].inverse() for pose in poses]).float()


POSES = orbit()


def path_of(frames: list[int], name: str = "orbit") -> CameraPath:
    lens = torch.tensor([[CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy]])
    return CameraPath(name=name, world_to_camera=POSES[frames], intrinsics=lens.repeat(len(frames), 1))


def pictures(folder: Path, kind: str) -> tuple[Tensor, Tensor]:
    """Colours over white [24, side, side, 3], and opacity [24, side, side]."""
    files = [folder / f"{kind}_frame{frame}.png" for frame in range(FRAMES)]
    read = [load_image_and_alpha(file) for file in files]
    planes = torch.stack([torch.cat([colour, alpha[..., None]], -1) for colour, alpha in read])
    small = avg_pool2d(planes.movedim(-1, 1), planes.shape[1] // SIDE).movedim(1, -1)
    return small[..., :3], small[..., 3]


def hull_depth(opacity: Tensor, cameras: list[int], pixels: Tensor) -> Tensor:
    """Depth [side, side] of the visual hull of some cameras, seen by the first; elsewhere the wall."""
    depth_m = torch.full((SIDE, SIDE), WALL_M)
    rays = CAMERA.unproject_depth(torch.ones(SIDE, SIDE))[pixels]
    points = rays[:, None] * SAMPLES_M[:, None]
    inside = torch.ones(points.shape[:2], dtype=torch.bool)
    for camera in cameras:
        seen = points @ POSES[camera, :3, :3].T + POSES[camera, :3, 3]
        place = (CAMERA.project(seen)[0] * SIDE).long().clamp(0, SIDE - 1)
        inside &= opacity[camera, place[..., 1], place[..., 0]] > 0.5
    first = inside.float().argmax(1)
    depth_m[pixels] = torch.where(inside.any(1), SAMPLES_M[first], DISTANCE_M)
    return depth_m


def make_tracks(folder: Path, depth: str, even: list[int]) -> tuple[PointTracks, dict[str, float]]:
    """Of the fixed camera's film; and what its depth was like."""
    from more4d.pipeline import More4DPipeline

    video, opacity = pictures(folder, "front")
    estimator = More4DPipeline.from_pretrained("tiny").components.depth_estimator()
    thing = opacity[0] > 0.5
    _, still = pictures(folder, "multi_static")
    hull = hull_depth(still, even, thing)
    guess = estimator.estimate(video[0], CAMERA).depth_m
    guess = torch.where(thing, guess * DISTANCE_M / guess[thing].median(), WALL_M)
    about = {
        "estimated_depth_error_m": float((guess - hull)[thing].abs().mean()),
        "flat_depth_error_m": float((DISTANCE_M - hull)[thing].abs().mean()),
    }
    start = hull if depth == "hull" else guess.clamp(1, WALL_M)
    # Flow needs no more of depth than what is nearer: a plane before the wall.
    planes = torch.where(opacity > 0.5, DISTANCE_M, WALL_M)
    tracks = open_tracker("optical-flow").track(video, torch.cat([start[None], planes[1:]]), CAMERA)
    place = CAMERA.project(tracks.positions)[0]
    place[:, ~thing] = place[:1, ~thing]  # the wall, which is white, stands
    lens, centre = torch.tensor([CAMERA.fx, CAMERA.fy]), torch.tensor([CAMERA.cx, CAMERA.cy])
    depth_m = start.expand(FRAMES, -1, -1)[..., None]
    positions = torch.cat([(place - centre) / lens * depth_m, depth_m], -1)
    moved = (positions[-1] - positions[0]).norm(dim=-1)[thing]
    about |= {
        "moved_m": float(moved.median()),
        "seen_at_the_end": float(tracks.visibility[-1][thing].float().mean()),
    }
    return replace(tracks, positions=positions, scene_depth_m=DISTANCE_M), about


def one_frame(tracks: PointTracks, frame: int) -> PointTracks:
    some = slice(frame, frame + 1)
    return replace(tracks, positions=tracks.positions[some], visibility=tracks.visibility[some])


class Work:
    """Tracks, training films with the points that fill them, and held-out pictures."""

    def __init__(self, folder: Path, depth: str, reach: float) -> None:
        step = 360 / (FRAMES - 1)
        near = [k for k in range(FRAMES) if min(k, FRAMES - 1 - k) * step <= reach]
        even = [k for k in near if k % 2 == 0]
        self.held_out = [k for k in near if k % 2 and k != FRAMES - 1]  # the last camera is the first
        self.tracks, self.about = make_tracks(folder, depth, list(range(0, FRAMES, 2)))
        front, opacity = pictures(folder, "front")
        self.films: list[TrainingFilm] = []
        self.filled: list[FilledPoints] = []
        self._film(path_of([0] * FRAMES, "front"), list(range(FRAMES)), front)
        shown = list(range(3, FRAMES, 4))
        self.moments = {"front": [(moment, path_of([0])) for moment in shown]}
        self.truth = {"front": (front[shown], opacity[shown])}
        for kind, frozen in (("multi_static", True), ("multi", False)):
            video, opacity = pictures(folder, kind)
            self._film(path_of(even, kind), [0 if frozen else k for k in even], video[even])
            self.moments[kind] = [(0 if frozen else k, path_of([k])) for k in self.held_out]
            self.truth[kind] = video[self.held_out], opacity[self.held_out]

    def _film(self, path: CameraPath, times: list[int], frames: Tensor) -> None:
        views = each(path, times)
        shown = [render_tracks(one_frame(self.tracks, moment), one, **SIZE) for moment, one in views]
        holes = torch.cat([one.hole_mask for one in shown])
        self.films.append(TrainingFilm.shrunk(path, times, frames, holes, (SIDE, SIDE)))
        for index, (moment, one) in enumerate(views):
            known = composite_fill(shown[index], one, FilledPoints.concat(self.filled))
            filled = unproject_fill(frames[index : index + 1], known, one)
            self.filled.append(replace(filled, frame=torch.full_like(filled.frame, moment)))

    def points(self, kind: str, *, fills: bool) -> Tensor:
        drawn = []
        for moment, path in self.moments[kind]:
            shown = render_tracks(one_frame(self.tracks, moment), path, **SIZE)
            if fills:
                filled = FilledPoints.concat(self.filled)
                known = filled.select(filled.visible_in_all_frames | (filled.frame == moment))
                shown = composite_fill(shown, path, replace(known, frame=torch.zeros_like(known.frame)))
            drawn.append(torch.where(shown.hole_mask[..., None], 1.0, shown.colour)[0])
        return torch.stack(drawn)

    def gaussians(self, scene: GaussianScene, kind: str) -> Tensor:
        drawn = []
        for moment, path in self.moments[kind]:
            shown = render_gaussians(scene, path, times=[float(moment)], **SIZE)
            cover = shown.coverage[..., None]
            drawn.append((shown.colour * cover + 1 - cover)[0])
        return torch.stack(drawn)


def each(path: CameraPath, times: list[int]) -> list[tuple[int, CameraPath]]:
    """Times, and the path one pose at a time."""
    poses, lenses = path.world_to_camera.split(1), path.intrinsics.split(1)
    return [
        (moment, replace(path, world_to_camera=pose, intrinsics=lens))
        for moment, pose, lens in zip(times, poses, lenses, strict=True)
    ]


def measure(video: Tensor, truth: Tensor, opacity: Tensor) -> dict[str, float | list[float]]:
    errors, likeness, single = [], [], []
    for drawn, true, alpha in zip(video.clamp(0, 1), truth, opacity, strict=True):
        rows, columns = (alpha > 0.5).nonzero(as_tuple=True)
        box = tuple(slice(max(0, int(x.min()) - 4), int(x.max()) + 5) for x in (rows, columns))
        errors.append((drawn[box] - true[box]).square().flatten())
        likeness.append(float(ssim(drawn[box][None], true[box][None]).mean()))
        single.append(float(-10 * errors[-1].mean().log10()))
    whole = float(-10 * torch.cat(errors).mean().log10())
    return {"psnr": whole, "ssim": sum(likeness) / len(likeness), "each": single}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--depth", choices=("estimated", "hull"), default="hull", help="of frame 0")
    parser.add_argument("--reach", type=float, default=65.0, help="degrees from the photo's camera")
    parser.add_argument("--coarse", type=int, default=FitSettings.coarse)
    parser.add_argument("--fine", type=int, default=FitSettings.fine)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.process_time()
    work = Work(options.folder, options.depth, options.reach)
    tracked = scene_of_tracks(work.tracks, (SIDE, SIDE), sigma=SIGMA_PER_FOOTPRINT)
    scene = add_filled(tracked, work.films, sigma=SIGMA_PER_FOOTPRINT)
    print(f"{len(scene)} splats, {len(scene.moving)} move, {time.process_time() - begin:.0f} s", flush=True)
    sharp = replace(scene, scales_m=scene.scales_m * (SIGMA_TO_OPTIMISE / SIGMA_PER_FOOTPRINT))
    fitted = Fit(sharp, work.films, FitSettings(coarse=options.coarse, fine=options.fine)).run()
    result: dict[str, object] = {
        **{"depth": options.depth, "reach": options.reach, "held_out": work.held_out, **work.about},
        **{"splats": len(scene), "moving": len(scene.moving), "seconds": time.process_time() - begin},
    }
    tiles, labels = [], []
    for kind, (truth, opacity) in work.truth.items():
        videos = {
            "tracks": work.points(kind, fills=False),
            "points": work.points(kind, fills=True),
            "initial": work.gaussians(scene, kind),
            "fitted": work.gaussians(fitted, kind),
        }
        result[kind] = {row: measure(video, truth, opacity) for row, video in videos.items()}
        tiles += [*map(list, videos.values()), list(truth)]
        labels += [f"{kind}: {row}" for row in (*videos, "truth")]
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))
    if options.sheet is not None:
        captions = [
            [f"time {moment}" for moment, _ in work.moments[kind]] for kind in work.truth for _ in range(5)
        ]
        save_sheet(options.sheet, tiles, captions=captions, row_labels=labels, title="orbit", tile_height=160)


if __name__ == "__main__":
    main()
