"""Sampling latents from a generator: flow matching with classifier-free guidance, as pure functions."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from more4d.diffusion.flow_matching import (
    SAMPLERS,
    Velocity,
    batched_cfg_velocity,
    cfg_velocity,
    check_unipc_levels,
    guidance_cutoff_sigma,
    reference_sampling_sigmas,
    sampling_sigmas,
)
from more4d.networks.context_parallel import ContextParallel
from more4d.networks.interface import Conditions
from more4d.networks.wan_config import WanConfig
from more4d.performance.config import Memory
from more4d.performance.prepare import PreparedModel, prepare
from more4d.performance.prepare import check_settings as check_performance
from more4d.pipelines.preset import Sampling

ConditionsT = TypeVar("ConditionsT", bound=Conditions)


def sigmas_of(settings: Sampling) -> Float[Tensor, " levels"]:
    """The noise levels of the settings, from 1 to 0: one more than there are steps."""
    # The reference schedule shifts twice, as the released weights were sampled.
    schedule = reference_sampling_sigmas if settings.schedule == "reference" else sampling_sigmas
    return schedule(settings.steps, shift=settings.shift)


@dataclass(frozen=True, kw_only=True)
class SamplingRequest:
    """What is to be sampled.

    Attributes:
        settings: steps, sampler, guidance, cache, attention kernel, compilation.
        noise: standard normal latents, the sample at sigma = 1.
        cond: conditions with the prompt.
        uncond: conditions with the empty prompt; None where `settings.guidance` is 1.
        on_step: called after each step.
    """

    settings: Sampling
    noise: Float[Tensor, "b 16 f h w"]
    cond: Conditions
    uncond: Conditions | None = None
    on_step: Callable[[], None] | None = None


def sample(
    model: PreparedModel,
    cond: Conditions,
    uncond: Conditions | None,
    noise: Float[Tensor, "b 16 f h w"],
    sigmas: Float[Tensor, "levels"],
    *,
    guidance: float = 1.0,
    guidance_skip: float = 0.0,
    batched_cfg: bool = False,
    sampler: str = "euler",
    on_step: Callable[[], None] | None = None,
) -> Float[Tensor, "b 16 f h w"]:
    """Integrate dz / d sigma = v(z, sigma) from noise (sigma = 1) to clean latents (sigma = 0).

    Flow matching (Lipman et al. 2022) trains v towards noise - data along z = (1 - sigma) data + sigma noise,
    so that one step of Euler is z += (sigma_next - sigma) v. With classifier-free guidance (Ho and Salimans
    2022) the velocity is v = v_uncond + guidance (v_cond - v_uncond).

    Args:
        model: velocity of (latents, sigma, conditions, branch), from `performance.prepare`.
        cond: conditions with the prompt.
        uncond: conditions with the empty prompt; None leaves guidance out.
        noise: standard normal.
        sigmas: noise levels from 1 down to 0, `sigmas_of`.
        guidance: strength of the prompt.
        guidance_skip: share of the steps, at the end, that use v_cond alone.
        batched_cfg: evaluate both velocities in one call of twice the batch.
        sampler: a name of `diffusion.flow_matching.SAMPLERS`.
        on_step: called after each step.

    Returns:
        Clean latents, in the dtype of `noise`.
    """

    def branch(name: str, conditions: Conditions) -> Velocity:
        return lambda latents, sigma: model(latents, sigma, conditions, name)

    v_cond = branch("cond", cond)  # ([b, 16, f, h, w], [b]) -> [b, 16, f, h, w]
    cutoff_sigma = guidance_cutoff_sigma(sigmas, guidance_skip)  # below it v_cond stands alone
    # One, one doubled, or two calls of the network per step.
    if uncond is None:
        velocity = v_cond
    elif batched_cfg:
        both = branch("batched", joined(uncond, cond))  # batch of 2 b: unconditional first
        velocity = batched_cfg_velocity(both, v_cond, guidance, cutoff_sigma=cutoff_sigma)
    else:
        velocity = cfg_velocity(v_cond, branch("uncond", uncond), guidance, cutoff_sigma=cutoff_sigma)
    # In float32 between steps: a step of 1/400 changes nothing in bfloat16.
    return SAMPLERS[sampler].integrate(velocity, noise.float(), sigmas, on_step).to(noise.dtype)


def sample_latents(
    network: nn.Module, request: SamplingRequest, context_parallel: ContextParallel | None = None
) -> Float[Tensor, "b 16 f h w"]:
    """`sample` with everything applied to the network that the settings ask for (`performance.prepare`).

    Args:
        network: velocity of (latents, sigma, conditions), on the device of the noise.
        context_parallel: the processes that compute the sample together, if several do.

    Raises:
        ConfigError: a setting does not go with this network or its device.
    """
    # Kernel, compilation, step cache and context parallelism are applied once, around all steps.
    settings, noise = request.settings, request.noise
    # Step caches need to know how often the network is called in each branch.
    calls = SAMPLERS[settings.sampler].calls(settings.steps)
    with prepare(
        network, settings, device=noise.device, calls=calls, context_parallel=context_parallel
    ) as model:
        return sample(
            model,
            request.cond,
            request.uncond,
            noise,
            sigmas_of(settings),
            guidance=settings.guidance,
            guidance_skip=settings.guidance_skip,
            batched_cfg=settings.batched_cfg,
            sampler=settings.sampler,
            on_step=request.on_step,
        )


def check_settings(
    settings: Sampling, wan: WanConfig, *, device: torch.device, memory: Memory, shared: bool = False
) -> None:
    """Refuse settings that `sample_latents` would refuse, before anything is loaded.

    Args:
        wan: configuration of the generator's transformer.
        shared: whether several processes compute each sample together.

    Raises:
        ConfigError: one line about the first setting that cannot be.
    """
    check_performance(settings, wan, device=device, memory=memory, shared=shared)
    # UniPC divides by differences of log SNR, which two levels that round alike do not have.
    if settings.sampler == "unipc":
        check_unipc_levels(sigmas_of(settings))


def joined(first: ConditionsT, second: ConditionsT) -> ConditionsT:
    """The conditions of both batches, one after the other.

    Raises:
        ValueError: one of them has a condition that the other lacks.
    """
    # Every condition is [b, ...]: joined along the batch.
    parts = {}
    for field in fields(first):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if (one is None) != (other is None):
            raise ValueError(f"{field.name} is given for one batch of conditions and not for the other")
        parts[field.name] = None if one is None else torch.cat([one, other])
    return replace(first, **parts)


def standard_noise(*shape: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Standard normal noise, the same on every device for the same (CPU) generator."""
    # Drawn on the CPU in float32, then moved: equal seeds give equal noise on every device.
    return torch.randn(*shape, generator=generator).to(device=like.device, dtype=like.dtype)
