"""Rectified flow: the line between data and noise, its velocity, and the way back (Lipman et al. 2023;
MoRe4D eq. for z_sigma).

    z_sigma = (1 - sigma) z + sigma eps        v = d z_sigma / d sigma = eps - z

sigma runs from 0 (data) to 1 (noise) and stays float32 whatever the latents are.
"""

from jaxtyping import Float
from torch import Tensor


def expand_sigma(sigma: Float[Tensor, "b"], like: Tensor) -> Tensor:
    """sigma with trailing axes of length 1, so that it broadcasts over a batch."""
    return sigma.float().view(-1, *([1] * (like.ndim - 1)))


def interpolate(
    clean: Float[Tensor, "b *shape"], noise: Float[Tensor, "b *shape"], sigma: Float[Tensor, "b"]
) -> Float[Tensor, "b *shape"]:
    """The noisy latents z_sigma."""
    level = expand_sigma(sigma, clean)
    return (1 - level) * clean + level * noise


def velocity_target(
    clean: Float[Tensor, "b *shape"], noise: Float[Tensor, "b *shape"]
) -> Float[Tensor, "b *shape"]:
    """What the network has to predict: v = eps - z."""
    return noise - clean


def denoise(
    noisy: Float[Tensor, "b *shape"], velocity: Float[Tensor, "b *shape"], sigma: Float[Tensor, "b"]
) -> Float[Tensor, "b *shape"]:
    """The clean latents that a velocity implies: z = z_sigma - sigma v."""
    return noisy - expand_sigma(sigma, noisy) * velocity
