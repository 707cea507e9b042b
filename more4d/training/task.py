"""What the loop asks of a task. The task is a module, so that whatever wraps modules (DDP, ZeRO) wraps its
loss.
"""

from abc import ABC, abstractmethod
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
