"""The interface between the loop and a task, and the metrics of steps.

A task is a module whose forward pass returns the loss, so that wrappers of modules (DDP, ZeRO) wrap the loss.
"""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset

from more4d.weights.state import save_network

NOISE_LEVELS = "noise_levels"
"""Key of the only metric that is no scalar: the result of `noise_levels`."""


class Task(nn.Module, ABC):
    """A training task: networks as submodules, data set, loss and exported files.

    Frozen networks are submodules with `requires_grad` off; only the others are optimised and checkpointed.
    """

    options_type: type
    """The dataclass of the task's options; the constructor takes one."""

    @abstractmethod
    def dataset(self) -> Dataset:
        """A map-style data set; every non-negative index gives a sample, always the same one."""

    @staticmethod
    def collate(samples: list[Any]) -> Any:
        """Join samples to a batch that has `.to(device)`. Static, because it is sent to the workers."""
        return type(samples[0]).collate(samples)

    @abstractmethod
    def forward(self, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """The loss under "loss" and scalar metrics; flow-matching tasks add NOISE_LEVELS."""

    @abstractmethod
    def export(self, folder: Path, notes: dict[str, str]) -> list[Path]:
        """Write the trained networks as files that a pipeline loads; returns their paths."""


def export_half(path: Path, network: nn.Module, architecture: str, notes: dict[str, str]) -> Path:
    """Write a network and its `config` with parameters in float16; returns the path."""
    config, half = network.config, torch.float16
    save_network(path, network, architecture=architecture, config=config, notes=notes, dtype=half)
    return path


def noise_levels(sigma: Float[Tensor, " b"], loss: Float[Tensor, " b"]) -> Float[Tensor, "b 2"]:
    """Noise level in [0, 1] and loss of each sample, as a tensor, which wrappers of the task pass on."""
    return torch.stack([sigma.detach().float(), loss.detach().float()], 1)


def mean_per_sample(
    values: Float[Tensor, "b *axes"], weight: Float[Tensor, "#b *#axes"]
) -> Float[Tensor, " b"]:
    """Weighted mean of each sample's values; the weight broadcasts. 0 if all weights of a sample are 0."""
    weight = weight.expand_as(values).flatten(1)
    return (weight * values.flatten(1)).sum(1) / weight.sum(1).clamp(min=torch.finfo(weight.dtype).tiny)


BINS = 10
"""Number of equal bins of the noise levels 0 .. 1 in the journal."""


@dataclass(frozen=True, kw_only=True)
class StepMetrics:
    """Metrics of one step on this process.

    Attributes:
        metrics: means over the micro steps.
        noise_levels: noise level and loss of every sample; empty unless the task is flow matching.
    """

    metrics: dict[str, float]
    noise_levels: Float[Tensor, "samples 2"]


def step_metrics(parts: Sequence[dict[str, Tensor]]) -> StepMetrics:
    """The metrics of a step from those of its micro steps."""
    metrics: dict[str, float] = Counter()
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
    """Sums of metrics over steps. Values that are not finite are counted and excluded from the means.

    Attributes:
        sums: sum of each metric's finite values.
        counts: number of each metric's finite values.
        non_finite: number of each metric's other values.
        bin_sums: sum of losses in each of BINS equal bins of the noise level.
        bin_counts: number of losses in each bin.
        memory_gib: peak memory over steps and processes.
    """

    steps: int = 0
    sums: dict[str, float] = field(default_factory=Counter)
    counts: dict[str, int] = field(default_factory=Counter)
    non_finite: dict[str, int] = field(default_factory=Counter)
    bin_sums: dict[int, float] = field(default_factory=Counter)
    bin_counts: dict[int, int] = field(default_factory=Counter)
    memory_gib: float = 0.0

    def add(self, step: StepMetrics, memory_gib: float) -> None:
        """Add one step of this process."""
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
        """The windows of all processes as one; their metrics may differ."""
        most = {name: max(getattr(window, name) for window in windows) for name in ("steps", "memory_gib")}
        whole = cls(**most)
        for window in windows:
            for name in ("sums", "counts", "non_finite", "bin_sums", "bin_counts"):
                getattr(whole, name).update(getattr(window, name))  # of a Counter: adds
        return whole

    def means(self) -> dict[str, float]:
        """Each metric's mean over its finite values, omitting metrics without any."""
        return {name: self.sums[name] / count for name, count in self.counts.items() if count}

    def not_finite(self) -> dict[str, int]:
        """Number of non-finite values of the metrics that have any."""
        return {name: count for name, count in self.non_finite.items() if count}

    def loss_per_noise_level(self) -> list[float | None]:
        """Mean loss in each of BINS bins of the noise level; None for a bin without samples."""
        return [self.bin_sums[b] / self.bin_counts[b] if self.bin_counts[b] else None for b in range(BINS)]

    def samples_per_noise_level(self) -> list[int]:
        """Number of losses in each of BINS bins of the noise level."""
        return [self.bin_counts[b] for b in range(BINS)]
