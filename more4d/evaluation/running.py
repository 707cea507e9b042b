"""One evaluation from beginning to end: measure, summarise, write."""

import json
import platform
import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from more4d import __version__
from more4d.evaluation.page import page
from more4d.evaluation.record import plain
from more4d.evaluation.sections import (
    PACKAGE,
    SECTIONS,
    Evaluation,
    EvaluationOptions,
    all_components,
)
from more4d.evaluation.tables import markdown
from more4d.files.atomic import write_bytes
from more4d.foundation.errors import ConfigError
from more4d.pipelines.components import Components
from more4d.pipelines.progress import Progress, no_progress

RESULTS, TABLE, PAGE = "results.json", "table.md", "index.html"


def evaluate(
    models: Components, options: EvaluationOptions, output: Path, *, progress: Progress = no_progress
) -> dict[str, Any]:
    """Measure what is asked for and has not been measured yet.

    `output` gets a record per section (which lets a stopped run go on), pictures, videos, and of all sections
    measured there so far with these weights: results.json, table.md and index.html.

    Raises:
        WeightsError: a network's file cannot be used.
        MissingPackageError: a measure that is asked for needs an optional package.
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
    """When, where and of what."""
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
    """Sections that an earlier run measured with the same weights and the same code."""
    if not path.is_file():
        return {}
    try:
        known = json.loads(path.read_text())
    except json.JSONDecodeError:
        return {}
    if not isinstance(known, dict) or not isinstance(known.get("about"), dict):
        return {}
    same = all(known["about"].get(key) == about[key] for key in ("weights", "split", "commit"))
    return {name: known[name] for name in SECTIONS if name in known} if same else {}


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
