"""Options of the training loop; each task adds its own under `options`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from more4d.foundation.errors import ConfigError
from more4d.training.preview import PreviewOptions


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Options of the training loop.

    Attributes:
        steps: total number of optimiser steps.
        batch_size: samples per process and micro step.
        accumulate: micro steps per step, whose gradients are averaged.
        learning_rate: peak learning rate of AdamW.
        lr_multipliers: factors of the learning rate by prefix of parameter names; the longest matching prefix
            counts.
        schedule: decay after the warm-up: "cosine" or "linear" down to `final_fraction`, or "constant".
        warmup_steps: linear rise from 0.
        final_fraction: learning rate at the last step, as a fraction of the peak.
        betas: of AdamW.
        epsilon: of AdamW.
        weight_decay: of AdamW, on matrices only.
        gradient_clip: maximum norm of the gradient.
        ema_decay: of the exponential moving average of the weights; 0 switches it off.
        precision: "no" (float32) or "bf16" (autocast; weights and optimiser stay float32).
        workers: data loading processes; 0 loads in the training process.
        threads: torch threads of the training process; 0 leaves torch's default.
        save_every: steps between checkpoints.
        keep_last: number of newest checkpoints to keep.
        keep_every: checkpoints at multiples of this step are never deleted; 0: none.
        log_every: steps between log lines.
        tensorboard: also write the journal for tensorboard, into the run's folder.
        wandb: also send the journal to this project of Weights & Biases; empty: do not.
        seed: of initial weights, data order and noise.
        max_bad_fraction: fraction of samples that may be unusable (each is reported and replaced); a run with
            more stops. 0: the first one stops it. See training.batches for the first samples.
    """

    steps: int
    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float = 1e-3
    lr_multipliers: dict[str, float] = field(default_factory=dict)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: int = 50
    final_fraction: float = 0.05
    betas: tuple[float, float] = (0.9, 0.99)
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    precision: Literal["no", "bf16"] = "bf16"
    workers: int = 1
    threads: int = 0
    save_every: int = 100
    keep_last: int = 2
    keep_every: int = 0
    log_every: int = 10
    tensorboard: bool = False
    wandb: str = ""
    seed: int = 0
    max_bad_fraction: float = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "save_every", "keep_last", "log_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"loop: {name} must be at least 1, got {getattr(self, name)}")
        for name in ("workers", "threads", "keep_every", "warmup_steps", "weight_decay"):
            if getattr(self, name) < 0:
                raise ConfigError(f"loop: {name} must not be negative, got {getattr(self, name)}")
        for name in ("learning_rate", "gradient_clip", "epsilon"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"loop: {name} must be positive, got {getattr(self, name)}")
        for name in ("ema_decay", "max_bad_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"loop: {name} must lie in [0, 1), got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run: task, its options, the loop, the folder of the exported weights, and previews."""

    task: str
    loop: LoopConfig
    export: Path
    options: dict = field(default_factory=dict)
    preview: PreviewOptions | None = None
