"""Training how far things go as a condition of 4D-STraG (`networks.motion_reach`): options, ranks, loss."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.diffusion.flow_matching import denoise
from more4d.foundation.errors import ConfigError
from more4d.networks.motion_reach import MotionReach, MotionReachConfig
from more4d.networks.wan_config import WanConfig
from more4d.training import loading
from more4d.training.generator import FlowSample, random_mask
from more4d.training.loading import NetworkFile

HALF_NOISE = 0.5
"""Noise levels below which the estimate has a size of its own. Above, it is a mean over motions and rightly
smaller than any of them: forcing its size up would be a bias."""
LEAST_MAGNITUDE = 0.01
"""Added before logarithms are taken; latents have unit variance."""


@dataclass(frozen=True, kw_only=True)
class ReachOptions:
    """Options of the condition.

    Attributes:
        quantiles: reach of the training clips at equal ranks from 0 to 1; `more4d data cache` prints them.
        weights: of an earlier training to go on from, with its quantiles.
        unknown: share of the clips whose reach the network is not told.
        per_block: whether it is added to the modulation of every block, too.
        alone: whether nothing but the condition is trained.
        magnitude_weight: weight (omega of Diffusion4D) of the loss on the magnitude of motion.
    """

    quantiles: tuple[float, ...] = ()
    weights: NetworkFile | None = None
    unknown: float = 0.15
    per_block: bool = False
    alone: bool = False
    magnitude_weight: float = 0.0

    def __post_init__(self) -> None:
        rising = all(low < high for low, high in zip(self.quantiles, self.quantiles[1:], strict=False))
        if self.weights is None and (len(self.quantiles) < 2 or not rising or self.quantiles[0] < 0):
            raise ConfigError(
                "options.motion_reach.quantiles must be two or more growing numbers, the reach of the "
                "training clips at equal ranks; `more4d data cache` prints them"
            )
        if not 0 <= self.unknown <= 1 or not 0 <= self.magnitude_weight < float("inf"):
            raise ConfigError(
                "options.motion_reach: unknown must lie in [0, 1] and magnitude_weight be at least 0, got "
                f"{self.unknown:g} and {self.magnitude_weight:g}"
            )


def build_motion_reach(options: ReachOptions, wan: WanConfig) -> MotionReach:
    """The condition for a transformer, new or of an earlier training.

    Raises:
        ConfigError: the earlier one was trained for other sizes.
        WeightsError: its file cannot be used.
    """
    if options.weights is None:
        sizes = {"dim": wan.dim, "blocks": wan.layers if options.per_block else 0}
        network = MotionReach(MotionReachConfig(**sizes, quantiles=len(options.quantiles)))
        network.motion_quantiles.copy_(torch.tensor(options.quantiles))
        return network
    network = loading.load_component(options.weights, "motion_reach")
    if not network.config.fits(wan):
        raise ConfigError(
            f"{loading.path_of(options.weights)} is for a transformer of other sizes; give "
            "options.motion_reach.quantiles instead"
        )
    return network.requires_grad_(True)


def clip_ranks(
    network: MotionReach, reaches: Float[Tensor, " b"], unknown: float, generator: torch.Generator
) -> Float[Tensor, " b"]:
    """What the network is told of each clip; NaN of a random share of them, and where nothing moves."""
    hit = random_mask(len(reaches), unknown, generator).to(reaches.device)
    return network.rank(reaches).masked_fill(hit, torch.nan)


def magnitude_loss(
    start: FlowSample,
    velocity: Float[Tensor, "b 16 f h w"],
    clean: Float[Tensor, "b 16 f h w"],
    still: Float[Tensor, "16 f 1 1"],
    moving: Float[Tensor, "b 1 h w"],
) -> Float[Tensor, ""]:
    """Squared difference of the log magnitudes of true and estimated motion (Diffusion4D's eq. 2, in logs).

    The magnitude is the mean of |x - x_s|^2 over frames and moving cells. Clips at `HALF_NOISE` or above, and
    those in which nothing moves, are left out.

    Args:
        clean: latents of the true motion.
        still: latents x_s of a scene in which nothing moves.
        moving: 1 in cells with motion.
    """
    cells = moving[:, :, None].expand(-1, -1, clean.shape[2], -1, -1)

    def log_magnitude(latents: Tensor) -> Float[Tensor, " b"]:
        squared = (latents.float() - still).square().mean(1, keepdim=True)
        mean = (cells * squared).flatten(1).sum(1) / cells.flatten(1).sum(1).clamp(min=1)
        return (mean + LEAST_MAGNITUDE).log()

    estimate = denoise(start.noisy, velocity, start.sigma)
    errors = (log_magnitude(clean) - log_magnitude(estimate)).square()
    counted = ((start.sigma < HALF_NOISE) & (moving.flatten(1).amax(1) > 0)).to(errors)
    return (counted * errors).sum() / counted.sum().clamp(min=1)
