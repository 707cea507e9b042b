"""Training how far things go as a condition of 4D-STraG (`networks.motion_reach`): options, ranks, loss."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.diffusion.flow_matching import denoise
from more4d.foundation.errors import ConfigError
from more4d.networks.motion_reach import MotionReach, MotionReachConfig
from more4d.networks.wan_config import WanConfig
from more4d.training.generator import FlowSample
from more4d.training.task import mean_per_sample

HALF_NOISE = 0.5
"""Above this noise level the estimate is a mean over motions, and rightly smaller than any of them."""
LEAST_MAGNITUDE = 0.01
"""Added before logarithms are taken; latents have unit variance."""


@dataclass(frozen=True, kw_only=True)
class ReachOptions:
    """Options of the condition.

    Attributes:
        quantiles: reach of the training clips at equal ranks from 0 to 1; `more4d data cache` prints them.
        unknown: share of the clips whose reach is hidden from the network.
        alone: whether nothing but the condition is trained.
        magnitude_weight: weight (omega of Diffusion4D) of the loss on the magnitude of motion.
    """

    quantiles: tuple[float, ...] = ()
    unknown: float = 0.15
    alone: bool = False
    magnitude_weight: float = 0.0

    def __post_init__(self) -> None:
        rising = all(low < high for low, high in zip(self.quantiles, self.quantiles[1:], strict=False))
        if len(self.quantiles) < 2 or not rising or not 0 <= self.unknown <= 1:
            raise ConfigError(
                "options.motion_reach: quantiles must be two or more growing numbers (`more4d data cache` "
                f"prints them), and unknown lie in [0, 1]; got {self.quantiles} and {self.unknown:g}"
            )


def build_motion_reach(options: ReachOptions, wan: WanConfig) -> MotionReach:
    """The condition for a transformer, untrained."""
    quantiles = torch.tensor(options.quantiles)
    network = MotionReach(MotionReachConfig(dim=wan.dim, blocks=wan.layers, quantiles=len(quantiles)))
    network.motion_quantiles.copy_(quantiles)
    return network


def magnitude_loss(
    start: FlowSample,
    velocity: Float[Tensor, "b 16 f h w"],
    clean: Float[Tensor, "b 16 f h w"],
    moving: Float[Tensor, "b 1 h w"],
) -> Float[Tensor, ""]:
    """Squared difference of the log magnitudes of true and estimated motion (Diffusion4D's eq. 2, in logs).

    The magnitude is the mean of |x - x_s|^2 over frames and cells with motion (`moving` = 1). The latents x_s
    of a still scene are those of the true motion where nothing moves. Clips at `HALF_NOISE` or above, and
    those in which nothing moves, are left out.
    """
    cells = moving[:, :, None].expand(-1, -1, clean.shape[2], -1, -1)
    rest = 1 - cells
    still = (rest * clean).sum((3, 4), keepdim=True) / rest.sum((3, 4), keepdim=True).clamp(min=1)

    def log_magnitude(latents: Tensor) -> Float[Tensor, " b"]:
        squared = (latents.float() - still).square().mean(1, keepdim=True)
        return (mean_per_sample(squared, cells) + LEAST_MAGNITUDE).log()

    errors = (log_magnitude(clean) - log_magnitude(denoise(start.noisy, velocity, start.sigma))).square()
    counted = ((start.sigma < HALF_NOISE) & (moving.flatten(1).amax(1) > 0)).to(errors)
    return (counted * errors).sum() / counted.sum().clamp(min=1)
