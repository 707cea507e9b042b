"""Classifier-free guidance (Ho and Salimans 2022) around any velocity field."""

from torch import Tensor

from more4d.diffusion.sampler import Velocity


def guided(conditional: Velocity, unconditional: Velocity, scale: float) -> Velocity:
    """v_u + scale (v_c - v_u); at scale 1 the unconditional field is never called."""
    if scale == 1:
        return conditional

    def velocity(noisy: Tensor, sigma: Tensor) -> Tensor:
        without = unconditional(noisy, sigma)
        return without + scale * (conditional(noisy, sigma) - without)

    return velocity
