"""What every flow-matching task does with clean latents and captions before its network sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.diffusion.flow_matching import interpolate, velocity_target
from more4d.diffusion.timesteps import draw_sigmas


@dataclass(frozen=True, kw_only=True)
class FlowOptions:
    """How flow matching is trained.

    Attributes:
        shift: see diffusion.timesteps.shift_sigma; more than 1 dwells on high noise.
        density: see diffusion.timesteps.draw_sigmas.
        text_dropout: how often the caption is replaced by the empty one, for guidance.
    """

    shift: float = 3.0
    density: str = "uniform"
    text_dropout: float = 0.1


class FlowStart(NamedTuple):
    """Where a training step starts: noised latents, their noise levels [b], and the velocity to predict."""

    noisy: Float[Tensor, "b c t h w"]
    sigma: Float[Tensor, " b"]
    target: Float[Tensor, "b c t h w"]


def noised(clean: Float[Tensor, "b c t h w"], options: FlowOptions, generator: torch.Generator) -> FlowStart:
    """Clean latents at random noise levels; noise is drawn on the CPU, the same on every device."""
    sigma = draw_sigmas(len(clean), shift=options.shift, density=options.density, generator=generator)
    sigma = sigma.to(clean.device)
    noise = torch.randn(clean.shape, generator=generator).to(clean)
    return FlowStart(interpolate(clean, noise, sigma), sigma, velocity_target(clean, noise))


def some_dropped(captions: Sequence[str], options: FlowOptions, generator: torch.Generator) -> list[str]:
    """The captions, some of them emptied at random."""
    dropped = (torch.rand(len(captions), generator=generator) < options.text_dropout).tolist()
    return ["" if drop else caption for drop, caption in zip(dropped, captions, strict=True)]
