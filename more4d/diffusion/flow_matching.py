"""Rectified flow (Lipman et al. 2023; MoRe4D trains and samples with it) and its noise levels.

    z_sigma = (1 - sigma) z + sigma eps        v = d z_sigma / d sigma = eps - z

sigma runs from 0 (data) to 1 (noise) and stays float32 whatever the latents are. Training samples noise
levels from a density (`sample_sigmas`), sampling visits a schedule of them (`sampling_sigmas`).
"""

import torch
from jaxtyping import Float
from torch import Tensor

DENSITIES = ("uniform", "logit_normal")


def expand_sigma(sigma: Float[Tensor, "b"], like: Tensor) -> Tensor:
    """sigma with trailing axes of length 1, so that it broadcasts over a batch: [b] -> [b, 1, ..., 1]."""
    return sigma.float().view(-1, *([1] * (like.ndim - 1)))


def interpolate(
    clean: Float[Tensor, "b *shape"], noise: Float[Tensor, "b *shape"], sigma: Float[Tensor, "b"]
) -> Float[Tensor, "b *shape"]:
    """The noisy latents z_sigma = (1 - sigma) z + sigma eps."""
    level = expand_sigma(sigma, clean)
    return (1 - level) * clean + level * noise


def velocity_target(
    clean: Float[Tensor, "b *shape"], noise: Float[Tensor, "b *shape"]
) -> Float[Tensor, "b *shape"]:
    """What the network has to predict: v = eps - z, the same at every sigma."""
    return noise - clean


def denoise(
    noisy: Float[Tensor, "b *shape"], velocity: Float[Tensor, "b *shape"], sigma: Float[Tensor, "b"]
) -> Float[Tensor, "b *shape"]:
    """The clean latents that a velocity implies: z = z_sigma - sigma v."""
    return noisy - expand_sigma(sigma, noisy) * velocity


def shift_sigma(sigma: Float[Tensor, "*shape"], shift: float) -> Float[Tensor, "*shape"]:
    """Move noise levels toward 1: shift * s / (1 + (shift - 1) s) (Esser et al. 2024, eq. 23).

    A shift of 1 / `shift` undoes it.
    """
    if shift <= 0:
        raise ValueError(f"shift must be positive, got {shift}")
    return shift * sigma / (1 + (shift - 1) * sigma)


def training_sigmas(shift: float, steps: int = 1000) -> Float[Tensor, "steps"]:
    """The discrete table of training noise levels, from 1 downward: s_i = (steps - i) / steps, shifted."""
    return shift_sigma(torch.arange(steps, 0, -1, dtype=torch.float32) / steps, shift)


def sample_sigmas(
    count: int, *, shift: float, density: str = "uniform", generator: torch.Generator | None = None
) -> Float[Tensor, "count"]:
    """Noise levels for one batch, stratified: each sample takes its own equal share of the density.

    Stratifying lowers the variance of the loss without changing its expectation.

    Args:
        count: samples in the batch.
        shift: see `shift_sigma`.
        density: "uniform", or "logit_normal" (mean 0, deviation 1; Esser et al. 2024, eq. 19), before the
            shift.
        generator: a CPU generator.
    """
    if density not in DENSITIES:
        raise ValueError(f"density must be one of {', '.join(DENSITIES)}, got '{density}'")
    # Sample i lies in [order_i, order_i + 1) / count: one sample per stratum, in random order.
    order = torch.randperm(count, generator=generator)
    uniform = (order + torch.rand(count, generator=generator)) / count
    if density == "logit_normal":
        # Inverse of the normal distribution function, then a sigmoid; the clamp keeps it finite.
        uniform = torch.sigmoid(torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6)))
    return shift_sigma(uniform, shift)


def sampling_sigmas(steps: int, *, shift: float) -> Float[Tensor, "steps_plus_one"]:
    """Noise levels that a sampler visits: `steps` equal parts of [1, 0], shifted; the last one is 0."""
    if steps < 1:
        raise ValueError(f"sampling needs at least one step, got {steps}")
    return shift_sigma(torch.linspace(1, 0, steps + 1), shift)


def reference_sampling_sigmas(
    steps: int, *, shift: float, table: int = 1000
) -> Float[Tensor, "steps_plus_one"]:
    """The schedule of the reference implementation, which applies the shift twice.

    Equal parts between the largest and the smallest level of the already shifted training table, shifted
    again; then 0. Kept because released weights were shown with it.
    """
    if steps < 1:
        raise ValueError(f"sampling needs at least one step, got {steps}")
    levels = training_sigmas(shift, table)  # first shift
    spaced = torch.linspace(float(levels[0]), float(levels[-1]), steps)
    return torch.cat([shift_sigma(spaced, shift), torch.zeros(1)])  # second shift
