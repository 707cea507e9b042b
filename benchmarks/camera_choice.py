"""Weights of `pipelines.camera_choice`, fitted to films whose truth is known; and what its choices are worth.

    python benchmarks/camera_choice.py measure --worlds 48 --output fit.jsonl                    # validation
    python benchmarks/camera_choice.py fit fit.jsonl                                             # the weights
    python benchmarks/camera_choice.py measure --split test --chosen --worlds 40 --output test.jsonl
    python benchmarks/camera_choice.py report test.jsonl

A procedural world is seen as a photo of 120 x 160 pixels with its lens; its depth is estimated by the tiny
preset and its motion is the true one, in units of depth. Every camera films 5 frames of 13, holes are filled
by 4D-ViSM (`smooth`), and the same camera in the true world is ray-cast. Measured in decibels:

    film      PSNR of the finished film
    skill     its squared error against that of a film of a flat scene, everything at the depth of the pivot:
              a pan of a flat picture is as good, so only depth that shows and is right is worth anything
    worth     skill + film / 4, which is what the score is fitted to
    held_out  (with `--chosen`) squared error of four views from random places around the photo's camera,
              before and after what was filled is shown in their holes

The fit is a ridge regression of worth on `camera_choice.terms`, within worlds. A world that is in
the output is not made again. Candidates per world: today's three default paths and seven at random, or
(`--chosen`) these three and what `auto:2` chooses.
"""

import argparse
import json
import math
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from more4d.evaluation.data import unseen_scene
from more4d.files.previews import save_sheet
from more4d.geometry.background import fill_background
from more4d.geometry.camera import CameraPath
from more4d.geometry.poses import look_at, named_camera_path, rigid_inverse
from more4d.geometry.tracks import FilledPoints, PointTracks, normalise_motion, positions_from_motion
from more4d.pipeline import More4DPipeline
from more4d.pipelines.camera_choice import candidates, choose, measure_candidates, terms
from more4d.pipelines.camera_measures import Features
from more4d.pipelines.camera_spec import CameraSpec
from more4d.pipelines.cameras import camera_path
from more4d.pipelines.fill_memory import composite_fill
from more4d.pipelines.views import Film, completed_frame, render
from more4d.scenes.render import render_clip, render_video

SIZE = {"height": 120, "width": 160}
FRAMES, SHOWN, RANDOM = 13, 5, 7
BEFORE = ("orbit", "forward_backward", "surrounding")
"""The default paths before there was a choice."""
FILM = 1 / 4
"""Of the PSNR of a film in its worth. With 0, 1/8, 1/4 and 1/2 what is picked for a world that was left out
has 0.78, 0.93, 0.82 and 0.31 dB more skill than orbit. On photos, where depth is worse, 1/8 bends walls."""
FLATNESS = 0.02
"""Depth of a flat scene, as a power of the scene's own."""
PLACES = (0.25, 0.12, 0.2)
"""How far held-out views are to the side, up and ahead, at most, in scene depths."""
ROUNDS = 4
"""Paths of held-out views; each has `SHOWN - 1` views at other moments."""
MEASURES = ("worth", "skill", "film", "held_out")
RIDGE = (0.01, 0.1, 1.0, 10.0, 100.0)


class World:
    """A procedural world with tracks of estimated depth, and the truth."""

    def __init__(self, index: int, split: str, pipe: More4DPipeline) -> None:
        self.index, self.pipe = index, pipe
        self.scene = unseen_scene(index, split=split).scene
        clip = render_clip(self.scene, frames=FRAMES, visibility="none", finish=False, **SIZE)
        true, camera = clip.tracks, clip.tracks.camera
        self.true_depth_m = clip.depth.scene_depth_m
        lens = (camera.fx, camera.fy, camera.cx, camera.cy)
        depth = pipe.estimate_depth(true.colours, intrinsics=lens)
        motion = normalise_motion(true.positions, camera)
        points = positions_from_motion(motion, camera.unproject_depth(depth.depth_m), camera)
        self.tracks: PointTracks = replace(true, positions=points, scene_depth_m=depth.scene_depth_m)
        # Almost flat: what is nearer still hides what is farther.
        z = points[..., 2:] / depth.scene_depth_m
        flat = points / z * z**FLATNESS
        self.flat = shown(replace(self.tracks, positions=flat))
        self.held_out = [self._places(number) for number in range(ROUNDS)]
        self.held_truth = [self.truth(path) for path in self.held_out]
        self.held_film = [render(shown(self.tracks), path) for path in self.held_out]
        self.held_before = self.held_error(FilledPoints.empty())

    def path(self, spec: CameraSpec) -> CameraPath:
        return camera_path(spec, self.tracks)

    def truth(self, path: CameraPath) -> Tensor:
        """What the camera of a path in the estimated scene sees in the true one, whose unit is another."""
        pose = path.world_to_camera.clone()
        pose[:, :3, 3] *= self.true_depth_m / (self.tracks.scene_depth_m or 1.0)
        there = replace(path, world_to_camera=pose)
        return render_video(self.scene, frames=SHOWN, camera_path=there, finish=False, **SIZE).frames

    def _places(self, number: int) -> CameraPath:
        """A path that is another random place around the photo's camera in every frame, facing the pivot."""
        generator = torch.Generator().manual_seed(self.index + 10_000 * number)
        depth_m = self.tracks.scene_depth_m or 1.0
        away = (2 * torch.rand(SHOWN, 3, generator=generator) - 1) * torch.tensor(PLACES) * depth_m
        static = named_camera_path("static", frames=SHOWN, scene_depth_m=depth_m, camera=self.tracks.camera)
        pose = torch.eye(4).repeat(SHOWN, 1, 1)
        pose[:, :3, :3] = look_at(away, torch.tensor([0.0, 0.0, depth_m]))
        pose[:, :3, 3] = away
        return replace(static, name="held-out", world_to_camera=rigid_inverse(pose))

    def held_error(self, filled: FilledPoints) -> float:
        """Mean squared error of all held-out views, with what was filled in their holes."""
        errors = []
        for path, film, truth in zip(self.held_out, self.held_film, self.held_truth, strict=True):
            known = composite_fill(film.small, path, filled)
            behind = fill_background(known.colour, known.depth_m, ~known.hole_mask)
            errors.append(error(completed(film, behind), truth))
        return float(np.mean(errors))

    def film(self, spec: CameraSpec, earlier: list[FilledPoints]) -> tuple[dict[str, float], Any, Tensor]:
        every = slice(None, None, (FRAMES - 1) // (SHOWN - 1))
        path = self.path(spec)
        path = replace(path, world_to_camera=path.world_to_camera[every], intrinsics=path.intrinsics[every])
        view = self.pipe.film(shown(self.tracks), path, earlier=earlier, seed=0)
        truth, frames = self.truth(path), view.frames
        # In its holes the flat film shows what the other one shows there: they differ by depth only.
        flat = completed(render(self.flat, path), view.fill)
        measured = {"film": error(frames, truth), "flat": error(flat, truth)}
        measured["held_out"] = self.held_error(FilledPoints.concat([*earlier, view.filled]))
        measured["held_before"] = self.held_before
        return measured, view.filled, torch.cat([frames[1:], truth[1:]], 1)


def shown(tracks: PointTracks) -> PointTracks:
    """The frames that are filmed; they span the same time."""
    every = slice(None, None, (FRAMES - 1) // (SHOWN - 1))
    return replace(tracks, positions=tracks.positions[every], visibility=tracks.visibility[every])


def completed(film: Film, fill: Tensor) -> Tensor:
    """The film with its holes filled."""
    return torch.stack([completed_frame(film, fill, index) for index in range(SHOWN)])


def error(video: Tensor, truth: Tensor) -> float:
    """Mean squared error of all frames but the first."""
    return float((video[1:] - truth[1:]).square().mean())


def values_of(row: dict[str, Any]) -> dict[str, float]:
    """The measures of a film in dB; see the head of this module."""
    film = -10 * math.log10(max(row["film"], 1e-6))
    skill = 10 * math.log10(max(row["flat"], 1e-6) / max(row["film"], 1e-6))
    gain = 10 * math.log10(row["held_before"] / row["held_out"])
    return {"film": film, "skill": skill, "worth": skill + FILM * film, "held_out": gain}


def measure_world(index: int, options: argparse.Namespace, pipe: More4DPipeline) -> dict[str, Any]:
    world = World(index, options.split, pipe)
    started = time.process_time()
    measured = {str(each.spec): each for each in measure_candidates(world.tracks, candidates(), world.path)}
    result: dict[str, Any] = {"world": index, "seconds": time.process_time() - started, "rows": []}
    sets = [[name] for name in BEFORE]
    if options.chosen:
        sets = [list(BEFORE), [str(each.spec) for each in choose(list(measured.values()), 2).chosen]]
    else:
        others = [name for name in measured if name not in BEFORE]
        order = np.random.default_rng(index).permutation(len(others))
        sets += [[others[place]] for place in order[:RANDOM]]
    sheet = []
    for number, names in enumerate(sets):
        filled: list[FilledPoints] = []
        for name in names:
            row, points, shown = world.film(CameraSpec.parse(name), filled)
            filled.append(points)
            candidate = measured[name]
            row |= {"camera": name, "set": number, "score": candidate.score, "refused": candidate.refused}
            result["rows"].append({**row, "features": asdict(candidate.features)})
            sheet.append((name, shown))
    if options.sheets is not None:
        save_sheet(
            options.sheets / f"{index}.png",
            [list(each) for _, each in sheet],
            row_labels=[n for n, _ in sheet],
        )
    return result


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def measure(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    done = {each["world"] for each in read(options.output)}
    pipe = More4DPipeline.from_pretrained("tiny")
    for index in range(options.first, options.first + options.worlds):
        if index in done:
            continue
        result = measure_world(index, options, pipe)
        with options.output.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(index, {row["camera"]: round(values_of(row)["worth"], 1) for row in result["rows"]}, flush=True)


def table(worlds: list[dict[str, Any]], wanted: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Terms, worth and world of every row."""
    rows = [(each["world"], row) for each in worlds for row in each["rows"]]
    x = np.array([terms(Features(**row["features"])) for _, row in rows])
    y = np.array([values_of(row)[wanted] for _, row in rows])
    return x, y, np.array([world for world, _ in rows])


def within(values: np.ndarray, world: np.ndarray) -> np.ndarray:
    """Differences from the mean of the same world."""
    means = {each: values[world == each].mean(0) for each in set(world.tolist())}
    return values - np.stack([means[each] for each in world.tolist()])


def ridge(x: np.ndarray, y: np.ndarray, strength: float) -> np.ndarray:
    scale = x.std(0)
    z = x / scale
    return np.linalg.solve(z.T @ z + strength * np.eye(z.shape[1]), z.T @ y) / scale


def fit(options: argparse.Namespace) -> None:
    worlds = read(options.results)
    for wanted in MEASURES[:3]:
        x, y, world = table(worlds, wanted)
        centred, target = within(x, world), within(y, world)
        print(f"{wanted}: {len(worlds)} worlds, {len(y)} films, spread within worlds {target.std():.2f} dB")
        for strength in RIDGE:
            # Every world is left out once: how the rest orders its films, and what the best one is worth.
            explained, picked, over_orbit = [], [], []
            for each in sorted(set(world.tolist())):
                w = ridge(centred[world != each], target[world != each], strength)
                guess, true = centred[world == each] @ w, target[world == each]
                explained.append(np.corrcoef(guess, true)[0, 1])
                picked.append(true[guess.argmax()])
                over_orbit.append(true[guess.argmax()] > true[0])
            w = ridge(centred, target, strength)
            print(
                f"  ridge {strength:g}: correlation {np.nanmean(explained):.2f}, "
                f"pick {np.mean(picked):+.2f} dB, better than orbit in {100 * np.mean(over_orbit):.0f} %",
                f"weights {[round(float(value), 3) for value in w]}",
            )
        best = np.mean([target[world == each].max() for each in set(world.tolist())])
        orbit = np.mean([target[world == each][0] for each in set(world.tolist())])
        print(f"  best possible {best:+.2f} dB, orbit {orbit:+.2f} dB")


def report(options: argparse.Namespace) -> None:
    worlds = read(options.results)
    for wanted in MEASURES:
        wins, ahead = [], []
        before, after = [], []
        for each in worlds:
            values = [values_of(row) for row in each["rows"]]
            sets = [row["set"] for row in each["rows"]]
            first = sets.index(1)  # the first that was chosen
            wins.append(values[first][wanted] > values[0][wanted])
            ahead.append(values[first][wanted] - values[0][wanted])
            for place, kept in ((0, before), (1, after)):
                of_set = [value for value, number in zip(values, sets, strict=True) if number == place]
                # What held-out views gain is of all films of a set together, the rest of each film.
                gain = of_set[-1]["held_out"]
                kept.append(gain if wanted == "held_out" else np.mean([value[wanted] for value in of_set]))
        better = np.array(after) - np.array(before)
        print(
            f"{wanted}: chosen over orbit in {100 * np.mean(wins):.0f} % of {len(worlds)} worlds, "
            f"{np.mean(ahead):+.2f} dB; auto:2 {np.mean(after):.2f} dB, "
            f"the three before {np.mean(before):.2f} dB, better in {100 * np.mean(better > 0):.0f} %"
        )
    refused = [row["camera"] for each in worlds for row in each["rows"] if row["set"] and row["refused"]]
    seconds = np.mean([each["seconds"] for each in worlds])
    print(f"chosen ones that were refused: {refused}; {seconds:.1f} CPU seconds for all candidates")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ways = parser.add_subparsers(required=True)
    way = ways.add_parser("measure")
    way.add_argument("--worlds", type=int, default=48)
    way.add_argument("--first", type=int, default=0)
    way.add_argument("--split", choices=("validation", "test"), default="validation")
    way.add_argument("--chosen", action="store_true", help="what auto:2 chooses, against the paths before")
    way.add_argument("--output", type=Path, required=True)
    way.add_argument("--sheets", type=Path, help="folder for pictures: film, truth")
    way.set_defaults(run=measure)
    for name, function in (("fit", fit), ("report", report)):
        way = ways.add_parser(name)
        way.add_argument("results", type=Path)
        way.set_defaults(run=function)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
