"""Options of the training loop; each task adds its own under `task`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long and how fast to train.

    Attributes:
        steps: optimiser steps in all.
        batch_size: samples per step and process.
        learning_rate: peak learning rate of AdamW.
        warmup_steps: linear rise from 0.
        final_fraction: learning rate at the last step, as a fraction of the peak (cosine decay).
        weight_decay: of AdamW, on matrices only.
        gradient_clip: largest norm of the gradient.
        ema_decay: of the exponential moving average of the weights; 0 switches it off.
        precision: "no" (float32) or "bf16" (autocast; weights and optimiser stay float32).
        workers: processes that make batches; 0 makes them in the training process.
        threads: torch threads of the training process; 0 leaves torch's default.
        save_every: steps between checkpoints.
        log_every: steps between log lines.
        seed: of data order and noise.
    """

    steps: int
    batch_size: int = 16
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    final_fraction: float = 0.05
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    precision: Literal["no", "bf16"] = "bf16"
    workers: int = 1
    threads: int = 0
    save_every: int = 100
    log_every: int = 10
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run: which task, its options, the loop's, and where the weights go when it is done."""

    task: str
    loop: LoopConfig
    export: Path
    options: dict = field(default_factory=dict)
