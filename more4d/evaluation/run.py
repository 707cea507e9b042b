"""One evaluation: the items of every section measured or taken from the record, summarised and written."""

import json
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from more4d import __version__
from more4d.evaluation.data import Split, UnseenScene, measured_frames, unseen_scene
from more4d.evaluation.depth import measure_frame_depth, measure_scene_depth, summarise_depth
from more4d.evaluation.photos import (
    cut_outs,
    measure_outline,
    measure_photo,
    photos,
    summarise_outlines,
    summarise_photos,
)
from more4d.evaluation.record import Record, plain
from more4d.evaluation.tables import markdown, page
from more4d.evaluation.tracks import mean_motion, measure_tracks, native_size, summarise_tracks
from more4d.evaluation.views import PerceptualMetrics, measure_view, summarise_views
from more4d.evaluation.words import HELD_OUT_WORDS, MOST_SCENES, measure_words, summarise_words
from more4d.files.atomic import file_fingerprint, fingerprint, write_bytes
from more4d.foundation.documents import read_json
from more4d.foundation.errors import ConfigError, InputError
from more4d.metrics.vbench_backend import vbench_scores
from more4d.pipelines.components import Components
from more4d.pipelines.preset import ComponentFiles
from more4d.pipelines.sampling import Progress, no_progress

PACKAGE = Path(__file__).resolve().parents[1]
SUBPACKAGES = (
    "geometry", "language", "raster", "diffusion", "metrics", "depth", "networks", "scenes", "weights",
    "performance", "pipelines", "evaluation",
)  # fmt: skip
"""The packages whose code determines the results."""


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Which sections are evaluated, and on how many items.

    Attributes:
        sections: names of `SECTIONS`, in this order.
        scenes: procedural scenes of the test set, for tracks and for depth.
        seeds: motions generated per scene.
        pairs: scenes of the test set that are rendered along a second camera path.
        split: "test", or "validation" for the selection of weights.
        data: folder of real photos and measured depth; None for procedural scenes only.
        drawn: how many items of a section get a contact sheet.
        clip: folder of a CLIP model in the layout of transformers, if the user has it.
        video_features: folder of a VideoMAE model, likewise.
        lpips: whether LPIPS is measured, which needs its package.
    """

    sections: Sequence[str] = ("tracks", "words", "depth", "views", "photos", "outlines")
    scenes: int = 200
    seeds: int = 4
    pairs: int = 64
    split: Split = "test"
    data: Path | None = None
    drawn: int = 16
    clip: Path | None = None
    video_features: Path | None = None
    lpips: bool = False


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The inputs of all sections.

    Attributes:
        models: the evaluated networks.
        options: sections and numbers of items.
        output: folder of records, contact sheets and videos.
        progress: called after every item.
    """

    models: Components
    options: EvaluationOptions
    output: Path
    progress: Progress

    def scene(self, index: int) -> UnseenScene:
        """A scene of the chosen set, with the aspect of the preset."""
        height, width = native_size(self.models.preset)
        return unseen_scene(index, split=self.options.split, aspect=width / height)

    def sheet(self, stage: str, index: int) -> Path | None:
        """The file of an item's contact sheet; None if it gets none."""
        if index >= self.options.drawn:
            return None
        return self.output / "pictures" / f"{stage}_{index:03d}.png"

    @cached_property
    def inputs(self) -> list[Any]:
        """Code, preset and weights: what determines results besides a section's options."""
        files = sorted(path for name in SUBPACKAGES for path in (PACKAGE / name).rglob("*.py"))
        files += sorted((PACKAGE / "language").glob("*.txt"))
        code = fingerprint([file_fingerprint(path) for path in files])
        preset = asdict(self.models.preset)
        del preset["components"], preset["loras"]
        return [code, preset, self.models.fingerprint(*all_components(self.models))]

    def items(
        self, stage: str, key: Any, count: int, measure: Callable[[int], Mapping[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        """The results of items 0 to `count`, from the record or measured now."""
        record = Record(self.output / f"{stage}.jsonl", [self.inputs, key])
        self.progress(stage, 0, count)
        for index in range(count):
            known = record.get(index)
            yield known if known is not None else record.add(index, measure(index))
            self.progress(stage, index + 1, count)


def all_components(models: Components) -> list[str]:
    """The components of the preset that are measured; depth is always among them, as it may need no file."""
    names = [part.name for part in fields(ComponentFiles) if part.name != "motion_reach"]
    return [name for name in names if name == "depth" or models.has(name)]


def _tracks(run: Evaluation) -> dict[str, Any]:
    seeds, stage = run.options.seeds, "tracks"
    means: dict[Any, Any] = {}

    def measure(index: int) -> dict[str, Any]:
        if not means:
            means.update(mean_motion(run.models.preset.frames))
        sheet = run.sheet(stage, index)
        return measure_tracks(run.models, run.scene(index), means, seeds=seeds, sheet=sheet)

    key = [seeds, run.options.split]
    return summarise_tracks(list(run.items(stage, key, run.options.scenes, measure)))


def _words(run: Evaluation) -> dict[str, Any]:
    count = min(run.options.scenes, MOST_SCENES)
    key = [run.options.split, HELD_OUT_WORDS]
    return summarise_words(
        list(run.items("words", key, count, lambda index: measure_words(run.models, run.scene(index))))
    )


def _depth(run: Evaluation) -> dict[str, Any]:
    data, stage = run.options.data, "depth"
    frames = measured_frames(data) if data else []

    def measure(index: int) -> dict[str, Any]:
        return measure_scene_depth(run.models, run.scene(index), sheet=run.sheet(stage, index))

    def measure_real(index: int) -> dict[str, Any]:
        sheet = run.output / "pictures" / f"{stage}_measured_{index:03d}.png"
        return measure_frame_depth(run.models, frames[index], sheet=sheet)

    results = list(run.items(stage, run.options.split, run.options.scenes, measure))
    key = [[str(frame.photo), frame.photo.stat().st_size] for frame in frames]
    results += list(run.items(f"{stage}_measured", key, len(frames), measure_real)) if frames else []
    return summarise_depth(results)


def _views(run: Evaluation) -> dict[str, Any]:
    options = run.options
    perception = PerceptualMetrics(
        options.clip, options.video_features, lpips=options.lpips, device=run.models.device
    )

    def measure(index: int) -> dict[str, Any]:
        return measure_view(run.models, run.scene(index), perception, sheet=run.sheet("views", index))

    key = [options.split, str(options.clip), str(options.video_features), options.lpips]
    return summarise_views(list(run.items("views", key, options.pairs, measure)))


def _photos(run: Evaluation) -> dict[str, Any]:
    listed = photos(run.options.data) if run.options.data else []

    def measure(index: int) -> dict[str, Any]:
        return measure_photo(run.models, *listed[index], folder=run.output, name=f"photos_{index:03d}")

    key = [[str(file), prompt, file.stat().st_size] for file, prompt, _ in listed]
    return summarise_photos(list(run.items("photos", key, len(listed), measure)))


def _outlines(run: Evaluation) -> dict[str, Any]:
    listed = cut_outs(run.options.data) if run.options.data else []

    def measure(index: int) -> dict[str, Any]:
        return measure_outline(run.models, *listed[index], sheet=run.sheet("outlines", index))

    key = [[str(file), prompt, file.stat().st_size] for file, prompt, _ in listed]
    return summarise_outlines(list(run.items("outlines", key, len(listed), measure)))


def _vbench(run: Evaluation) -> dict[str, Any]:
    videos = run.output / "videos"
    if not videos.is_dir():
        raise InputError(f"there are no videos in {videos} for VBench; measure photos first")
    run.progress("vbench", 0, 1)
    scores = vbench_scores(videos, run.output / "vbench", device=str(run.models.device))
    run.progress("vbench", 1, 1)
    return dict(scores)


SECTIONS: dict[str, Callable[[Evaluation], dict[str, Any]]] = {
    "tracks": _tracks,
    "words": _words,
    "depth": _depth,
    "views": _views,
    "photos": _photos,
    "outlines": _outlines,
    "vbench": _vbench,
}

RESULTS, TABLE, PAGE = "results.json", "table.md", "index.html"


def evaluate(
    models: Components, options: EvaluationOptions, output: Path, *, progress: Progress = no_progress
) -> dict[str, Any]:
    """Measure the requested sections; items in the record are not measured again.

    `output` receives a record per section, from which a stopped run resumes, contact sheets, videos, and the
    results of all sections measured there with these weights: results.json, table.md and index.html.

    Raises:
        WeightsError: a network's file cannot be used.
        MissingPackageError: a requested measure needs an optional package.
        InputError: a file of the data cannot be read.
        ConfigError: a section is unknown.
    """
    unknown = [name for name in options.sections if name not in SECTIONS]
    if unknown:
        raise ConfigError(f"there is no section '{unknown[0]}'; known: {', '.join(SECTIONS)}")
    run = Evaluation(models=models, options=options, output=output, progress=progress)
    results = _about(models, options)
    results |= _earlier(output / RESULTS, results["about"])
    for name in options.sections:
        started, worked = time.monotonic(), time.process_time()
        results[name] = plain(SECTIONS[name](run))
        results[name]["seconds"] = round(time.monotonic() - started, 1)
        results[name]["cpu_seconds"] = round(time.process_time() - worked, 1)
        results = {key: results[key] for key in ("about", *SECTIONS) if key in results}
        write_bytes(output / RESULTS, (json.dumps(results, indent=1, allow_nan=False) + "\n").encode())
        write_bytes(output / TABLE, markdown(results).encode())
        write_bytes(output / PAGE, page(results, output).encode())
    return results


def _about(models: Components, options: EvaluationOptions) -> dict[str, Any]:
    """Date, hardware, version and weights of the run."""
    parts = all_components(models)
    gpu = models.device.type == "cuda"
    threads = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    return {
        "about": {
            "preset": models.preset.name,
            "weights": models.fingerprint(*parts),
            "parts": {part: models.fingerprint(part) for part in parts},
            "split": options.split,
            "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
            "hardware": torch.cuda.get_device_name(models.device) if gpu else threads,
            "version": __version__,
            "commit": _commit(),
        }
    }


def _earlier(path: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Sections measured by an earlier run with the same weights and the same commit."""
    if not path.is_file():
        return {}
    known = read_json(
        path,
        "the results of an earlier evaluation",
        {"about": dict} | {f"{name}?": dict for name in SECTIONS},
        remedy="remove it, or choose another output folder",
    )
    same = all(known["about"].get(key) == about[key] for key in ("weights", "split", "commit"))
    return {name: known[name] for name in SECTIONS if name in known} if same else {}


def _commit() -> str | None:
    """The commit of the checkout that contains this package, marked if it was modified; None without one."""
    try:
        command = ["git", "describe", "--always", "--dirty"]
        described = subprocess.run(command, cwd=PACKAGE, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return described.stdout.strip() or None
