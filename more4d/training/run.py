"""One training run, from a configuration file to exported weights."""

import platform
import time
from pathlib import Path

from more4d.foundation.config import from_mapping, load_config
from more4d.foundation.errors import ConfigError
from more4d.training.config import TrainConfig
from more4d.training.loop import train
from more4d.training.task import Task


def task_types() -> dict[str, type[Task]]:
    """Every task by name."""
    from more4d.training.tasks.depth import DepthTask
    from more4d.training.tasks.strag import STraGTask
    from more4d.training.tasks.text import TextTask
    from more4d.training.tasks.tiny_trajectory import TinyTrajectoryTask
    from more4d.training.tasks.tiny_video import TinyVideoTask
    from more4d.training.tasks.vism import ViSMTask

    tasks = (DepthTask, TextTask, TinyTrajectoryTask, STraGTask, TinyVideoTask, ViSMTask)
    return {task.name: task for task in tasks}


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
    types = task_types()
    if config.task not in types:
        raise ConfigError(f"{config_path}: unknown task '{config.task}'; known tasks: {', '.join(types)}")
    kind = types[config.task]
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
