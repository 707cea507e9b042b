"""What every flow-matching task does with clean latents and captions before its network sees them, and with
what the network answers.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from more4d.diffusion.flow_matching import DENSITIES, interpolate, sample_sigmas, velocity_target
from more4d.foundation.errors import ConfigError
from more4d.training.task import NOISE_LEVELS, mean_per_sample, noise_levels


@dataclass(frozen=True, kw_only=True)
class FlowOptions:
    """How flow matching is trained.

    Attributes:
        shift: see diffusion.timesteps.shift_sigma; more than 1 dwells on high noise.
        density: see diffusion.timesteps.sample_sigmas.
        text_dropout: how often a caption is replaced by the empty one, for guidance.
        image_dropout: how often the photo's latents, and CLIP's view of it, are zeroed; published: 0.02.
        depth_dropout: how often the depth map's latents are zeroed.
        difference: share of the loss that is of differences between neighbouring latent frames; published: 0
            or 0.25.
    """

    shift: float = 3.0
    density: str = "uniform"
    text_dropout: float = 0.1
    image_dropout: float = 0.0
    depth_dropout: float = 0.0
    difference: float = 0.0

    def __post_init__(self) -> None:
        if not self.shift > 0 or self.density not in DENSITIES:
            raise ConfigError(
                f"flow: shift must be positive and density one of {', '.join(DENSITIES)};"
                f" got {self.shift} and '{self.density}'"
            )
        for name in ("text_dropout", "image_dropout", "depth_dropout", "difference"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"flow: {name} must lie in [0, 1], got {getattr(self, name)}")


class FlowSample(NamedTuple):
    """Where a training step starts: noised latents, their noise levels [b], and the velocity to predict."""

    noisy: Float[Tensor, "b c t h w"]
    sigma: Float[Tensor, " b"]
    target: Float[Tensor, "b c t h w"]


def add_noise(
    clean: Float[Tensor, "b c t h w"], options: FlowOptions, generator: torch.Generator
) -> FlowSample:
    """Clean latents at random noise levels; noise is drawn on the CPU, the same on every device."""
    sigma = sample_sigmas(len(clean), shift=options.shift, density=options.density, generator=generator)
    sigma = sigma.to(clean.device)
    noise = torch.randn(clean.shape, generator=generator).to(clean)
    return FlowSample(interpolate(clean, noise, sigma), sigma, velocity_target(clean, noise))


def random_mask(count: int, rate: float, generator: torch.Generator) -> Bool[Tensor, " b"]:
    """Which samples of a batch of `count` are hit by something that happens at this rate; on the CPU."""
    return torch.rand(count, generator=generator) < rate


def zero_where(values: Float[Tensor, "b *shape"], hit: Bool[Tensor, " b"]) -> Float[Tensor, "b *shape"]:
    """Samples that are hit become zero."""
    kept = (~hit).to(values).view(-1, *[1] * (values.ndim - 1))
    return values * kept


def flow_losses(
    velocity: Float[Tensor, "b c t h w"],
    target: Float[Tensor, "b c t h w"],
    weight: Float[Tensor, "b 1 t h w"],
    difference: float,
) -> Float[Tensor, " b"]:
    """Weighted mean square error of each sample, in float32, times the batch's number of samples over the
    sum of weights: the mean over samples is the weighted mean over the whole batch.

    `difference` of it is of differences between neighbouring frames, which count as much as the lighter of
    the two. (The reference takes differences of channels instead.)
    """
    error = velocity.float() - target.float()
    losses = _weighted(error.square(), weight)
    if difference and error.shape[2] > 1:
        pairs = torch.minimum(weight[:, :, 1:], weight[:, :, :-1])
        losses = (1 - difference) * losses + difference * _weighted(error.diff(dim=2).square(), pairs)
    return losses


def noise_level_metrics(
    start: FlowSample, velocity: Float[Tensor, "b c t h w"], weight: Float[Tensor, "b 1 t h w"]
) -> dict[str, Tensor]:
    """What the journal sorts by noise level: each sample's own weighted mean square error."""
    squared = (velocity.detach().float() - start.target.float()).square()
    return {NOISE_LEVELS: noise_levels(start.sigma, mean_per_sample(squared, weight))}


def _weighted(values: Float[Tensor, "b c t h w"], weight: Float[Tensor, "b 1 t h w"]) -> Float[Tensor, " b"]:
    per_sample = (weight * values).flatten(1).sum(1)
    return per_sample * (len(values) / (weight.sum() * values.shape[1]).clamp(min=1e-6))
