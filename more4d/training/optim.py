"""The optimiser and its learning-rate schedule."""

import math
from collections import defaultdict

import torch
from torch import nn

from more4d.foundation.errors import ConfigError
from more4d.training.config import LoopConfig

LR_MULTIPLIER = "rate"
"""Key of a parameter group's multiple of the learning rate."""


def build_optimiser(module: nn.Module, config: LoopConfig) -> torch.optim.AdamW:
    """AdamW over what requires a gradient; biases, norms and other vectors are not decayed.

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
    return torch.optim.AdamW(
        [
            {"params": members, LR_MULTIPLIER: rate, "weight_decay": decay}
            for (rate, decay), members in groups.items()
        ],
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.epsilon,
    )


def optimiser_bytes(module: nn.Module) -> int:
    """What AdamW keeps of the trained parameters: two moments of each number, in float32."""
    return sum(2 * 4 * p.numel() for p in module.parameters() if p.requires_grad)


def learning_rate(step: int, config: LoopConfig) -> float:
    """Linear warm-up, then as `schedule` says, to `final_fraction` at the last step."""
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
    """The learning rate of `step` for every group, times the group's multiple."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(step, config) * group[LR_MULTIPLIER]
