"""One training run, from a configuration file to exported weights."""

import importlib
import platform
import time
from pathlib import Path

from more4d.foundation.config import from_mapping, load_config
from more4d.foundation.errors import ConfigError
from more4d.training.config import TrainConfig
from more4d.training.loop import train
from more4d.training.task import Task

TASKS = {
    "depth": "depth:DepthTask",
    "text": "text:TextTask",
    "tiny-trajectory": "tiny_trajectory:TinyTrajectoryTask",
    "strag": "strag:STraGTask",
    "tiny-video": "tiny_video:TinyVideoTask",
    "vism": "vism:ViSMTask",
}
"""Where each task lives, under more4d.training.tasks; only the one asked for is imported."""


def task_type(name: str) -> type[Task]:
    """The class of a task.

    Raises:
        ConfigError: there is no such task; the message lists those there are.
    """
    if name not in TASKS:
        raise ConfigError(f"unknown task '{name}'; known tasks: {', '.join(TASKS)}")
    module, kind = TASKS[name].split(":")
    return getattr(importlib.import_module(f"more4d.training.tasks.{module}"), kind)


def run(config_path: Path, output: Path, overrides: list[str]) -> list[Path]:
    """Train what the configuration says; returns the exported files.

    Args:
        config_path: YAML of a `TrainConfig`.
        output: folder of the checkpoint; the same command goes on from it.
        overrides: `key.sub=value`, applied over the file.

    Raises:
        ConfigError: an unknown task, or an option that does not exist.
    """
    config = load_config(TrainConfig, config_path, overrides)
    kind = task_type(config.task)
    options = from_mapping(kind.options_type, config.options, where=f"{config_path}: options")
    task = kind(options)
    started = time.monotonic()
    train(task, config.loop, output)
    notes = {
        "configuration": str(config_path),
        "overrides": " ".join(overrides),
        "steps": str(config.loop.steps),
        "seed": str(config.loop.seed),
        "seconds_of_last_start": f"{time.monotonic() - started:.0f}",
        "hardware": platform.processor() or platform.machine(),
    }
    config.export.mkdir(parents=True, exist_ok=True)
    return task.export(config.export, notes)
