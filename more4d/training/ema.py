"""Exponential moving average of the trainable weights."""

import torch
from torch import Tensor, nn

from more4d.training.layout import Layout


class ExponentialMovingAverage:
    """Averages kept in float32, with a decay that starts low so that early weights are forgotten.

    The decay at step n is min(decay, (1 + n) / (10 + n)). Each process averages its own part of a weight.
    """

    def __init__(self, module: nn.Module, layout: Layout, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self.decay, self._layout = decay, layout
        self.updates = 0
        self.average = {
            name: layout.local(parameter).detach().float().clone()
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, parameter in module.named_parameters():
            if name in self.average:
                self.average[name].lerp_(self._layout.local(parameter).detach().float(), 1 - decay)

    def whole(self, name: str, parameter: nn.Parameter) -> Tensor:
        """The average of a whole weight, on the CPU; collective."""
        return self._layout.whole(parameter, self.average[name])

    def set_whole(self, name: str, parameter: nn.Parameter, average: Tensor) -> None:
        """The inverse of `whole`."""
        self.average[name] = self._layout.part(parameter, average).float().clone()
