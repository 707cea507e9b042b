"""Classifier-free guidance (Ho and Salimans 2022) around any velocity field."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.diffusion.field import Velocity


def guided(conditional: Velocity, unconditional: Velocity, scale: float, *, down_to: float = 0.0) -> Velocity:
    """v_u + scale (v_c - v_u), one field after the other; at scale 1 the unconditional one is never called.

    Args:
        down_to: below this noise level the conditional field stands alone; see `guidance_floor`.
    """
    if scale == 1:
        return conditional

    def velocity(noisy: Tensor, sigma: Tensor) -> Tensor:
        if bool((sigma < down_to).all()):
            return conditional(noisy, sigma)
        without = unconditional(noisy, sigma)
        return without + scale * (conditional(noisy, sigma) - without)

    return velocity


def guided_at_once(both: Velocity, conditional: Velocity, scale: float, *, down_to: float = 0.0) -> Velocity:
    """As `guided`, with one call of twice the batch: faster where that fits into memory.

    Args:
        both: the field of a doubled batch whose first half is unconditional and whose second is conditional.
        conditional: the field of the plain batch, for where guidance is left out.
    """
    if scale == 1:
        return conditional

    def velocity(noisy: Tensor, sigma: Tensor) -> Tensor:
        if bool((sigma < down_to).all()):
            return conditional(noisy, sigma)
        without, told = both(torch.cat([noisy, noisy]), torch.cat([sigma, sigma])).chunk(2)
        return without + scale * (told - without)

    return velocity


def guidance_floor(sigmas: Float[Tensor, "levels"], skipped: float) -> float:
    """The lowest noise level with guidance if the last `skipped` share of the steps goes without.

    0 if no step is skipped; above every level if all are.
    """
    starts = sigmas[:-1]
    guided_steps = math.ceil(round(len(starts) * (1 - skipped), 6))
    if guided_steps >= len(starts):
        return 0.0
    return float(starts[guided_steps - 1]) if guided_steps else math.inf
