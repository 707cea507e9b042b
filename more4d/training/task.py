"""What the loop asks of a task. The task is a module, so that whatever wraps modules (DDP, ZeRO) wraps its
loss.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset


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
        """The loss under "loss", and what else is worth logging, each a scalar."""

    @abstractmethod
    def export(self, folder: Path, notes: dict[str, str]) -> list[Path]:
        """Write the trained networks as files a pipeline loads; returns them."""
