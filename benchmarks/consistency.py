"""Consistency of inpainted regions between two camera paths, with and without the memory of filled points.

    python benchmarks/consistency.py --output benchmarks/results/consistency.json --sheets sheets

Procedural scenes of the test set, with their true tracks, are rendered along two paths. Evaluated are pixels
that are holes in both and see the same world point, by the true depth: in the same frame and, for the static
background, in different frames. Their inpainted colours are compared with each other, and those of all holes
of the second path with the ground truth. Rows:

    alone              every path fills its own holes
    kept               as the pipeline does: filled points of the first path are rendered in the second
    kept, own frame    a frame of the second path renders the points of the same frame only
    kept, all at once  points of all frames, whichever is nearest to the camera
    kept, estimated    the depth of filled pixels is the preset's estimate of the finished frame, aligned to
                       the known depth by scale and shift of its inverse
    kept, true depth   with the true depth of filled pixels: an upper bound for better depth
    truth              the two true videos compared: noise, blocks and pixel grids differ

The depth of filled pixels is compared, too.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from more4d.depth.interface import DepthEstimator
from more4d.evaluation.data import unseen_scene
from more4d.evaluation.tracks import native_size
from more4d.files.atomic import write_bytes
from more4d.files.previews import save_sheet
from more4d.geometry.background import extend_depth
from more4d.geometry.camera import CameraPath
from more4d.geometry.poses import named_camera_path, rigid_inverse
from more4d.geometry.tracks import FilledPoints
from more4d.metrics.image_quality import hole_flicker, hole_psnr_db
from more4d.pipeline import VIEW_COMPONENTS
from more4d.pipelines import fill_memory
from more4d.pipelines.components import Components
from more4d.pipelines.fill_memory import composite_fill, unproject_fill
from more4d.pipelines.views import fill_holes
from more4d.raster.interface import Rendering
from more4d.raster.render import render_tracks
from more4d.scenes.render import SceneVideo, render_clip, render_video

ROOT = Path(__file__).resolve().parent.parent
PAIRS = (
    ("orbit", "surrounding"),
    ("mix1", "anti-surrounding"),
    ("surrounding", "mix2"),
    ("turn-right", "anti-surrounding"),
    ("circular", "orbit"),
    ("x_moving", "orbit"),
)
SAME_POINT = 0.02
"""Relative difference of depths up to which two pixels see one point."""
LEAST_PIXELS = 200
EVERY = 3
"""Between different frames, every so many of each path are compared."""
VARIANTS = (
    "alone",
    "kept",
    "kept, own frame",
    "kept, all at once",
    "kept, estimated",
    "kept, true depth",
)


@dataclass(frozen=True, kw_only=True)
class View:
    """A camera path over a scene: its rendering, the ground truth, and the finished video."""

    path: CameraPath
    rendering: Rendering
    truth: SceneVideo
    video: Tensor


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pixels of two views that see the same point: (frames, rows, columns) of each."""

    first: tuple[Tensor, Tensor, Tensor]
    second: tuple[Tensor, Tensor, Tensor]

    def psnr_db(self, first: Tensor, second: Tensor) -> float:
        return float(-10 * (first[self.first] - second[self.second]).square().mean().log10())


def common_holes(first: View, second: View, frame_pairs: list[tuple[int, int]], *, still: bool) -> Pairs:
    """Pixels that are holes in both and see one point; `still`: of the background, which does not move."""
    found: list[list[Tensor]] = [[] for _ in range(6)]
    height, width = first.rendering.coverage.shape[1:]
    for one, two in frame_pairs:
        holes = first.rendering.hole_mask[one]
        if still:
            holes = holes & (first.truth.object_ids[one] == 0)
        if not bool(holes.any()):
            continue
        rows, columns = holes.nonzero().unbind(1)
        pose = rigid_inverse(first.path.world_to_camera[one].double()).float()
        local = first.path.camera(one).unproject_depth(first.truth.depth_m[one])[holes]
        points = local @ pose[:3, :3].T + pose[:3, 3]
        place, depth = second.path.camera(two).project(second.path.to_camera(two, points))
        column, row = (place[:, 0] * width).floor().long(), (place[:, 1] * height).floor().long()
        inside = (depth > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        column, row = column.clamp(0, width - 1), row.clamp(0, height - 1)
        there = second.truth.depth_m[two][row, column]
        same = inside & second.rendering.hole_mask[two][row, column]
        same &= (depth / there - 1).abs() < SAME_POINT
        if still:
            same &= second.truth.object_ids[two][row, column] == 0
        count = int(same.sum())
        new = (torch.full((count,), one), rows[same], columns[same])
        new += (torch.full((count,), two), row[same], column[same])
        for values, more in zip(found, new, strict=True):
            values.append(more)
    joined = [torch.cat(values) if values else torch.zeros(0, dtype=torch.long) for values in found]
    return Pairs(first=tuple(joined[:3]), second=tuple(joined[3:]))


def estimated_depth(estimator: DepthEstimator, view: View, frame: int) -> Tensor:
    """Estimated depth of a finished frame, its inverse aligned to the known one by scale and shift."""
    known = ~view.rendering.hole_mask[frame]
    depth = view.rendering.depth_m[frame]
    estimate = 1 / estimator.estimate(view.video[frame], view.path.camera(frame)).depth_m
    given = torch.stack([estimate[known], torch.ones_like(estimate[known])], 1).double()
    wanted = 1 / depth[known].double()
    weight = torch.ones_like(wanted)
    for _ in range(10):  # least absolute relative error, by weights
        both = given * weight[:, None]
        scale, shift = torch.linalg.solve(both.T @ given, both.T @ wanted)
        off = ((scale * given[:, 0] + shift) / wanted - 1).abs()
        weight = 1 / (wanted.square() * (off + 0.02))
    inverse = (scale * estimate + shift).clamp(min=0.5 * float(wanted.min())).float()
    return torch.where(known, depth, 1 / inverse)


@contextmanager
def depth_given(view: View, depth_of: Callable[[int], Tensor]) -> Iterator[None]:
    """Inside the context, `unproject_fill` of this view takes the depth of frame i from `depth_of(i)`."""
    frames = iter(
        [frame for frame, holes in enumerate(view.rendering.hole_mask) if holes.any() and not holes.all()]
    )
    with mock.patch.object(fill_memory, "extend_depth", lambda *given: depth_of(next(frames))):
        yield


def shown_in(variant: str, first: View, second: View, estimator: DepthEstimator) -> Rendering:
    """The rendering of the second path, given the filled points of the first."""
    if variant == "alone":
        return second.rendering
    if variant in ("kept, true depth", "kept, estimated"):
        true = variant == "kept, true depth"
        with depth_given(
            first, lambda i: first.truth.depth_m[i] if true else estimated_depth(estimator, first, i)
        ):
            return composite_fill(second.rendering, second.path, _lifted(first))
    points = _lifted(first)
    if variant == "kept, all at once":
        points = replace(
            points,
            frame=torch.zeros_like(points.frame),
            visible_in_all_frames=points.visible_in_all_frames | True,
        )
    if variant != "kept, own frame":
        return composite_fill(second.rendering, second.path, points)
    frames = [
        composite_fill(
            second.rendering.slice_frames(frame, frame + 1),
            replace(
                second.path,
                world_to_camera=second.path.world_to_camera[frame : frame + 1],
                intrinsics=second.path.intrinsics[frame : frame + 1],
            ),
            replace(points.select(points.frame == frame), frame=points.frame[points.frame == frame] * 0),
        )
        for frame in range(second.path.frames)
    ]
    return Rendering.concat(frames)


def _lifted(view: View) -> FilledPoints:
    return unproject_fill(view.video, view.rendering, view.path)


def depth_errors(first: View, estimator: DepthEstimator) -> dict[str, dict[str, float]]:
    """Median relative error of depth at filled pixels, and the fraction with less than 5 %."""
    off: dict[str, list[Tensor]] = {"continued": [], "estimated": []}
    for frame in range(0, len(first.video), 4):
        holes = first.rendering.hole_mask[frame]
        if not bool(holes.any()) or bool(holes.all()):
            continue
        continued = extend_depth(first.rendering.depth_m[frame], ~holes)
        for name, depth in (
            ("continued", continued),
            ("estimated", estimated_depth(estimator, first, frame)),
        ):
            off[name].append((depth / first.truth.depth_m[frame]).log().abs()[holes])
    return {
        name: {
            "median": float(torch.cat(each).median()),
            "within_5_percent": float((torch.cat(each) < 0.05).float().mean()),
        }
        for name, each in off.items()
    }


def measure(models: Components, index: int, sheets: Path | None) -> dict[str, Any] | None:
    """One scene along its two paths; None if they have too few pixels in common."""
    frames = models.preset.frames
    height, width = native_size(models.preset)
    size = {"height": height, "width": width, "frames": frames}
    unseen = unseen_scene(index)
    clip = render_clip(unseen.scene, visibility="none", **size)
    names = PAIRS[index % len(PAIRS)]
    views = []
    for name in names:
        path = named_camera_path(
            name, frames=frames, scene_depth_m=clip.depth.scene_depth_m, camera=clip.tracks.camera
        )
        rendering = render_tracks(clip.tracks, path, height=height, width=width)
        truth = render_video(unseen.scene, camera_path=path, **size)
        views.append(View(path=path, rendering=rendering, truth=truth, video=truth.frames))

    def finished(rendering: Rendering) -> Tensor:
        return fill_holes(models, rendering, clip.tracks.colours, clip.caption, seed=index)

    first = replace(views[0], video=finished(views[0].rendering))
    second = views[1]
    same_frame = common_holes(first, second, [(i, i) for i in range(frames)], still=False)
    others = [(i, j) for i in range(0, frames, EVERY) for j in range(0, frames, EVERY) if i != j]
    other_frames = common_holes(first, second, others, still=True)
    if len(same_frame.first[0]) < LEAST_PIXELS:
        return None
    estimator, holes = models.depth_estimator(), second.rendering.hole_mask
    result: dict[str, Any] = {
        "seed": unseen.seed,
        "caption": clip.caption,
        "paths": names,
        "pixels": len(same_frame.first[0]),
        "pixels_of_other_frames": len(other_frames.first[0]),
        "depth": depth_errors(first, estimator),
        "truth": {"agreement_db": same_frame.psnr_db(first.truth.frames, second.truth.frames)},
    }
    videos: dict[str, Tensor] = {}
    for variant in VARIANTS:
        shown = shown_in(variant, first, second, estimator)
        video = videos[variant] = finished(shown)
        enough = len(other_frames.first[0]) >= LEAST_PIXELS
        result[variant] = {
            "agreement_db": same_frame.psnr_db(first.video, video),
            "agreement_of_other_frames_db": other_frames.psnr_db(first.video, video) if enough else None,
            "hole_psnr_db": hole_psnr_db(video, second.truth.frames, holes),
            "flicker": hole_flicker(video, holes) / hole_flicker(second.truth.frames, holes),
            "holes_shown": 1 - float(shown.hole_mask.sum() / holes.sum()),
        }
    if sheets is not None:
        draw(sheets / f"{index:03d}.png", f"{clip.caption} ({' | '.join(names)})", first, second, videos)
    return result


def draw(path: Path, title: str, first: View, second: View, videos: dict[str, Tensor]) -> None:
    """A contact sheet of both paths, with and without memory."""
    frames = [round(part * (len(first.video) - 1)) for part in (0.3, 0.6, 0.8, 1)]
    columns = {
        "first sees": first.rendering.colour,
        "first, finished": first.video,
        "second sees": second.rendering.colour,
        "second, alone": videos["alone"],
        "second, kept": videos["kept"],
        "truth of second": second.truth.frames,
    }
    save_sheet(
        path,
        [[video[frame] for video in columns.values()] for frame in frames],
        captions=[list(columns)] * len(frames),
        title=title,
        tile_height=160,
    )


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over scenes, of colours and of depth."""
    means: dict[str, Any] = {}
    for variant in (*VARIANTS, "truth"):
        means[variant] = {
            key: statistics.mean(each[variant][key] for each in results if each[variant][key] is not None)
            for key in results[0][variant]
        }
    means["depth"] = {
        name: {key: statistics.mean(each["depth"][name][key] for each in results) for key in errors}
        for name, errors in results[0]["depth"].items()
    }
    gains = [each["kept"]["agreement_db"] - each["alone"]["agreement_db"] for each in results]
    means["scenes_that_agree_better"] = sum(gain > 0 for gain in gains)
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--preset", default=None)
    parser.add_argument("--weights", type=Path, default=None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--sheets", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    models = Components.from_pretrained(options.weights, options.device, preset=options.preset)
    results = []
    for index in range(options.first, options.first + options.scenes):
        result = measure(models, index, options.sheets)
        if result is None:
            print(f"{index}: the paths have too few holes in common", flush=True)
            continue
        results.append(result)
        alone, kept = result["alone"], result["kept"]
        print(
            f"{index}: {' | '.join(result['paths'])}: agree by {alone['agreement_db']:.1f} dB alone, "
            f"{kept['agreement_db']:.1f} dB kept; holes against the truth {alone['hole_psnr_db']:.2f} and "
            f"{kept['hole_psnr_db']:.2f} dB",
            flush=True,
        )
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    document = {
        "scenes": len(results),
        "summary": summary(results),
        "results": results,
        "preset": models.preset.name,
        "weights": models.fingerprint(*VIEW_COMPONENTS),
        "commit": commit,
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, {options.device}",
        "torch": torch.__version__,
    }
    print(json.dumps(document["summary"], indent=1))
    if options.output:
        write_bytes(options.output, (json.dumps(document, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
