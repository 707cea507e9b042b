"""The optimiser, its learning rate schedule, and the exponential moving average (EMA) of the weights."""

import math
from collections import defaultdict

import torch
from torch import Tensor, nn

from more4d.foundation.errors import ConfigError
from more4d.training.config import LoopConfig
from more4d.training.runtime import TensorSharding

LR_MULTIPLIER = "rate"
"""Key of a parameter group's learning rate factor."""


def build_optimiser(module: nn.Module, config: LoopConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; biases, norms and other vectors have no weight decay.

    Raises:
        ConfigError: nothing requires a gradient, or a prefix of `lr_multipliers` fits no such parameter.
    """
    trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not trainable:
        raise ConfigError("nothing to train: every parameter is frozen")
    for prefix in config.lr_multipliers:
        if not any(name.startswith(prefix) for name in trainable):
            raise ConfigError(
                f"lr_multipliers: no trained parameter begins with '{prefix}'; there are"
                f" {', '.join(sorted({name.split('.')[0] for name in trainable}))}"
            )
    groups = defaultdict(list)
    for name, parameter in trainable.items():
        fitting = [prefix for prefix in config.lr_multipliers if name.startswith(prefix)]
        rate = config.lr_multipliers[max(fitting, key=len)] if fitting else 1.0
        groups[rate, config.weight_decay if parameter.ndim >= 2 else 0.0].append(parameter)
    settings = [
        {"params": members, LR_MULTIPLIER: rate, "weight_decay": decay}
        for (rate, decay), members in groups.items()
    ]
    return torch.optim.AdamW(settings, lr=config.learning_rate, betas=config.betas, eps=config.epsilon)


def learning_rate(step: int, config: LoopConfig) -> float:
    """Learning rate at `step`: linear warm-up, then `schedule` down to `final_fraction` at the last step."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = min(1.0, (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps))
    left = {
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
        "linear": 1 - progress,
        "constant": 1.0,
    }[config.schedule]
    return config.learning_rate * (config.final_fraction + (1 - config.final_fraction) * left)


def set_learning_rate(optimiser: torch.optim.Optimizer, step: int, config: LoopConfig) -> None:
    """Set the learning rate of `step` in every parameter group, times the group's factor."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(step, config) * group[LR_MULTIPLIER]


class ExponentialMovingAverage:
    """EMA of the trainable weights in float32.

    The decay at step n is min(decay, (1 + n) / (10 + n)), low at first so that the initial weights do not
    dominate. Each process averages its own shard of a weight.
    """

    def __init__(self, module: nn.Module, sharding: TensorSharding, decay: float) -> None:
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
        """The average of a weight, gathered on the CPU. Collective."""
        return self._sharding.full(parameter, self.average[name])

    def set_full(self, name: str, parameter: nn.Parameter, average: Tensor) -> None:
        """The inverse of `full`."""
        self.average[name] = self._sharding.shard(parameter, average).float().clone()
