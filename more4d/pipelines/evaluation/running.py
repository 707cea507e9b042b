"""One evaluation: the sections that are asked for, item by item, and what they say together."""

import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from more4d import __version__
from more4d.files.atomic import write_bytes
from more4d.foundation.errors import ConfigError
from more4d.pipelines.evaluation.baselines import mean_motion
from more4d.pipelines.evaluation.record import Record, plain
from more4d.pipelines.evaluation.tracks import (
    TracksOptions,
    measure_tracks,
    native_size,
    summarise_tracks,
)
from more4d.pipelines.evaluation.unseen import Split, unseen_scene
from more4d.pipelines.fingerprint import file_fingerprint, fingerprint
from more4d.pipelines.models import Models
from more4d.pipelines.preset import Parts
from more4d.pipelines.progress import Progress, silent

Section = Literal["tracks"]
PACKAGE = Path(__file__).resolve().parents[2]
ROOMS = ("geometry", "raster", "diffusion", "metrics", "depth", "networks", "scenes", "pipelines")
"""Of the package, what results depend on."""


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """What is measured.

    Attributes:
        sections: in this order.
        scenes: procedural scenes of the test set, for tracks.
        seeds: motions generated per scene.
        split: "test", or "validation" to choose weights by.
        drawn: how many items of a section are drawn.
    """

    sections: Sequence[Section] = ("tracks",)
    scenes: int = 200
    seeds: int = 4
    split: Split = "test"
    drawn: int = 16


def evaluate(
    models: Models, options: EvaluationOptions, output: Path, *, progress: Progress = silent
) -> dict[str, Any]:
    """Measure what is asked for and has not been measured yet; `output` keeps items, pictures and results.

    Raises:
        WeightsError: a network's file cannot be used.
        ConfigError: a section is unknown.
    """
    results: dict[str, Any] = {"about": about(models, options)}
    for name in options.sections:
        if name not in SECTIONS:
            raise ConfigError(f"there is no section '{name}'; known: {', '.join(SECTIONS)}")
        started = time.monotonic()
        results[name] = plain(SECTIONS[name](models, options, output, progress))
        results["about"].setdefault("seconds", {})[name] = round(time.monotonic() - started, 1)
    write_bytes(output / "results.json", _json(results))
    return results


def about(models: Models, options: EvaluationOptions) -> dict[str, Any]:
    """When, where and of what."""
    parts = all_parts(models)
    return {
        "preset": models.preset.name,
        "weights": models.identity(*parts),
        "parts": {part: models.identity(part) for part in parts},
        "split": options.split,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M"),
        "hardware": _hardware(models),
        "version": __version__,
        "commit": _commit(),
    }


def _tracks(models: Models, options: EvaluationOptions, output: Path, progress: Progress) -> dict[str, Any]:
    wanted = TracksOptions(seeds=options.seeds)
    height, width = native_size(models.preset)
    means = None

    def measure(index: int) -> dict[str, Any]:
        nonlocal means
        if means is None:
            means = mean_motion(models.preset.frames)
        sheet = output / "pictures" / f"tracks_{index:03d}.png" if index < options.drawn else None
        unseen = unseen_scene(index, split=options.split, aspect=width / height)
        return measure_tracks(models, unseen, means, wanted, sheet=sheet)

    key = [made_from(models), asdict(wanted), options.split]
    record = Record(output / f"tracks_{options.split}.jsonl", key)
    return summarise_tracks(list(items(record, options.scenes, measure, "tracks", progress)))


def items(
    record: Record, count: int, measure: Callable[[int], Mapping[str, Any]], stage: str, progress: Progress
) -> Iterator[dict[str, Any]]:
    """The results of items 0 to `count`, from the record or measured now."""
    progress(stage, 0, count)
    for index in range(count):
        known = record.get(index)
        yield known if known is not None else record.add(index, measure(index))
        progress(stage, index + 1, count)


def made_from(models: Models) -> list[Any]:
    """All that decides results besides a section's own options: code, preset and weights."""
    files = sorted(path for room in ROOMS for path in (PACKAGE / room).rglob("*.py"))
    code = fingerprint([file_fingerprint(path) for path in files])
    preset = asdict(models.preset)
    del preset["parts"], preset["loras"]
    return [code, preset, models.identity(*all_parts(models))]


def all_parts(models: Models) -> list[str]:
    """The parts that the preset has, depth always among them: an estimator may need no file."""
    return [part.name for part in fields(Parts) if part.name == "depth" or models.has(part.name)]


def _hardware(models: Models) -> str:
    import torch

    if models.device.type == "cuda":
        return torch.cuda.get_device_name(models.device)
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def _commit() -> str | None:
    """Of the checkout that this package lies in, with a mark if it was changed; None if there is none."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=PACKAGE,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return said.stdout.strip() or None


def _json(value: Any) -> bytes:
    import json

    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


SECTIONS: dict[str, Callable[[Models, EvaluationOptions, Path, Progress], dict[str, Any]]] = {
    "tracks": _tracks,
}
