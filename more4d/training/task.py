"""What the loop asks of a task. The task is a module, so that whatever wraps modules (DDP, ZeRO) wraps its
loss.
"""

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset

NOISE_LEVELS = "noise_levels"
"""Key of the one entry of a task's metrics that is no scalar: what `noise_levels` returns."""


class Task(nn.Module, ABC):
    """One thing to train: its networks as submodules, its data, its loss, its files.

    Frozen networks are submodules with `requires_grad` off; only the others are optimised and checkpointed.
    """

    options_type: type
    """The dataclass of the task's options; the constructor takes one."""

    @abstractmethod
    def dataset(self) -> Dataset:
        """Map-style and endless in effect: any non-negative index gives a sample, always the same one."""

    @staticmethod
    def collate(samples: list[Any]) -> Any:
        """Samples to a batch with `.to(device)`, as the samples' class does it. Static, for it is sent to
        the processes that make batches.
        """
        return type(samples[0]).collate(samples)

    @abstractmethod
    def forward(self, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """The loss under "loss", and what else is worth logging, each a scalar; flow-matching tasks add
        `noise_levels` of the batch under NOISE_LEVELS.
        """

    @abstractmethod
    def export(self, folder: Path, notes: dict[str, str]) -> list[Path]:
        """Write the trained networks as files a pipeline loads; returns them."""


def noise_levels(sigma: Float[Tensor, " b"], loss: Float[Tensor, " b"]) -> Float[Tensor, "b 2"]:
    """The noise level in [0, 1] of every sample beside its loss, for the journal to sort by noise level.

    A tensor, so that it passes through whatever wraps the task.
    """
    return torch.stack([sigma.detach().float(), loss.detach().float()], 1)


def mean_per_sample(
    values: Float[Tensor, "b *axes"], weight: Float[Tensor, "#b *#axes"]
) -> Float[Tensor, " b"]:
    """Weighted mean of each sample's values; the weight broadcasts. 0 where all weights are."""
    weight = weight.expand_as(values).flatten(1)
    return (weight * values.flatten(1)).sum(1) / weight.sum(1).clamp(min=torch.finfo(weight.dtype).tiny)


BINS = 10
"""Equal parts of the noise levels 0 .. 1 that a journal tells the loss of."""


@dataclass(frozen=True, kw_only=True)
class StepMetrics:
    """What one step measured on this process.

    Attributes:
        metrics: means over the step's parts.
        noise_levels: noise level and loss of every sample, of tasks that tell them; else empty.
    """

    metrics: dict[str, float]
    noise_levels: Float[Tensor, "samples 2"]


def step_metrics(parts: Sequence[dict[str, Tensor]]) -> StepMetrics:
    """The metrics of a step from those of its parts."""
    metrics: dict[str, float] = defaultdict(float)
    levels = [torch.zeros(0, 2)]
    for part in parts:
        for name, value in part.items():
            if name == NOISE_LEVELS:
                levels.append(value.detach().float().cpu())
            else:
                metrics[name] += float(value.detach()) / len(parts)
    return StepMetrics(metrics=dict(metrics), noise_levels=torch.cat(levels))


@dataclass(kw_only=True)
class MetricWindow:
    """Sums of what was measured. Values that are not finite are counted, and are in no mean.

    Attributes:
        steps: that were added.
        sums: of each metric's finite values.
        counts: how many these are.
        non_finite: how many values of each metric were not finite.
        bin_sums: of the losses whose noise level lies in each of BINS equal parts of 0 .. 1.
        bin_counts: how many these are.
        memory_gib: most that any process held.
    """

    steps: int = 0
    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    non_finite: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    bin_sums: list[float] = field(default_factory=lambda: [0.0] * BINS)
    bin_counts: list[int] = field(default_factory=lambda: [0] * BINS)
    memory_gib: float = 0.0

    def add(self, step: StepMetrics, memory_gib: float) -> None:
        """Count one step of this process."""
        self.steps += 1
        self.memory_gib = max(self.memory_gib, memory_gib)
        for name, value in step.metrics.items():
            self.counts[name] += math.isfinite(value)
            self.non_finite[name] += not math.isfinite(value)
            self.sums[name] += value if math.isfinite(value) else 0.0
        for sigma, loss in step.noise_levels.tolist():
            if math.isfinite(sigma + loss):
                place = min(max(int(sigma * BINS), 0), BINS - 1)
                self.bin_sums[place] += loss
                self.bin_counts[place] += 1

    @classmethod
    def merge(cls, windows: Sequence["MetricWindow"]) -> "MetricWindow":
        """One window of all processes'; they need not have the same metrics."""
        whole = cls(steps=max(window.steps for window in windows))
        for window in windows:
            for name in window.sums:
                whole.sums[name] += window.sums[name]
                whole.counts[name] += window.counts[name]
                whole.non_finite[name] += window.non_finite[name]
            for place in range(BINS):
                whole.bin_sums[place] += window.bin_sums[place]
                whole.bin_counts[place] += window.bin_counts[place]
            whole.memory_gib = max(whole.memory_gib, window.memory_gib)
        return whole

    def means(self) -> dict[str, float]:
        """Each metric's mean over its finite values; a metric without any is left out."""
        return {name: self.sums[name] / count for name, count in self.counts.items() if count}

    def not_finite(self) -> dict[str, int]:
        """How many values were not finite, of the metrics that had such."""
        return {name: count for name, count in self.non_finite.items() if count}

    def loss_per_noise_level(self) -> list[float | None]:
        """Mean loss in each of BINS parts of the noise levels; None where no sample fell."""
        return [s / n if n else None for s, n in zip(self.bin_sums, self.bin_counts, strict=True)]
