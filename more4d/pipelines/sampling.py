"""Latents drawn from a network by the settings of a preset."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from more4d.diffusion.flow_matching import reference_sampling_sigmas, sampling_sigmas
from more4d.diffusion.sampler import (
    SAMPLERS,
    Velocity,
    batched_cfg_velocity,
    cfg_velocity,
    check_unipc_levels,
    guidance_cutoff_sigma,
)
from more4d.networks.interface import Conditions
from more4d.networks.wan_config import WanConfig
from more4d.performance.config import Memory
from more4d.performance.prepare import check_settings as check_performance
from more4d.performance.prepare import prepare
from more4d.pipelines.components import Components
from more4d.pipelines.preset import Sampling

ConditionsT = TypeVar("ConditionsT", bound=Conditions)


def sigmas_of(settings: Sampling) -> Float[Tensor, " levels"]:
    """The noise levels that `settings` visit, from 1 to 0."""
    schedule = reference_sampling_sigmas if settings.schedule == "reference" else sampling_sigmas
    return schedule(settings.steps, shift=settings.shift)


@dataclass(frozen=True, kw_only=True)
class SamplingRequest:
    """What is to be drawn.

    Attributes:
        settings: how.
        noise: where from.
        conditional: what the network is cond.
        unconditional: makes the conditions without the prompt; called only where guidance needs them.
        on_step: called after each step.
    """

    settings: Sampling
    noise: Float[Tensor, "b 16 f h w"]
    conditional: Conditions
    unconditional: Callable[[], Conditions]
    on_step: Callable[[], None] | None = None


def sample_latents(network: nn.Module, request: SamplingRequest) -> Float[Tensor, "b 16 f h w"]:
    """Clean latents, of the noise's type; in between they are float32, so that small steps are not lost.

    Args:
        network: velocity of (noisy, sigma, conditions).

    Raises:
        ConfigError: a setting does not go with this network or its device.
    """
    settings, noise = request.settings, request.noise
    sampler, sigmas = SAMPLERS[settings.sampler], sigmas_of(settings)
    calls = sampler.calls(settings.steps)
    with prepare(network, settings, device=noise.device, calls=calls) as model:

        def field(branch: str, conditions: Conditions) -> Velocity:
            return lambda noisy, sigma: model(noisy, sigma, conditions, branch)

        cond = field("cond", request.conditional)
        floor = guidance_cutoff_sigma(sigmas, settings.guidance_skip)
        if settings.guidance == 1:
            velocity = cond
        elif settings.batched_cfg:
            both = field("batched", joined(request.unconditional(), request.conditional))
            velocity = batched_cfg_velocity(both, cond, settings.guidance, cutoff_sigma=floor)
        else:
            uncond = field("uncond", request.unconditional())
            velocity = cfg_velocity(cond, uncond, settings.guidance, cutoff_sigma=floor)
        return sampler.integrate(velocity, noise.float(), sigmas, request.on_step).to(noise.dtype)


def check_sampling(models: Components, *, shared: bool = False) -> None:
    """Refuse settings of the preset that `sample_latents` would refuse, before anything is loaded.

    Args:
        shared: whether several processes draw each sample together.

    Raises:
        ConfigError: one line about the first of them.
    """
    for component, settings in (("strag", models.preset.tracks), ("vism", models.preset.views)):
        check_settings(
            settings,
            models.config(component).wan,
            device=models.device,
            memory=models.preset.memory,
            shared=shared,
        )


def check_settings(
    settings: Sampling, wan: WanConfig, *, device: torch.device, memory: Memory, shared: bool = False
) -> None:
    """Refuse settings that do not go with a transformer of these numbers, a device or a memory mode.

    Raises:
        ConfigError: they do not.
    """
    check_performance(settings, wan, device=device, memory=memory, shared=shared)
    if settings.sampler == "unipc":
        check_unipc_levels(sigmas_of(settings))


def joined(first: ConditionsT, second: ConditionsT) -> ConditionsT:
    """The conditions of both batches, one after the other.

    Raises:
        ValueError: one of them has a condition that the other lacks.
    """
    parts = {}
    for field in fields(first):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if (one is None) != (other is None):
            raise ValueError(f"{field.name} is given for one batch of conditions and not for the other")
        parts[field.name] = None if one is None else torch.cat([one, other])
    return replace(first, **parts)


def standard_noise(*shape: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Standard normal noise, the same on every device for the same (CPU) generator."""
    return torch.randn(*shape, generator=generator).to(device=like.device, dtype=like.dtype)
