"""Latents drawn from a network by the settings of a preset."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from more4d.diffusion.guidance import guided
from more4d.diffusion.sampler import SAMPLERS, Velocity
from more4d.diffusion.timesteps import published_sampling_sigmas, sampling_sigmas
from more4d.networks.interface import Conditions
from more4d.pipelines.preset import Sampling


def sigmas_of(settings: Sampling) -> Float[Tensor, " levels"]:
    """The noise levels that `settings` visit, from 1 to 0."""
    schedule = published_sampling_sigmas if settings.schedule == "published" else sampling_sigmas
    return schedule(settings.steps, shift=settings.shift)


def draw(
    network: nn.Module,
    settings: Sampling,
    noise: Float[Tensor, "b 16 f h w"],
    *,
    conditional: Conditions,
    unconditional: Callable[[], Conditions],
    on_step: Callable[[], None] | None = None,
) -> Float[Tensor, "b 16 f h w"]:
    """Clean latents from `noise`.

    Args:
        network: velocity of (noisy, sigma, conditions).
        unconditional: makes the conditions without the prompt; called only where guidance needs them.
        on_step: called after each step.
    """

    def field(conditions: Conditions) -> Velocity:
        def velocity(noisy: Tensor, sigma: Tensor) -> Tensor:
            return network(noisy, sigma, conditions)

        return velocity

    without = field(conditional) if settings.guidance == 1 else field(unconditional())
    velocity = guided(field(conditional), without, settings.guidance)
    return SAMPLERS[settings.sampler](velocity, noise, sigmas_of(settings), on_step)


def standard_noise(*shape: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Standard normal noise, the same on every device for the same (CPU) generator."""
    return torch.randn(*shape, generator=generator).to(device=like.device, dtype=like.dtype)
