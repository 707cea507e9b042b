"""Classifier-free guidance (Ho and Salimans 2022) around any velocity field."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.diffusion.field import Velocity


def cfg_velocity(
    conditional: Velocity, unconditional: Velocity, scale: float, *, cutoff_sigma: float = 0.0
) -> Velocity:
    """v_u + scale (v_c - v_u), one field after the other; at scale 1 the unconditional one is never called.

    Args:
        cutoff_sigma: below this noise level the conditional field stands alone; see `guidance_cutoff_sigma`.
    """
    if scale == 1:
        return conditional

    def velocity(noisy: Tensor, sigma: Tensor) -> Tensor:
        if bool((sigma < cutoff_sigma).all()):
            return conditional(noisy, sigma)
        uncond = unconditional(noisy, sigma)
        return uncond + scale * (conditional(noisy, sigma) - uncond)

    return velocity


def batched_cfg_velocity(
    batched: Velocity, conditional: Velocity, scale: float, *, cutoff_sigma: float = 0.0
) -> Velocity:
    """As `cfg_velocity`, with one call of twice the batch: faster where that fits into memory.

    Args:
        batched: the field of a doubled batch whose first half is unconditional and whose second is conditional.
        conditional: the field of the plain batch, for where guidance is left out.
    """
    if scale == 1:
        return conditional

    def velocity(noisy: Tensor, sigma: Tensor) -> Tensor:
        if bool((sigma < cutoff_sigma).all()):
            return conditional(noisy, sigma)
        uncond, cond = batched(torch.cat([noisy, noisy]), torch.cat([sigma, sigma])).chunk(2)
        return uncond + scale * (cond - uncond)

    return velocity


def guidance_cutoff_sigma(sigmas: Float[Tensor, "levels"], skipped: float) -> float:
    """The lowest noise level with guidance if the last `skipped` share of the steps goes without.

    0 if no step is skipped; above every level if all are.
    """
    starts = sigmas[:-1]
    guided_steps = math.ceil(round(len(starts) * (1 - skipped), 6))
    if guided_steps >= len(starts):
        return 0.0
    return float(starts[guided_steps - 1]) if guided_steps else math.inf
