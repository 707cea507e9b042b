"""Amount of motion, strokes and unknown nouns: what was asked for against what happens.

    python benchmarks/motion_control.py --scenes 12 --output motion_control.json --sheets sheets
    python benchmarks/motion_control.py --scenes 20 --levels reach guidance
    python benchmarks/motion_control.py --scenes 10 --following
    python benchmarks/motion_control.py --scenes 0 --data ../shared/data       the cut-outs of rgba-a alone

Procedural scenes with their true depth at 192 x 256, and pictures whose opacity is the true outline, seen on
white. For every scene:

    amount   --motion 0.25 to 3: reach (rms of the normalised way of what moves) in units of that at 1
    strokes  a stroke from the middle of an object over a fifth of the width, without a prompt: how far its
             end is missed, in widths; how much of what moves is the object (IoU); jerk
    unknown  scenes with one object, "the blorp moves to the left" or "right": IoU and direction

With --following instead, in as many scenes as are asked for in which something walks: strokes along its true
way and away from it, beside the true caption, at each of `CLOSENESS`. Articulation is what the best rigid
motion of the true thing leaves of its tracks (rms, pixels), way how far it goes along the stroke, as a share
of that; both also of the truth and of the prompt alone.

With --levels instead: --motion-reach 0.1 to 0.9, or --still-guidance -0.5 to 1, against the reach that comes
out, as training measures it; beside it direction, drift of what is still and jerk, also without the option.
Spearman is over all scenes and levels, and within each scene (mean).
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice, pairwise
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor

from more4d.evaluation.data import large_objects, unseen_scene
from more4d.evaluation.photos import cut_outs
from more4d.evaluation.tracks import about_positions
from more4d.files.previews import draw_tracks, save_sheet
from more4d.geometry.camera import Camera, DepthMap
from more4d.geometry.rigid_motion import fit_rigid, reach
from more4d.geometry.tracks import UpsampledTracks, normalise_motion
from more4d.metrics.motion import jerk_px, moved_mask
from more4d.pipeline import More4DPipeline
from more4d.pipelines.depth import read_photo
from more4d.pipelines.motion_control import NEUTRAL, MotionControl, Stroke
from more4d.pipelines.tracks import image_to_tracks
from more4d.scenes.render import SceneClip, render_clip

SIZE = {"height": 192, "width": 256}
AMOUNTS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
FOLLOWS = (1.0, 0.85, 0.7, 0.5)
CLOSENESS = (1.0, 0.95, 0.85, 0.7, 0.5, 0.3)
WAY = 0.2
DIRECTIONS = {"left": -1, "right": 1}
LEVELS = {
    "reach": [MotionControl(reach=each) for each in (0.1, 0.3, 0.5, 0.7, 0.9)],
    "guidance": [MotionControl(still_guidance=each) for each in (-0.5, 0.0, 0.5, 1.0)],
}


def overlap(one: Tensor, other: Tensor) -> float:
    return float((one & other).sum()) / max(float((one | other).sum()), 1.0)


def innermost(mask: Tensor) -> tuple[float, float]:
    """x, y of the pixel of a mask that is farthest from its outline."""
    left, layers = mask[None, None].float(), torch.zeros(mask.shape)
    while bool(left.any()):
        layers += left[0, 0]
        left = -torch.nn.functional.max_pool2d(-torch.nn.functional.pad(left, (1, 1, 1, 1)), 3, 1)
    row, column = divmod(int(layers.argmax()), mask.shape[1])
    return column + 0.5, row + 0.5


def tracks_of(
    pipe: More4DPipeline, image: Tensor, depth: DepthMap, prompt: str, control: MotionControl = NEUTRAL
) -> UpsampledTracks:
    frames = pipe.preset.frames
    return image_to_tracks(
        pipe.components, image, depth, prompt, seed=0, frames=frames, fps=12.0, control=control
    )


def moving(tracks: UpsampledTracks) -> Tensor:
    return moved_mask(tracks.positions, tracks.camera)


def measure_amounts(pipe: More4DPipeline, image: Tensor, depth: DepthMap, prompt: str) -> list[float] | None:
    """Reach at each of `AMOUNTS` in units of that at 1; None if nothing moves."""
    found = {}
    where = moving(tracks_of(pipe, image, depth, prompt))
    for amount in AMOUNTS:
        tracks = tracks_of(pipe, image, depth, prompt, MotionControl(amount=amount))
        found[amount] = reach(normalise_motion(tracks.positions, tracks.camera), where)
    return [found[amount] / found[1.0] for amount in AMOUNTS] if found[1.0] else None


def measure_levels(pipe: More4DPipeline, index: int, split: str, option: str) -> list[dict[str, Any]]:
    """Measures of one scene without the option, then at each of its `LEVELS`."""
    frames = pipe.preset.frames
    clip = render_clip(unseen_scene(index, split=split).scene, frames=frames, visibility="none", **SIZE)
    truth, rows = clip.tracks, []
    for control in (NEUTRAL, *LEVELS[option]):
        tracks = tracks_of(pipe, truth.colours, clip.depth, clip.caption, control)
        found = about_positions(tracks.positions, clip)
        rows.append(
            {
                "reach": reach(normalise_motion(tracks.positions, tracks.camera)),
                "direction": [right for _, right in found["directions"]],
                "drift_px": found["errors"]["drift_px"],
                "jerk_px": found["jerk_px"],
            }
        )
    jerk = jerk_px(truth.positions, truth.camera, moved_mask(truth.positions, truth.camera))
    return [{**row, "jerk / truth's": row["jerk_px"] / jerk} for row in rows]


def summarise_levels(scenes: list[list[dict[str, Any]]], option: str) -> dict[str, Any]:
    def ranks_agree(rows: list[list[dict[str, Any]]]) -> float:
        asked = [number for _ in rows for number in range(len(LEVELS[option]))]
        return float(spearmanr(asked, [level["reach"] for row in rows for level in row[1:]]).statistic)

    means = []
    for level in zip(*scenes, strict=True):
        rights = [right for each in level for right in each["direction"]]
        row = {name: statistics.fmean(each[name] for each in level) for name in ("reach", "drift_px")}
        row["jerk / truth's, median"] = statistics.median(each["jerk / truth's"] for each in level)
        means.append({**row, "direction": statistics.fmean(rights), "of": len(rights)})
    alone = [ranks_agree([scene]) for scene in scenes if len({each["reach"] for each in scene[1:]}) > 1]
    return {
        "scenes": len(scenes),
        "without, then by level": means,
        "spearman": ranks_agree(scenes),
        "spearman within a scene, mean": statistics.fmean(alone),
        "each level's mean above the last": all(
            low["reach"] < high["reach"] for low, high in pairwise(means[1:])
        ),
    }


def measure_strokes(
    pipe: More4DPipeline, image: Tensor, depth: DepthMap, thing: Tensor
) -> tuple[dict[str, Any], list[Tensor]]:
    """Measures for each of `FOLLOWS`, and pictures of them."""
    height, width = thing.shape
    x, y = innermost(thing)
    start = (x / width, y / height)
    end = (start[0] + (WAY if start[0] < 0.5 else -WAY), start[1])
    measures, pictures, camera = {}, [], depth.camera
    for follow in FOLLOWS:
        control = MotionControl(strokes=(Stroke.of([start, end]),), follow=follow)
        tracks = tracks_of(pipe, image, depth, "", control)
        positions = tracks.positions
        last = positions[-1, int(y), int(x)]
        seen = (camera.fx * last[0] / last[2] + camera.cx, camera.fy * last[1] / last[2] + camera.cy)
        missed = float(((seen[0] - end[0]) ** 2 + ((seen[1] - end[1]) * height / width) ** 2) ** 0.5)
        where = moving(tracks)
        jerk = jerk_px(positions, camera, where)
        measures[str(follow)] = {"missed": missed, "iou": overlap(where, thing), "jerk_px": jerk}
        pictures.append(draw_tracks(tracks.at_pixels(slice(None), slice(None)), frames=[-1])[0])
    return measures, pictures


def articulation_px(positions: Tensor, thing: Tensor, camera: Camera) -> float:
    """What the best rigid motion from frame 0 leaves of the tracks of a thing: rms, pixels."""
    points = positions[:, thing].double()
    poses = fit_rigid(points[0], points)
    left = points - (points[0] @ poses[:, :3, :3].mT + poses[:, None, :3, 3])
    focal_px = camera.focal_px(width=thing.shape[1], height=thing.shape[0])[0]
    return float((focal_px * left / points[..., 2:]).square().sum(-1).mean().sqrt())


def measure_following(pipe: More4DPipeline, clip: SceneClip, thing: Tensor) -> dict[str, Any]:
    """Articulation and way of the truth, of the prompt alone, and at each closeness along and against."""
    truth, camera = clip.tracks, clip.tracks.camera
    x, y = innermost(thing)
    at = (slice(None), int(y), int(x))

    def place(positions: Tensor) -> Tensor:
        return camera.project(positions[at][[0, -1]])[0]

    def measured(positions: Tensor, way: Tensor) -> dict[str, float]:
        gone = camera.project(positions[-1][thing])[0] - camera.project(positions[0][thing])[0]
        along = float((gone.mean(0) @ way) / (way @ way))
        missed = float((place(positions).diff(dim=0)[0] - way).norm())
        px = articulation_px(positions, thing, camera)
        return {"articulation_px": px, "along": along, "missed": missed}

    start, end = place(truth.positions)
    way = end - start
    found = {"truth": measured(truth.positions, way)}
    alone = tracks_of(pipe, truth.colours, clip.depth, clip.caption)
    found["prompt"] = measured(alone.positions, way)
    for name, asked in (("stroke", way), ("against", -way)):
        for follow in CLOSENESS:
            # With the true outline: what is missed of it would rest, and count as articulation.
            stroke = replace(Stroke.of([start.tolist(), (start + asked).tolist()]), mask=thing)
            control = MotionControl(strokes=(stroke,), follow=follow)
            tracks = tracks_of(pipe, truth.colours, clip.depth, clip.caption, control)
            found[f"{name} {follow:g}"] = measured(tracks.positions, asked)
    return found


def walking(split: str, first: int, frames: int) -> Iterator[tuple[int, SceneClip, Tensor]]:
    """Scenes in which one thing walks across: index, clip, and where the thing is."""
    for index in count(first):
        scene = unseen_scene(index, split=split).scene
        movers = {action.object_id: action for action in scene.actions if action.verb != "still"}
        ways = [(action.verb, action.direction) for action in movers.values()]
        if len(ways) != 1 or ways[0][0] not in ("walk", "run") or ways[0][1] not in DIRECTIONS:
            continue
        clip = render_clip(scene, frames=frames, visibility="none", **SIZE)
        (number,) = movers
        if number in large_objects(clip):
            yield index, clip, clip.object_ids == number


def measure_unknown(
    pipe: More4DPipeline, image: Tensor, depth: DepthMap, thing: Tensor
) -> tuple[list[dict[str, Any]], list[Tensor]]:
    """Whether a thing without a name moves as a whole, and where it goes."""
    measures, pictures = [], []
    for name, sign in DIRECTIONS.items():
        tracks = tracks_of(pipe, image, depth, f"the blorp moves to the {name}")
        where = moving(tracks)
        way = (tracks.positions[-1] - tracks.positions[0])[where][:, 0]
        right = bool(where.any()) and float(way.mean()) * sign > 0
        measures.append({"iou": overlap(where, thing), "direction": right})
        pictures.append(draw_tracks(tracks.at_pixels(slice(None), slice(None)), frames=[-1])[0])
    return measures, pictures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=[], help="measure these instead")
    parser.add_argument("--following", action="store_true", help="measure closeness to strokes instead")
    parser.add_argument("--part", help="file of motion_reach in place of the preset's")
    parser.add_argument("--data", type=Path, help="folder that holds rgba-a")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--sheets", type=Path)
    options = parser.parse_args()
    parts = {"motion_reach": options.part} if options.part else None
    pipe = More4DPipeline.from_pretrained(options.preset, components=parts)
    for option in options.levels:
        levels = []
        for index in range(options.first, options.first + options.scenes):
            levels.append(measure_levels(pipe, index, options.split, option))
            report({"scene": index, option: [each["reach"] for each in levels[-1]]})
        print(json.dumps({option: summarise_levels(levels, option)}, indent=2), flush=True)
    if options.following:
        scenes = []
        found = walking(options.split, options.first, pipe.preset.frames)
        for index, clip, thing in islice(found, options.scenes):
            scenes.append(measure_following(pipe, clip, thing))
            report({"scene": index, "caption": clip.caption, **scenes[-1]})
        medians = {
            name: {key: statistics.median(each[name][key] for each in scenes) for key in scenes[0][name]}
            for name in scenes[0]
        }
        print(json.dumps(medians, indent=2), flush=True)
    if options.levels or options.following:
        return
    rows: list[dict[str, Any]] = []
    for index in range(options.first, options.first + options.scenes):
        scene = unseen_scene(index, split=options.split).scene
        clip = render_clip(scene, frames=2, visibility="none", **SIZE)
        image, depth = clip.tracks.colours, clip.depth
        things = [clip.object_ids == number for number in sorted(large_objects(clip))]
        row: dict[str, Any] = {"scene": index, "amounts": measure_amounts(pipe, image, depth, clip.caption)}
        row["strokes"], pictures = measure_strokes(pipe, image, depth, things[0])
        if len(things) == 1:
            row["unknown"], more = measure_unknown(pipe, image, pipe.estimate_depth(image), things[0])
            pictures += more
        rows.append(row)
        report(row)
        if options.sheets:
            save_sheet(options.sheets / f"{index:03d}.png", [[image, *pictures]], title=clip.caption)
    pictures_of = sorted({file for file, _, _ in cut_outs(options.data)}) if options.data else []
    if options.data and not pictures_of:
        parser.error(f"there are no cut-outs below {options.data}/rgba-a")
    for file in pictures_of:
        photo = read_photo(file)
        image = pipe.prepare_image(photo)
        depth, outline = pipe.estimate_depth(photo), photo.fitted(*image.shape[:2]).outline
        measured, pictures = measure_unknown(pipe, image, depth, outline)
        rows.append({"scene": file.stem, "unknown": measured})
        report(rows[-1])
        if options.sheets:
            save_sheet(options.sheets / f"{file.stem}.png", [[image, *pictures]], title=file.stem)
    summary = summarise(rows)
    print(json.dumps(summary, indent=2))
    if options.output:
        options.output.write_text(json.dumps({"summary": summary, "rows": rows}, indent=2) + "\n")


def report(row: dict[str, Any]) -> None:
    print(json.dumps(row), flush=True)


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    amounts = [row["amounts"] for row in rows if row.get("amounts")]
    if amounts:
        means = [statistics.fmean(column) for column in zip(*amounts, strict=True)]
        summary["reach by amount"] = dict(zip(map(str, AMOUNTS), means, strict=True))
        ordered = sum(row == sorted(row) for row in amounts)
        summary["scenes whose reach grows with every amount"] = f"{ordered} of {len(amounts)}"
    strokes = [row["strokes"] for row in rows if "strokes" in row]
    for follow in map(str, FOLLOWS) if strokes else ():
        missed = [row[follow]["missed"] for row in strokes]
        summary[f"strokes, follow {follow}"] = {
            "missed, median": statistics.median(missed),
            "missed, most": max(missed),
            "iou, median": statistics.median(row[follow]["iou"] for row in strokes),
            "jerk_px, median": statistics.median(row[follow]["jerk_px"] for row in strokes),
        }
    for kind, label in ((int, "unknown noun, scenes with one object"), (str, "unknown noun, cut-outs")):
        mine = [each for row in rows if isinstance(row["scene"], kind) for each in row.get("unknown", ())]
        if mine:
            summary[label] = {
                "iou, median": statistics.median(each["iou"] for each in mine),
                "direction": statistics.fmean(each["direction"] for each in mine),
                "of": len(mine),
            }
    return summary


if __name__ == "__main__":
    main()
