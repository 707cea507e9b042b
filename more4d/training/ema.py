"""Exponential moving average of the trainable weights."""

import torch
from torch import Tensor, nn

from more4d.training.sharding import Sharding


class ExponentialMovingAverage:
    """Averages kept in float32, with a decay that starts low so that early weights are forgotten.

    The decay at step n is min(decay, (1 + n) / (10 + n)). Each process averages its own part of a weight.
    """

    def __init__(self, module: nn.Module, sharding: Sharding, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self.decay, self._sharding = decay, sharding
        self.updates = 0
        self.average = {
            name: sharding.local(parameter).detach().float().clone()
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, parameter in module.named_parameters():
            if name in self.average:
                self.average[name].lerp_(self._sharding.local(parameter).detach().float(), 1 - decay)

    def full(self, name: str, parameter: nn.Parameter) -> Tensor:
        """The average of a whole weight, on the CPU; collective."""
        return self._sharding.full(parameter, self.average[name])

    def set_full(self, name: str, parameter: nn.Parameter, average: Tensor) -> None:
        """The inverse of `full`."""
        self.average[name] = self._sharding.shard(parameter, average).float().clone()
