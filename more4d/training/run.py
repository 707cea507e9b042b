"""One training run, from a configuration file to exported weights."""

import importlib
import platform
import time
from pathlib import Path
from typing import Any

from more4d.files.checkpoints import CheckpointFolder
from more4d.foundation.config import from_mapping, load_config, to_mapping
from more4d.foundation.errors import ConfigError
from more4d.training.checkpoint import load_trained
from more4d.training.config import TrainConfig
from more4d.training.loop import rehearse, train
from more4d.training.runtime import Runtime
from more4d.training.task import Task

TASKS = {
    "depth": "depth:DepthTask",
    "text": "text:TextTask",
    "tiny-trajectory": "tiny_trajectory:TinyTrajectoryTask",
    "strag": "strag:STraGTask",
    "tiny-video": "tiny_video:TinyVideoTask",
    "trajectory-vae": "trajectory_vae:TrajectoryVaeTask",
    "vism": "vism:ViSMTask",
}
"""Where each task lives, under more4d.training.tasks; only the one asked for is imported."""


FREE = frozenset(
    f"loop.{name}"
    for name in (
        *("steps", "workers", "threads", "save_every", "keep_last", "keep_every", "log_every"),
        *("tensorboard", "wandb"),
    )
)
"""Settings with which a run may go on differently than it began; another number of steps bends the learning
rate.
"""


def task_type(name: str) -> type[Task]:
    """The class of a task.

    Raises:
        ConfigError: there is no such task; the message lists those there are.
    """
    if name not in TASKS:
        raise ConfigError(f"unknown task '{name}'; known tasks: {', '.join(TASKS)}")
    module, kind = TASKS[name].split(":")
    return getattr(importlib.import_module(f"more4d.training.tasks.{module}"), kind)


def run(config_path: Path, output: Path, overrides: list[str], *, dry: bool = False) -> list[Path]:
    """Train what the configuration says; returns the exported files, on the main process.

    Args:
        config_path: YAML of a `TrainConfig`.
        output: folder of the checkpoints; the same command goes on from the newest.
        overrides: `key.sub=value`, applied over the file.
        dry: print the plan, take a step or two, keep no weights.

    Raises:
        ConfigError: an unknown task, or an option that does not exist.
        KeyboardInterrupt: training was asked to stop, and has saved where it stands.
    """
    config = load_config(TrainConfig, config_path, overrides)
    kind = task_type(config.task)
    options = from_mapping(kind.options_type, config.options, where=f"{config_path}: options")
    task, runtime = kind(options), Runtime(config.loop)
    try:
        if dry:
            print_plan(task, config, runtime)
            return []
        started = time.monotonic()
        if not train(task, config.loop, output, runtime, settings=_settings(config)):
            raise KeyboardInterrupt
        if not runtime.is_main:
            return []
        notes = {
            "configuration": str(config_path),
            # Where the weights were written first says nothing about them, but much about somebody's machine.
            "overrides": " ".join(text for text in overrides if not text.startswith("export=")),
            "steps": str(config.loop.steps),
            "seed": str(config.loop.seed),
            "seconds_of_last_start": f"{time.monotonic() - started:.0f}",
            "hardware": platform.processor() or platform.machine(),
        }
        learned = kind(options)  # this one is whole, wherever the trained one's parts lie
        load_trained(CheckpointFolder(output), learned)
        config.export.mkdir(parents=True, exist_ok=True)
        return learned.export(config.export, notes)
    finally:
        runtime.close()


def _settings(config: TrainConfig) -> dict[str, str]:
    """What the weights after a step depend on, flat: `loop.seed`, `options.flow.shift` and so on."""
    flat: dict[str, str] = {"task": config.task}

    def add(prefix: str, values: dict[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, dict):
                add(f"{prefix}.{key}", value)
            elif f"{prefix}.{key}" not in FREE:
                flat[f"{prefix}.{key}"] = str(value)

    add("loop", to_mapping(config.loop))
    add("options", config.options)
    return flat


def print_plan(task: Task, config: TrainConfig, runtime: Runtime) -> None:
    """What would be trained, and what one warm step of it takes. Steps are really taken, and forgotten."""
    loop = config.loop
    rows = [("network", "trained", "frozen")]
    for name, network in task.named_children():
        counts = [sum(p.numel() for p in network.parameters() if p.requires_grad is t) for t in (True, False)]
        rows.append((name, *(f"{count:,}" for count in counts)))
    lines = [f"  {row[0]:24} {row[1]:>14} {row[2]:>14}" for row in rows]
    seconds, metrics = rehearse(task, loop, runtime)
    per_step = loop.batch_size * loop.accumulate * runtime.processes
    if runtime.is_main:
        print(f"task {config.task}, {runtime.kind} on {runtime.device}, precision {loop.precision}")
        print("\n".join(lines))
        print(
            f"{loop.steps} steps of {per_step} samples ({runtime.processes} processes x {loop.accumulate}"
            f" parts x {loop.batch_size}), a checkpoint every {loop.save_every}"
        )
        print("one step: " + "  ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
        print(
            f"it took {seconds:.2f} s, so all take about {seconds * loop.steps / 3600:.1f} h;"
            f" most memory {runtime.peak_memory_gib():.2f} GiB per process"
        )
