"""One training run, from a configuration file to exported weights."""

import importlib
import logging
import platform
import time
from pathlib import Path
from typing import Any

import torch

from more4d.foundation.config import derive_seed, from_mapping, load_config, to_mapping
from more4d.foundation.errors import ConfigError
from more4d.foundation.optional import check_installed
from more4d.training.checkpoint import CheckpointFolder, load_trained
from more4d.training.config import TrainConfig
from more4d.training.loop import dry_run, train
from more4d.training.preview import make_preview
from more4d.training.runtime import Runtime
from more4d.training.task import Task

log = logging.getLogger(__name__)

TASKS = {
    "depth": "depth:DepthTask",
    "text": "tiny_encoders:TextTask",
    "tiny-trajectory": "tiny_trajectory:TinyTrajectoryTask",
    "strag": "strag:STraGTask",
    "tiny-features": "tiny_encoders:TinyFeaturesTask",
    "tiny-strag": "tiny_strag:TinySTraGTask",
    "tiny-video": "tiny_video:TinyVideoTask",
    "tiny-vism": "tiny_video:TinyViSMTask",
    "trajectory-vae": "trajectory_vae:TrajectoryVaeTask",
    "vism": "vism:ViSMTask",
}
"""Module and class of each task, under more4d.training.tasks; only the selected one is imported."""

CHANGEABLE_SETTINGS = (
    *("loop.steps", "loop.workers", "loop.threads", "loop.save_every", "loop.keep_last", "loop.keep_every"),
    *("loop.log_every", "loop.tensorboard", "loop.wandb", "loop.max_bad_fraction"),
)
"""Settings that a resumed run may change; another number of steps changes the learning rate schedule."""


def task_type(name: str) -> type[Task]:
    """The class of a task.

    Raises:
        ConfigError: there is no such task; the message lists the known ones.
    """
    if name not in TASKS:
        raise ConfigError(f"unknown task '{name}'; known tasks: {', '.join(TASKS)}")
    module, kind = TASKS[name].split(":")
    return getattr(importlib.import_module(f"more4d.training.tasks.{module}"), kind)


def run(config_path: Path, output: Path, overrides: list[str], *, dry: bool = False) -> list[Path]:
    """Train as configured; returns the exported files on the main process.

    Args:
        config_path: YAML of a `TrainConfig`.
        output: folder of the checkpoints; the same command resumes from the newest.
        overrides: `key.sub=value`, applied over the file.
        dry: print sizes, take up to two steps and save no weights.

    Raises:
        ConfigError: an unknown task, or an option that does not exist.
        MissingPackageError: a package of the extra `train` is needed and not installed.
        KeyboardInterrupt: training was interrupted; its state is saved.
    """
    check_installed("matplotlib", extra="train")  # now, not when the first curve is drawn
    config = load_config(TrainConfig, config_path, overrides)
    kind = task_type(config.task)
    options = from_mapping(kind.options_type, config.options, where=f"{config_path}: options")
    if config.preview:
        config.preview.jobs()  # report faults now and not at the first checkpoint
    task, runtime = build_task(kind, options, config.loop.seed), Runtime(config.loop)

    def learned() -> Task:
        """A task with the weights of the newest checkpoint; those of the trained task may be sharded."""
        whole = build_task(kind, options, config.loop.seed)
        load_trained(CheckpointFolder(output), whole)
        return whole

    def preview(step: int) -> None:
        every = config.loop.save_every * config.preview.every if config.preview else 0
        if not every or (step % every and step != config.loop.steps):
            return
        if runtime.is_main:
            state = torch.get_rng_state()
            sheets = make_preview(learned(), config.preview, output / "previews", step, runtime.device)
            torch.set_rng_state(state)
            log.info("previews: %s", ", ".join(map(str, sheets)))
        runtime.barrier()

    try:
        if dry:
            print_dry_run(task, config, runtime)
            return []
        started = time.monotonic()
        if not train(task, config.loop, output, runtime, settings=_settings(config), on_checkpoint=preview):
            raise KeyboardInterrupt
        if not runtime.is_main:
            return []
        notes = {
            "configuration": str(config_path),
            # The export path is left out: it describes the machine, not the weights.
            "overrides": " ".join(text for text in overrides if not text.startswith("export=")),
            "steps": str(config.loop.steps),
            "seed": str(config.loop.seed),
            "seconds_of_last_start": f"{time.monotonic() - started:.0f}",
            "hardware": platform.processor() or platform.machine(),
        }
        config.export.mkdir(parents=True, exist_ok=True)
        return learned().export(config.export, notes)
    finally:
        runtime.close()


def build_task(kind: type[Task], options: Any, seed: int) -> Task:
    """A task whose initial weights, trained and frozen, are a function of the seed."""
    torch.manual_seed(derive_seed("start", seed))
    return kind(options)


def _settings(config: TrainConfig) -> dict[str, str]:
    """The settings that the weights depend on, by dotted name: `loop.seed`, `options.flow.shift`, ..."""
    flat: dict[str, str] = {"task": config.task}

    def add(prefix: str, values: dict[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, dict):
                add(f"{prefix}.{key}", value)
            elif f"{prefix}.{key}" not in CHANGEABLE_SETTINGS:
                flat[f"{prefix}.{key}"] = str(value)

    add("loop", to_mapping(config.loop))
    add("options", config.options)
    return flat


def print_dry_run(task: Task, config: TrainConfig, runtime: Runtime) -> None:
    """Print sizes, memory and the time of one warm step; the steps are taken, but not saved."""
    loop = config.loop
    per_step = loop.batch_size * loop.accumulate * runtime.processes
    if runtime.is_main:  # before the steps, which may need more memory than there is
        print(f"task {config.task}, {runtime.kind} on {runtime.device}, precision {loop.precision}")
        print(f"  {'network':24} {'trained':>14} {'frozen':>14}")
        for name, network in task.named_children():
            trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
            frozen = sum(p.numel() for p in network.parameters()) - trained
            print(f"  {name:24} {trained:>14,} {frozen:>14,}")
        print(
            f"{loop.steps} steps of {per_step} samples ({runtime.processes} processes x {loop.accumulate}"
            f" parts x {loop.batch_size}), a checkpoint every {loop.save_every}"
        )
        whole = sum(2 * 4 * p.numel() for p in task.parameters() if p.requires_grad)  # two float32 moments
        mine = whole // (runtime.processes if runtime.shards_optimiser else 1)
        print(
            f"the optimiser's state takes about {_format_bytes(mine)} of memory per process, and"
            f" {_format_bytes(whole)} of every checkpoint on disk"
        )
    seconds, metrics = dry_run(task, loop, runtime)
    if runtime.is_main:
        print("one step: " + "  ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
        print(
            f"it took {seconds:.2f} s, so all take about {seconds * loop.steps / 3600:.1f} h;"
            f" most memory {runtime.peak_memory_gib():.2f} GiB per process"
        )


def _format_bytes(count: int) -> str:
    """A number of bytes as text, in GiB or MiB."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
