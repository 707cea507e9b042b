"""Samplers and guidance: plain functions of a velocity field, start latents and a list of noise levels.

A sampler integrates dz = v d sigma from noise (sigma = 1) to data (sigma = 0); see `flow_matching`. Guidance
turns a conditional and an unconditional field into one. Neither knows a network.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.diffusion.flow_matching import denoise
from more4d.foundation.errors import ConfigError

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(noisy latents [b, ...], sigma [b]) -> velocity [b, ...]"""

# What stands for noise level 1 in UniPC, whose log signal-to-noise ratio is -infinity there.
MAX_SIGMA = 1 - 1e-6


def check_levels(sigmas: Float[Tensor, "levels"]) -> None:
    """Refuse noise levels that no sampler can follow.

    Raises:
        ValueError: fewer than two levels, or they do not decrease.
    """
    if sigmas.ndim != 1 or len(sigmas) < 2 or not bool((torch.diff(sigmas) < 0).all()):
        raise ValueError(f"noise levels must be at least two, strictly decreasing; got {sigmas.tolist()}")


def check_unipc_levels(sigmas: Float[Tensor, "levels"]) -> None:
    """Refuse noise levels of which more than one is as good as 1.

    Raises:
        ConfigError: the second is as near to 1.
    """
    if float(sigmas[1]) >= MAX_SIGMA:
        raise ConfigError(
            f"unipc cannot tell noise level {float(sigmas[1]):.8f} from 1; take a smaller shift, or another "
            "sampler"
        )


def cfg_velocity(
    conditional: Velocity, unconditional: Velocity, scale: float, *, cutoff_sigma: float = 0.0
) -> Velocity:
    """Classifier-free guidance (Ho and Salimans 2022), one field after the other: v_u + scale (v_c - v_u).

    At scale 1 the unconditional field is never called.

    Args:
        cutoff_sigma: below this noise level the conditional field is used alone; see `guidance_cutoff_sigma`.
    """
    if scale == 1:
        return conditional

    def velocity(noisy: Tensor, sigma: Tensor) -> Tensor:
        if bool((sigma < cutoff_sigma).all()):
            return conditional(noisy, sigma)
        # Ho and Salimans 2022, eq. 6, for velocities: v_u plus scale times (v_c minus v_u)
        uncond = unconditional(noisy, sigma)
        return uncond + scale * (conditional(noisy, sigma) - uncond)

    return velocity


def batched_cfg_velocity(
    batched: Velocity, conditional: Velocity, scale: float, *, cutoff_sigma: float = 0.0
) -> Velocity:
    """As `cfg_velocity`, with one call of twice the batch: faster where that fits into memory.

    Args:
        batched: the field of a doubled batch: first half unconditional, second half conditional.
        conditional: the field of the plain batch, for the levels without guidance.
    """
    if scale == 1:
        return conditional

    def velocity(noisy: Tensor, sigma: Tensor) -> Tensor:
        if bool((sigma < cutoff_sigma).all()):
            return conditional(noisy, sigma)
        # [2b, ...] in one call, split into the two halves again
        uncond, cond = batched(torch.cat([noisy, noisy]), torch.cat([sigma, sigma])).chunk(2)
        return uncond + scale * (cond - uncond)

    return velocity


def guidance_cutoff_sigma(sigmas: Float[Tensor, "levels"], skipped: float) -> float:
    """The lowest noise level with guidance if the last `skipped` share of the steps goes without.

    0 if no step is skipped; above every level if all are.
    """
    # a step belongs to the level it starts from
    starts = sigmas[:-1]
    # rounded first: 10 * (1 - 0.3) is slightly above 7
    guided_steps = math.ceil(round(len(starts) * (1 - skipped), 6))
    if guided_steps >= len(starts):
        return 0.0
    return float(starts[guided_steps - 1]) if guided_steps else math.inf


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

    Raises:
        ValueError: fewer than two levels, or they do not decrease.
    """
    check_levels(sigmas)
    latents = noise
    for sigma, following in pairwise(sigmas):
        level = sigma.expand(len(latents)).to(latents.device)
        # z_{i+1} = z_i + (sigma_{i+1} - sigma_i) v(z_i, sigma_i); the difference is negative
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
    """As `euler`, of second order: the mean velocity of both ends of a step.

    It takes two calls per step, and one for a last step that ends at level 0.
    """
    check_levels(sigmas)
    latents = noise
    for sigma, following in pairwise(sigmas):
        # z_{i+1} = z_i + step (v(z_i, sigma_i) + v(z_i + step v_i, sigma_{i+1})) / 2
        step = (following - sigma).to(latents.device)
        here = velocity(latents, sigma.expand(len(latents)).to(latents.device))
        # At level 0 networks are not trained, so the last step stays Euler's.
        if following > 0:
            there = velocity(latents + step * here, following.expand(len(latents)).to(latents.device))
            here = (here + there) / 2
        latents = latents + step * here
        if on_step:
            on_step()
    return latents


def unipc(
    velocity: Velocity,
    noise: Float[Tensor, "b *shape"],
    sigmas: Float[Tensor, "levels"],
    on_step: Callable[[], None] | None = None,
) -> Float[Tensor, "b *shape"]:
    """UniPC (Zhao et al. 2023, arXiv 2302.04867) by diffusers: order 2, B(h) = e^h - 1, data prediction.

    Each call of the network serves twice: it corrects the step that led to it and predicts the next one, so a
    step costs one call, as with `euler`. The first step and the last are of first order.

    Args:
        velocity: the network, guidance included; called once per step.
        noise: latents at the first noise level.
        sigmas: decreasing noise levels, float32; the last may be 0.
        on_step: called after each step.

    Raises:
        ValueError: fewer than two levels, or they do not decrease.
        ConfigError: as `check_unipc_levels`.
    """
    from diffusers import UniPCMultistepScheduler  # takes seconds to import

    check_levels(sigmas)
    check_unipc_levels(sigmas)
    # "sample": the scheduler is given the clean latents that the velocity implies, so that `denoise` remains
    # the only place of z = z_sigma - sigma v.
    scheduler = UniPCMultistepScheduler(
        prediction_type="sample", use_flow_sigmas=True, flow_shift=1, solver_order=2, solver_type="bh2"
    )
    scheduler.set_timesteps(sigmas=sigmas[:-1].double().cpu().numpy())
    # Its own list ends at 0 in any case; these are the levels as given, with 1 replaced by the largest it can
    # take.
    scheduler.sigmas = sigmas.cpu().clamp(max=MAX_SIGMA)
    scheduler.set_begin_index(0)  # else it looks for the first timestep, which rounding may repeat
    latents = noise
    for level, timestep in zip(sigmas[:-1], scheduler.timesteps, strict=True):
        here = level.expand(len(latents)).to(latents.device)
        clean = denoise(latents, velocity(latents, here), here)
        latents = scheduler.step(clean, timestep, latents, return_dict=False)[0]
        if on_step:
            on_step()
    return latents


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """An integrator and what it costs.

    Attributes:
        integrate: as `euler`.
        calls: how often the field is called in so many steps that end at noise level 0.
    """

    integrate: Callable[..., Tensor]
    calls: Callable[[int], int]


SAMPLERS: dict[str, Sampler] = {
    "euler": Sampler(integrate=euler, calls=lambda steps: steps),
    "heun": Sampler(integrate=heun, calls=lambda steps: 2 * steps - 1),
    "unipc": Sampler(integrate=unipc, calls=lambda steps: steps),
}
