"""What every sampler integrates: a velocity field, along a list of noise levels."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(noisy latents [b, ...], sigma [b]) -> velocity [b, ...]"""


def check_levels(sigmas: Float[Tensor, "levels"]) -> None:
    """Refuse noise levels that no sampler can walk along.

    Raises:
        ValueError: fewer than two levels, or they do not decrease.
    """
    if sigmas.ndim != 1 or len(sigmas) < 2 or not bool((torch.diff(sigmas) < 0).all()):
        raise ValueError(f"noise levels must be at least two, strictly decreasing; got {sigmas.tolist()}")
