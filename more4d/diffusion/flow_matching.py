"""Rectified flow (Lipman et al. 2023; MoRe4D trains and samples with it) and its noise levels.

    z_sigma = (1 - sigma) z + sigma eps        v = d z_sigma / d sigma = eps - z

sigma runs from 0 (data) to 1 (noise) and stays float32 whatever the latents are. Training samples noise
levels from a density (`sample_sigmas`), sampling visits a schedule of them (`sampling_sigmas`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.foundation.errors import ConfigError

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
            f"unipc cannot separate noise level {float(sigmas[1]):.8f} from 1; take a smaller shift, or "
            "another sampler"
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


AWAY_FROM, AWAY_BELOW = 0.3, 0.95
"""Noise levels between which `away_from` acts: the last steps return to what the network knows."""
FARTHEST = 4.0
"""Bound of `away_from` for latents of unit variance, of which one in 16,000 lies farther from the mean."""


def away_from(
    velocity: Velocity, known: Float[Tensor, "b *shape"], weight: float, sigmas: Float[Tensor, " levels"]
) -> Velocity:
    """Guidance away from one known sample x_s; toward it for a negative weight.

    Data that were nothing but x_s would have the velocity (z - x_s) / sigma. So Diffusion4D's guidance away
    from a second model (Liang et al. 2024, eq. 3) has a closed form, bounded for every sigma in terms of the
    clean estimate x = z - sigma v:

        x' = x + w (x - x_s)        v' = (z - x') / sigma

    A network that sees what an earlier step has enlarged enlarges it again: with a constant w the effect
    would grow with the number of steps, to exp(3.8 w). From level a to level b the distance to x_s grows by
    the factor 1 + w (1 - b / a) / (1 - b) if the network follows; w is such that all steps together make
    1 + weight, an equal share each (by Euler's method; samplers that ask twice a step draw farther).

    Args:
        velocity: the network, other guidance included.
        known: x_s; the still scene, for motion.
        weight: 0 leaves `velocity` as it is; -1 ends at x_s.
        sigmas: levels of the steps, from the first down to 0.
    """
    if weight == 0:
        return velocity
    starts, ends = sigmas[:-1], sigmas[1:]
    acts = (starts >= AWAY_FROM) & (starts <= AWAY_BELOW)
    acts[-1] |= not bool(acts.any())  # of one step, which begins at noise alone
    growth = (1 + weight) ** (1 / int(acts.sum())) - 1
    weights = torch.where(acts, growth * (1 - ends) / (1 - ends / starts), 0)

    def guided(noisy: Tensor, sigma: Tensor) -> Tensor:
        plain = velocity(noisy, sigma)
        step_weight = float(weights[(starts - sigma.max().to(starts)).abs().argmin()])
        if step_weight == 0:
            return plain
        away = denoise(noisy, plain, sigma) - known
        # What lies beyond the bound already is not drawn back.
        bound = away.abs().clamp(min=FARTHEST)
        clean = known + torch.clamp((1 + step_weight) * away, -bound, bound)
        return (noisy - clean) / expand_sigma(sigma, noisy)

    return guided


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
