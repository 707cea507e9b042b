"""Samplers: plain functions of a velocity field, a start and a list of noise levels."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from more4d.diffusion.field import Velocity, check_levels
from more4d.diffusion.unipc import unipc


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
    check_levels(sigmas)
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
    check_levels(sigmas)
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


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """An integrator and what it costs.

    Attributes:
        integrate: as `euler`.
        calls: how often the field is asked in so many steps that end at noise level 0.
    """

    integrate: Callable[..., Tensor]
    calls: Callable[[int], int]


SAMPLERS: dict[str, Sampler] = {
    "euler": Sampler(integrate=euler, calls=lambda steps: steps),
    "heun": Sampler(integrate=heun, calls=lambda steps: 2 * steps - 1),
    "unipc": Sampler(integrate=unipc, calls=lambda steps: steps),
}
