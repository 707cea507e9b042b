"""Samplers: plain functions of a velocity field, a start and a list of noise levels."""

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(noisy latents [b, ...], sigma [b]) -> velocity [b, ...]"""


def euler(
    velocity: Velocity,
    noise: Float[Tensor, "b *shape"],
    sigmas: Float[Tensor, "levels"],
    on_step: Callable[[], None] | None = None,
) -> Float[Tensor, "b *shape"]:
    """Integrate dz = v d sigma along `sigmas` (from 1 down to 0) with Euler's rule.

    Args:
        velocity: the network, guidance included.
        noise: latents at the first noise level.
        sigmas: decreasing noise levels, float32.
        on_step: called after each step, for a progress bar.
    """
    _check(sigmas)
    latents = noise
    for sigma, following in pairwise(sigmas):
        level = sigma.expand(len(latents)).to(latents.device)
        latents = latents + (following - sigma).to(latents.device) * velocity(latents, level)
        if on_step:
            on_step()
    return latents


def heun(
    velocity: Velocity,
    noise: Float[Tensor, "b *shape"],
    sigmas: Float[Tensor, "levels"],
    on_step: Callable[[], None] | None = None,
) -> Float[Tensor, "b *shape"]:
    """As `euler`, second order: average the velocity of both ends of a step (one call more per step but
    the last).
    """
    _check(sigmas)
    latents = noise
    for sigma, following in pairwise(sigmas):
        step = (following - sigma).to(latents.device)
        here = velocity(latents, sigma.expand(len(latents)).to(latents.device))
        if following > 0:
            there = velocity(latents + step * here, following.expand(len(latents)).to(latents.device))
            here = (here + there) / 2
        latents = latents + step * here
        if on_step:
            on_step()
    return latents


SAMPLERS: dict[str, Callable[..., Tensor]] = {"euler": euler, "heun": heun}


def _check(sigmas: Tensor) -> None:
    if sigmas.ndim != 1 or len(sigmas) < 2 or not bool((torch.diff(sigmas) < 0).all()):
        raise ValueError(f"noise levels must be at least two, strictly decreasing; got {sigmas.tolist()}")
