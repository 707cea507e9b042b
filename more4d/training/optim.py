"""The optimiser and its learning-rate schedule."""

import math

import torch
from torch import nn

from more4d.training.config import LoopConfig


def build_optimiser(module: nn.Module, config: LoopConfig) -> torch.optim.AdamW:
    """AdamW over what requires a gradient; biases, norms and other vectors are not decayed."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trainable:
        raise ValueError("nothing to train: every parameter is frozen")
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99))


def learning_rate(step: int, config: LoopConfig) -> float:
    """Linear warm-up, then a cosine down to `final_fraction` at the last step."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.learning_rate * (config.final_fraction + (1 - config.final_fraction) * cosine)
