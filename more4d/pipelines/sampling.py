"""Sampling latents from a generator: flow matching with classifier-free guidance, as pure functions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from more4d.diffusion.flow_matching import (
    SAMPLERS,
    Velocity,
    away_from,
    batched_cfg_velocity,
    cfg_velocity,
    check_unipc_levels,
    guidance_cutoff_sigma,
    reference_sampling_sigmas,
    sampling_sigmas,
)
from more4d.diffusion.flow_matching import interpolate as interpolate_flow
from more4d.networks.conditioners import ClipVision
from more4d.networks.context_parallel import ContextParallel
from more4d.networks.interface import (
    Conditions,
    STraGConditions,
    TextEncoder,
    TrajectoryCodec,
    VideoCodec,
    ViSMConditions,
)
from more4d.networks.vism import ViSMConfig, masked_video, pack_mask
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
        start: clean latents that the sample begins at, with noise of level `from_sigma`; None: noise alone.
        still: latents of the still scene, and the weight of guidance away from it (`away_from`); or None.
        cond: conditions with the prompt.
        uncond: conditions with the empty prompt; None where `settings.guidance` is 1.
        on_step: called after each step.
    """

    settings: Sampling
    noise: Float[Tensor, "b 16 f h w"]
    cond: Conditions
    uncond: Conditions | None = None
    start: Float[Tensor, "b 16 f h w"] | None = None
    from_sigma: float = 1.0
    still: tuple[Float[Tensor, "b 16 f h w"], float] | None = None
    on_step: Callable[[], None] | None = None

    @property
    def sigmas(self) -> Float[Tensor, " levels"]:
        """Noise levels from `from_sigma` to 0: all of the settings' steps, however little is left to do."""
        return sigmas_of(self.settings) * self.from_sigma

    @property
    def noisy(self) -> Float[Tensor, "b 16 f h w"]:
        """The latents at the first level."""
        if self.start is None:
            return self.noise
        level = torch.full((len(self.noise),), self.from_sigma, device=self.noise.device)
        return interpolate_flow(self.start, self.noise, level)


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
    still: tuple[Float[Tensor, "b 16 f h w"], float] | None = None,
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
        still: as in `SamplingRequest`.
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
    if still is not None:
        velocity = away_from(velocity, *still, sigmas)
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
            request.noisy,
            request.sigmas,
            guidance=settings.guidance,
            guidance_skip=settings.guidance_skip,
            batched_cfg=settings.batched_cfg,
            sampler=settings.sampler,
            still=request.still,
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


# What the CLIP encoder of 4D-STraG sees.
ClipImage = Literal["photo", "grey"]
# Prompts are dropped in training with probability 0.1: the empty prompt is the unconditional one.
NULL_PROMPT = ""
"""The prompt of the unconditional velocity in classifier-free guidance."""
GREY = 127 / 255
"""Of the picture that the published 4D-STraG was trained and shown with."""


def strag_conditions(
    wan: WanConfig,
    codec: TrajectoryCodec,
    text_encoder: TextEncoder,
    motion_features: nn.Module | None,
    clip: ClipVision | None,
    *,
    image: Float[Tensor, "b 3 height width"],
    depth_m: Float[Tensor, "b 1 height width"],
    prompts: list[str],
    frames: int,
    clip_image: ClipImage = "photo",
    photo: Float[Tensor, "b 3 photo_height photo_width"] | None = None,
) -> STraGConditions:
    """Conditions of 4D-STraG with configuration `wan` for `frames` video frames.

    The reference tokens are the photo's first latent frame; motion features see the photo itself, and so does
    CLIP, if it is not shown a grey picture.

    Args:
        photo: the same picture, sharper than `image`, for motion features at a higher resolution.
    """
    # [b, c, f, h, w]: the image, repeated for every frame.
    image_latents = codec.encode_image(image, frames)
    # Image encoders take [0, 1] and normalise themselves.
    seen = (image + 1) / 2
    shown = torch.full_like(seen, GREY) if clip_image == "grey" else seen
    # Motion perception (MPM): features of a video network on the still image, [b, d, grid, grid].
    features = None
    if motion_features and wan.motion_feature_dim:
        features = motion_features(resize_for_encoder(motion_features, image, photo))
    # The transformer concatenates [noisy | image | zeros | depth] along channels (64 of them at 14B).
    return STraGConditions(
        image_latents=image_latents,
        depth_latents=codec.encode_depth(depth_m, frames),
        # Tokens of the image in front of the video tokens.
        reference_latents=image_latents[:, :, 0] if wan.reference_tokens else None,
        text=text_encoder.encode_text(prompts),
        motion_features=features,
        clip=clip.encode_image(shown) if clip and wan.image_dim else None,
    )


def resize_for_encoder(
    network: nn.Module,
    image: Float[Tensor, "b 3 height width"],
    photo: Float[Tensor, "b 3 photo_height photo_width"] | None,
) -> Float[Tensor, "b 3 closer_height closer_width"]:
    """The picture in [0, 1], as many times larger than `image` as the network wants it (`input_scale`)."""
    input_scale = getattr(network, "input_scale", 1)
    if input_scale == 1:
        return (image + 1) / 2
    # Antialiased, or small objects would alias in the features.
    size = [input_scale * side for side in image.shape[-2:]]
    photo = image if photo is None else photo
    return (interpolate(photo, size, mode="bilinear", antialias=True).clamp(-1, 1) + 1) / 2


def vism_conditions(
    config: ViSMConfig,
    codec: VideoCodec,
    text_encoder: TextEncoder,
    clip: ClipVision | None,
    *,
    rendering: Float[Tensor, "b 3 t height width"],
    coverage: Float[Tensor, "b 1 t height width"],
    photo: Float[Tensor, "b 3 photo_height photo_width"],
    prompts: list[str],
) -> ViSMConditions:
    """Conditions of 4D-ViSM: the rendering, and where its holes are.

    Args:
        config: of the network; without its `background_fill` the rendering's holes become grey.
        rendering: in [-1, 1]; in holes what lies behind them, or anything.
    """
    # [b, 16, f, h, w], with holes grey (0 in [-1, 1]) or filled from the background.
    known = codec.encode_video(rendering if config.background_fill else masked_video(rendering, coverage))
    return ViSMConditions(
        known_latents=known,
        # [b, 4, f, h, w]: the mask of the 4 frames of each latent as channels.
        known_mask=pack_mask(coverage, (known.shape[-2], known.shape[-1])),
        text=text_encoder.encode_text(prompts),
        # The image, not the rendering: what the scene looks like without holes.
        clip=clip.encode_image((photo + 1) / 2) if clip and config.wan.image_dim else None,
    )


@dataclass(frozen=True)
class EncodedPrompts:
    """`interface.TextEncoder` for prompts that have been encoded, and for no others."""

    embeddings: Mapping[str, Float[Tensor, "1 length text_dim"]]

    def encode_text(self, prompts: list[str]) -> Float[Tensor, "b length text_dim"]:
        """See `interface.TextEncoder`.

        Raises:
            KeyError: one of them has not been encoded.
        """
        # [b, length, text_dim]; the text encoder itself may be freed by now.
        return torch.cat([self.embeddings[prompt] for prompt in prompts])


def uncond_prompts(settings: Sampling) -> tuple[str, ...]:
    """The prompts that guidance needs beside the user's."""
    # v = v_uncond + 1 (v_cond - v_uncond) needs no unconditional pass.
    return () if settings.guidance == 1 else (NULL_PROMPT,)


Progress = Callable[[str, int, int], None]
"""(stage, steps done, steps in all), called when a stage starts (with 0 steps done) and after each step."""


def no_progress(stage: str, done: int, total: int) -> None:
    """Reports nothing."""


def step_counter(progress: Progress, stage: str, total: int) -> Callable[[], None]:
    """A function to call after each of `total` steps of a stage that starts now."""
    done = 0
    progress(stage, 0, total)

    def step() -> None:
        nonlocal done
        done += 1
        progress(stage, done, total)

    return step
