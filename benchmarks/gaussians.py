"""Scenes of Gaussians against points on procedural worlds: cameras and times that were never used, ablations.

    python benchmarks/gaussians.py --worlds 30 --output gaussians.json --sheets sheets

Per world four cameras film 13 frames at 192 x 256, and the same paths with time frozen at the photo; a fifth
camera is held out, and filmed at 25 times, of which every other lies between two frames. Tracks are true
(`--films true`: so are the films; `--films own`: holes are filled by 4D-ViSM of the tiny preset). Rows:

    points       drawn twice as large and averaged, with what the films show as points, the rest from behind
    initial      the scene of Gaussians without an optimiser
    fitted       coarse, then fine
    no coarse, no fine    without that stage, the other one as long as both
    no frozen    without the films of frozen time

PSNR is of the pooled squared error of all frames but the first, whole picture; `seen` and `holes` of pixels
that the tracks alone cover or not; `half` between frames; `flicker` is the change from frame to frame where
the tracks show nothing, over that of the truth. Seconds are CPU seconds. A world whose results are in the
output is not made again. Settings are chosen on `--split validation`.
"""

import argparse
import json
import math
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from more4d.evaluation.data import unseen_scene
from more4d.files.previews import save_sheet
from more4d.geometry.background import fill_background
from more4d.geometry.camera import CameraPath
from more4d.geometry.gaussian_scene import GaussianScene
from more4d.geometry.poses import named_camera_path
from more4d.geometry.splats import SIGMA_PER_FOOTPRINT
from more4d.geometry.tracks import FilledPoints, PointTracks
from more4d.metrics.image_quality import hole_flicker, ssim
from more4d.pipelines.fill_memory import composite_fill, unproject_fill
from more4d.pipelines.views import completed_frame, render
from more4d.raster.render import render_tracks
from more4d.raster.splatting import render_gaussians
from more4d.reconstruction.films import TrainingFilm
from more4d.reconstruction.fit import Fit, FitSettings
from more4d.reconstruction.initial import SIGMA_TO_OPTIMISE, add_filled, scene_of_tracks
from more4d.scenes.render import render_clip, render_video

SIZE = (192, 256)
PIXELS = {"height": SIZE[0], "width": SIZE[1]}
FRAMES = 13
CAMERAS = ("static", "orbit", "anti-surrounding", "mix2")
HELD_OUT = ("circle_rotating", "x_moving", "surrounding")
ROWS = ("points", "initial", "fitted", "no coarse", "no fine", "no frozen")


def still(path: CameraPath, frame: int) -> CameraPath:
    """One pose."""
    place = slice(frame, frame + 1)
    return replace(path, world_to_camera=path.world_to_camera[place], intrinsics=path.intrinsics[place])


def pixels(frames: Tensor) -> Tensor:
    """As films are kept: in 8 bits."""
    return (frames * 255).round().clamp(0, 255) / 255


class World:
    """One procedural world: tracks, training films, and the held-out camera's truth at 25 times."""

    def __init__(self, index: int, split: str, pipe: Any | None) -> None:
        unseen = unseen_scene(index, split=split)
        self.scene, self.caption, self.pipe = unseen.scene, unseen.scene.caption, pipe
        clip = render_clip(self.scene, frames=2 * FRAMES - 1, visibility="none", finish=False, **PIXELS)
        depth_m = clip.depth.scene_depth_m
        self.fine_tracks = replace(clip.tracks, scene_depth_m=depth_m)
        self.tracks = some_frames(self.fine_tracks, slice(None, None, 2))
        known = {"scene_depth_m": depth_m, "camera": clip.tracks.camera}
        self.films: list[TrainingFilm] = []
        self.filled: list[FilledPoints] = []
        for name in CAMERAS:
            path = named_camera_path(name, frames=FRAMES, **known)
            self._film(path, self.tracks)
            if name != "static":
                self._film(path, some_frames(self.tracks, slice(0, 1)))
        self.held_out = HELD_OUT[index % len(HELD_OUT)]
        self.path = named_camera_path(self.held_out, frames=2 * FRAMES - 1, **known)
        self.truth = self._true(self.path, 2 * FRAMES - 1)
        self.holes = render_tracks(self.fine_tracks, self.path, **PIXELS).hole_mask

    def _true(self, path: CameraPath, frames: int) -> Tensor:
        return render_video(self.scene, frames=frames, camera_path=path, finish=False, **PIXELS).frames

    def _film(self, path: CameraPath, tracks: PointTracks) -> None:
        """One camera's finished film; with tracks of one frame that of frozen time."""
        frozen = tracks.frames == 1
        rendering = render_tracks(tracks, path, **PIXELS)
        if self.pipe is not None:
            view = self.pipe.film(tracks, path, earlier=list(self.filled), seed=0)
            frames, filled = view.frames, view.filled
        else:
            frames = self._true(path, FRAMES)
            if frozen:  # a clip of one frame shows frame 0
                frames = torch.cat([self._true(still(path, frame), 1) for frame in range(FRAMES)])
            known = composite_fill(rendering, path, FilledPoints.concat(self.filled))
            filled = unproject_fill(frames, known, path)
        times = [0.0 if frozen else float(frame) for frame in range(FRAMES)]
        # Of a frozen film all that was filled is of frame 0.
        self.filled.append(replace(filled, frame=torch.tensor(times).long()[filled.frame]))
        self.films.append(TrainingFilm.shrunk(path, times, frames, rendering.hole_mask, SIZE))


def some_frames(tracks: PointTracks, frames: slice) -> PointTracks:
    return replace(tracks, positions=tracks.positions[frames], visibility=tracks.visibility[frames])


def points(world: World) -> Tensor:
    """The held-out camera's film of points, with those that filled the holes of all training films."""
    film = render(world.fine_tracks, world.path, size=SIZE, small_size=SIZE)
    filled = FilledPoints.concat(world.filled)
    filled = replace(filled, frame=2 * filled.frame)
    known = composite_fill(film.small, world.path, filled)
    behind = fill_background(known.colour, known.depth_m, ~known.hole_mask)
    return torch.stack([completed_frame(film, behind, index) for index in range(len(behind))])


def drawn(scene: GaussianScene, world: World) -> Tensor:
    """The held-out camera's film of a scene; what is left open shows what lies around it."""
    rendering = render_gaussians(scene, world.path, height=SIZE[0], width=SIZE[1])
    behind = fill_background(rendering.colour, rendering.depth_m.clamp(max=1e6), ~rendering.hole_mask)
    cover = rendering.coverage[..., None]
    return rendering.colour * cover + behind * (1 - cover)


def fitted(world: World, row: str, settings: FitSettings, start: GaussianScene) -> GaussianScene:
    steps = settings.steps
    films = world.films
    if row == "no coarse":
        settings = replace(settings, coarse=0, fine=steps)
    elif row == "no fine":
        settings = replace(settings, coarse=steps, fine=0)
    elif row == "no frozen":
        films = [film for film in films if len(set(film.times)) > 1]
    return Fit(start, films, settings).run()


def still_motion(scene: GaussianScene) -> float:
    """The farthest that any splat which stands still is from its place at any time, in metres."""
    stays = ~scene.moves
    away = [
        (scene.all_at(time / 2).positions[stays] - scene.positions[stays]).abs().amax()
        for time in range(2 * scene.frames - 1)
    ]
    return float(torch.stack(away).amax())


def psnr(error: Tensor) -> float:
    return float(-10 * error.mean().log10()) if error.numel() else float("nan")


def measure(video: Tensor, world: World) -> dict[str, float]:
    truth, holes = world.truth, world.holes
    error = (pixels(video) - truth).square().mean(-1)
    whole, half = error[2::2], error[1::2]
    change = hole_flicker(truth[::2], holes[::2])
    return {
        "psnr": psnr(whole),
        "ssim": float(ssim(video[2::2], truth[2::2]).mean()),
        "half_psnr": psnr(half),
        "half_ssim": float(ssim(video[1::2], truth[1::2]).mean()),
        "seen_psnr": psnr(whole[~holes[2::2]]),
        "hole_psnr": psnr(whole[holes[2::2]]),
        "flicker": hole_flicker(video[::2], holes[::2]) / change if change > 0 else math.nan,
    }


def run_world(index: int, options: argparse.Namespace, pipe: Any | None) -> dict[str, Any]:
    world = World(index, options.split, pipe)
    settings = FitSettings(
        coarse=options.coarse, fine=options.fine, views=options.views, trust_generated=options.trust
    )
    result: dict[str, Any] = {"world": index, "caption": world.caption, "held_out": world.held_out}
    videos = {"points": points(world)}
    begin = time.process_time()
    tracked = scene_of_tracks(world.tracks, SIZE, sigma=SIGMA_PER_FOOTPRINT)
    unfitted = add_filled(tracked, world.films, sigma=SIGMA_PER_FOOTPRINT)
    videos["initial"] = drawn(unfitted, world)
    result["initial_seconds"] = time.process_time() - begin
    sharp = SIGMA_TO_OPTIMISE / SIGMA_PER_FOOTPRINT
    start = replace(unfitted, scales_m=unfitted.scales_m * sharp)
    result |= {
        "splats": len(start),
        "moving": len(start.moving),
        "paths": len(start.paths),
        "sources": torch.bincount(start.source.long(), minlength=4).tolist(),
    }
    for row in options.rows:
        begin = time.process_time()
        scene = fitted(world, row, settings, start)
        result[f"{row} seconds"] = time.process_time() - begin
        result[f"{row} splats"] = len(scene)
        videos[row] = drawn(scene, world)
        result[f"{row} still points moved"] = still_motion(scene)
    result |= {row: measure(video, world) for row, video in videos.items()}
    if options.sheets is not None:
        moments = (6, 13, 24)
        tiles = [[video[m] for video in videos.values()] + [world.truth[m]] for m in moments]
        titles = [[f"{row} {result[row]['psnr']:.2f}" for row in videos] + ["truth"]] * len(moments)
        options.sheets.mkdir(parents=True, exist_ok=True)
        save_sheet(
            options.sheets / f"{index}.png",
            tiles,
            captions=titles,
            title=f"{world.caption} ({world.held_out})",
            tile_height=192,
        )
    return result


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """What every world of one file of numbers was made with."""
    names = ("split", "films", "rows", "coarse", "fine", "views", "trust")
    return {name: getattr(options, name) for name in names}


def results_so_far(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Of an earlier run with the same settings."""
    if not options.output.exists():
        return []
    kept = json.loads(options.output.read_text())
    if kept.get("settings") != settings_of(options):
        raise SystemExit(f"{options.output} was made with {kept.get('settings')}; choose another --output")
    return kept["results"]


def summary(results: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Means over the worlds, per row and measure, and the gain over points."""
    rows = [row for row in ROWS if all(row in each for each in results)]
    means = {
        row: {
            name: statistics.fmean(v for v in (each[row][name] for each in results) if not math.isnan(v))
            for name in results[0][row]
        }
        for row in rows
    }
    gains = {row: [each[row]["psnr"] - each["points"]["psnr"] for each in results] for row in rows[1:]}
    return {
        "settings": settings_of(options),
        "worlds": len(results),
        "means": means,
        "gain_db": {row: [min(g), statistics.fmean(g), max(g)] for row, g in gains.items()},
        "results": results,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=30, help="number of worlds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--films", choices=("true", "own"), default="true")
    parser.add_argument("--rows", nargs="*", default=["fitted"], choices=ROWS[2:])
    parser.add_argument("--coarse", type=int, default=FitSettings.coarse)
    parser.add_argument("--fine", type=int, default=FitSettings.fine)
    parser.add_argument("--views", type=int, default=FitSettings.views)
    parser.add_argument("--trust", type=float, default=FitSettings.trust_generated)
    parser.add_argument("--output", type=Path, required=True, help="file for the numbers; goes on from there")
    parser.add_argument("--sheets", type=Path, help="folder for pictures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pipe = None
    if options.films == "own":
        from more4d.pipeline import More4DPipeline

        pipe = More4DPipeline.from_pretrained("tiny")
    results = results_so_far(options)
    done = {each["world"] for each in results}
    for index in range(options.first, options.first + options.worlds):
        if index in done:
            continue
        results.append(run_world(index, options, pipe))
        print(json.dumps(results[-1]), flush=True)
        options.output.write_text(json.dumps(summary(results, options), indent=1) + "\n")


if __name__ == "__main__":
    main()
