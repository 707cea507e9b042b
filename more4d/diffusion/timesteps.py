"""Noise levels: which ones training draws, and which ones sampling visits."""

import torch
from jaxtyping import Float
from torch import Tensor

DENSITIES = ("uniform", "logit_normal")


def shift_sigma(sigma: Float[Tensor, "*shape"], shift: float) -> Float[Tensor, "*shape"]:
    """Move noise levels toward 1: shift * s / (1 + (shift - 1) s) (Esser et al. 2024, eq. 23)."""
    if shift <= 0:
        raise ValueError(f"shift must be positive, got {shift}")
    return shift * sigma / (1 + (shift - 1) * sigma)


def unshift_sigma(sigma: Float[Tensor, "*shape"], shift: float) -> Float[Tensor, "*shape"]:
    """The inverse of `shift_sigma`."""
    return shift_sigma(sigma, 1 / shift)


def training_sigmas(shift: float, steps: int = 1000) -> Float[Tensor, "steps"]:
    """The discrete table of training noise levels, from 1 downward: s_i = (steps - i) / steps, shifted."""
    return shift_sigma(torch.arange(steps, 0, -1, dtype=torch.float32) / steps, shift)


def sample_sigmas(
    count: int, *, shift: float, density: str = "uniform", generator: torch.Generator | None = None
) -> Float[Tensor, "count"]:
    """Noise levels for one batch, stratified: each sample draws from its own equal share of the density.

    Stratifying lowers the variance of the loss without changing its expectation.

    Args:
        count: samples in the batch.
        shift: see `shift_sigma`.
        density: "uniform", or "logit_normal" (mean 0, deviation 1), before the shift.
        generator: a CPU generator.
    """
    if density not in DENSITIES:
        raise ValueError(f"density must be one of {', '.join(DENSITIES)}, got '{density}'")
    order = torch.randperm(count, generator=generator)
    uniform = (order + torch.rand(count, generator=generator)) / count
    if density == "logit_normal":
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
    levels = training_sigmas(shift, table)
    spaced = torch.linspace(float(levels[0]), float(levels[-1]), steps)
    return torch.cat([shift_sigma(spaced, shift), torch.zeros(1)])
