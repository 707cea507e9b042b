"""Exponential moving average of the trainable weights."""

import torch
from torch import Tensor, nn


class ExponentialMovingAverage:
    """Averages kept in float32, with a decay that starts low so that early weights are forgotten.

    The decay at step n is min(decay, (1 + n) / (10 + n)).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self.decay = decay
        self.updates = 0
        self.average = {
            name: parameter.detach().float().clone()
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, parameter in module.named_parameters():
            if name in self.average:
                self.average[name].lerp_(parameter.detach().float(), 1 - decay)

    @torch.no_grad()
    def swap(self, module: nn.Module) -> None:
        """Exchange the averages with the module's weights; calling it twice changes nothing."""
        for name, parameter in module.named_parameters():
            if name in self.average:
                live = parameter.detach().float().clone()
                parameter.copy_(self.average[name])
                self.average[name] = live

    def state_dict(self) -> dict[str, Tensor | int]:
        return {"updates": self.updates, **{f"average.{k}": v for k, v in self.average.items()}}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        self.updates = int(state["updates"])
        for name, average in self.average.items():
            average.copy_(state[f"average.{name}"])
