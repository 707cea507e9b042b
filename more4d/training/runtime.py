"""The only door to accelerate: devices, precision, processes."""

from contextlib import AbstractContextManager

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from more4d.training.config import LoopConfig


class Runtime:
    """What the loop needs of accelerate, and nothing more."""

    def __init__(self, config: LoopConfig) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        self._accelerator = Accelerator(mixed_precision=config.precision)

    @property
    def device(self) -> torch.device:
        return self._accelerator.device

    @property
    def rank(self) -> int:
        return self._accelerator.process_index

    @property
    def processes(self) -> int:
        return self._accelerator.num_processes

    @property
    def is_main(self) -> bool:
        return self._accelerator.is_main_process

    def prepare(
        self, module: nn.Module, optimiser: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Wrap the module and its optimiser for the chosen devices and processes."""
        return self._accelerator.prepare(module, optimiser)

    def autocast(self) -> AbstractContextManager:
        return self._accelerator.autocast()

    def backward(self, loss: Tensor) -> None:
        self._accelerator.backward(loss)

    def clip_gradients(self, module: nn.Module, norm: float) -> float:
        """Scale the gradients down to `norm`; returns their norm before that."""
        return float(self._accelerator.clip_grad_norm_(module.parameters(), norm))
