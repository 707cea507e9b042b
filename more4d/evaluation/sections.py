"""The parts of an evaluation: what their items are, what is kept of them, and what they say together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from more4d.evaluation.baselines import mean_motion
from more4d.evaluation.depth import measure_frame_depth, measure_scene_depth, summarise_depth
from more4d.evaluation.perception import PerceptualMetrics, PerceptualOptions
from more4d.evaluation.photos import measure_photo, photos, summarise_photos
from more4d.evaluation.real_depth import measured_frames
from more4d.evaluation.record import Record
from more4d.evaluation.tracks import (
    TracksOptions,
    measure_tracks,
    native_size,
    summarise_tracks,
)
from more4d.evaluation.unseen import Split, UnseenScene, unseen_scene
from more4d.evaluation.views import measure_view, summarise_views
from more4d.files.fingerprint import file_fingerprint, fingerprint
from more4d.foundation.errors import InputError
from more4d.metrics.vbench_backend import vbench_scores
from more4d.pipelines.components import Components
from more4d.pipelines.preset import ComponentFiles
from more4d.pipelines.progress import Progress

PACKAGE = Path(__file__).resolve().parents[2]
SUBPACKAGES = ("geometry", "raster", "diffusion", "metrics", "depth", "networks", "scenes", "pipelines")
"""Of the package, what results depend on."""


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """What is measured.

    Attributes:
        sections: names of `SECTIONS`, in this order.
        scenes: procedural scenes of the test set, for tracks and for depth.
        seeds: motions generated per scene.
        pairs: scenes of the test set that are filmed along a second path.
        split: "test", or "validation" to choose weights by.
        data: folder of real photos and measured depth; None for procedural scenes only.
        drawn: how many items of a section are drawn.
        perception: networks for perceptual measures, if the user has them.
    """

    sections: Sequence[str] = ("tracks", "depth", "views", "photos")
    scenes: int = 200
    seeds: int = 4
    pairs: int = 64
    split: Split = "test"
    data: Path | None = None
    drawn: int = 16
    perception: PerceptualOptions = field(default_factory=PerceptualOptions)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What all sections work with.

    Attributes:
        models: what is measured.
        options: how.
        output: folder of records, pictures and videos.
        progress: who is told.
    """

    models: Components
    options: EvaluationOptions
    output: Path
    progress: Progress

    def scene(self, index: int) -> UnseenScene:
        """A scene of the set that was chosen, with the aspect that the preset sees."""
        height, width = native_size(self.models.preset)
        return unseen_scene(index, split=self.options.split, aspect=width / height)

    def sheet(self, stage: str, index: int) -> Path | None:
        """Where an item is drawn; None if it is not."""
        if index >= self.options.drawn:
            return None
        return self.output / "pictures" / f"{stage}_{index:03d}.png"

    @cached_property
    def inputs(self) -> list[Any]:
        """All that decides results besides a section's own options: code, preset and weights."""
        files = sorted(path for name in SUBPACKAGES for path in (PACKAGE / name).rglob("*.py"))
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
    """The parts that the preset has, depth always among them: an estimator may need no file."""
    return [part.name for part in fields(ComponentFiles) if part.name == "depth" or models.has(part.name)]


def _tracks(run: Evaluation) -> dict[str, Any]:
    options, stage = TracksOptions(seeds=run.options.seeds), "tracks"
    means: dict[Any, Any] = {}

    def measure(index: int) -> dict[str, Any]:
        if not means:
            means.update(mean_motion(run.models.preset.frames))
        sheet = run.sheet(stage, index)
        return measure_tracks(run.models, run.scene(index), means, options, sheet=sheet)

    key = [asdict(options), run.options.split]
    return summarise_tracks(list(run.items(stage, key, run.options.scenes, measure)))


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
    asked = run.options.perception
    perception = PerceptualMetrics(asked, device=run.models.device)

    def measure(index: int) -> dict[str, Any]:
        return measure_view(run.models, run.scene(index), perception, sheet=run.sheet("views", index))

    key = [run.options.split, str(asked.clip), str(asked.video_features), asked.lpips]
    return summarise_views(list(run.items("views", key, run.options.pairs, measure)))


def _photos(run: Evaluation) -> dict[str, Any]:
    listed = photos(run.options.data) if run.options.data else []

    def measure(index: int) -> dict[str, Any]:
        return measure_photo(run.models, listed[index], run.output, f"photos_{index:03d}")

    key = [[str(photo.file), photo.prompt, photo.file.stat().st_size] for photo in listed]
    return summarise_photos(list(run.items("photos", key, len(listed), measure)))


def _vbench(run: Evaluation) -> dict[str, Any]:
    videos = run.output / "videos"
    if not videos.is_dir():
        raise InputError(f"there are no videos in {videos} for VBench; measure --only photos first")
    run.progress("vbench", 0, 1)
    scores = vbench_scores(videos, run.output / "vbench", device=str(run.models.device))
    run.progress("vbench", 1, 1)
    return dict(scores)


SECTIONS: dict[str, Callable[[Evaluation], dict[str, Any]]] = {
    "tracks": _tracks,
    "depth": _depth,
    "views": _views,
    "photos": _photos,
    "vbench": _vbench,
}
