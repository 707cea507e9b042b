"""UniPC (Zhao et al. 2023, arXiv 2302.04867) for rectified flow: order 2, B(h) = e^h - 1, data prediction.

With alpha = 1 - sigma and lambda = log(alpha / sigma), the clean latents m that the velocity implies are
extrapolated along lambda. Each call of the network serves twice: it corrects the step that led to it and
predicts the next one, so a step costs one call.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from more4d.diffusion.field import Velocity, check_levels
from more4d.diffusion.flow_matching import denoise
from more4d.foundation.errors import ConfigError

MAX_SIGMA = 1 - 1e-6
"""What stands for noise level 1, whose lambda is infinite; the correction of step two depends on it."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The clean latents that one call of the network implied, and the level at which it was asked."""

    clean: Tensor
    sigma: float

    @property
    def lambda_(self) -> float:
        return math.log((1 - self.sigma) / self.sigma)


def unipc(
    velocity: Velocity,
    noise: Float[Tensor, "b *shape"],
    sigmas: Float[Tensor, "levels"],
    on_step: Callable[[], None] | None = None,
) -> Float[Tensor, "b *shape"]:
    """As `sampler.euler`, of second order at the same number of calls.

    The first step and the last are of first order: nothing came before, and at level 0 nothing else is exact.

    Args:
        velocity: the network, guidance included; called once per step.
        noise: latents at the first noise level.
        sigmas: decreasing noise levels, float32; the last may be 0.
        on_step: called after each step.

    Raises:
        ValueError: fewer than two levels, or they do not decrease.
        ConfigError: as `check_unipc_levels`.
    """
    check_levels(sigmas)
    check_unipc_levels(sigmas)
    predicted, start = noise, noise
    before: list[Estimate] = []  # the two last ones, the newest at the end
    for level, following in pairwise(sigmas):
        asked = level.expand(len(predicted)).to(predicted.device)
        here = Estimate(
            clean=denoise(predicted, velocity(predicted, asked), asked), sigma=min(float(level), MAX_SIGMA)
        )
        start = _step(start, before, here.sigma, corrected_by=here) if before else predicted
        before = [*before[-1:], here]
        last = float(following) == float(sigmas[-1])
        predicted = _step(start, before[-1:] if last else before, float(following))
        if on_step:
            on_step()
    return predicted


def check_unipc_levels(sigmas: Float[Tensor, "levels"]) -> None:
    """Refuse noise levels of which more than one stands for 1.

    Raises:
        ConfigError: the second is as near to 1.
    """
    if float(sigmas[1]) >= MAX_SIGMA:
        raise ConfigError(
            f"unipc cannot tell noise level {float(sigmas[1]):.8f} from 1; take a smaller shift, or another "
            "sampler"
        )


def _step(
    start: Tensor, before: list[Estimate], sigma: float, corrected_by: Estimate | None = None
) -> Tensor:
    """From `start`, at the level of the newest estimate, to level `sigma`: predicted, or corrected.

    Args:
        before: one estimate for a first-order step, two for one of second order.
        corrected_by: the estimate at `sigma` itself, which makes this UniC; without it this is UniP.
    """
    newest = before[-1]
    if sigma == 0:
        return newest.clean
    h = math.log((1 - sigma) / sigma) - newest.lambda_
    decay = -math.expm1(-h)
    base = (sigma / newest.sigma) * start + (1 - sigma) * decay * newest.clean
    ratio = (before[0].lambda_ - newest.lambda_) / h if len(before) > 1 else None
    past, ahead = _weights(h, ratio, correcting=corrected_by is not None)
    if ratio is not None:
        base = base + (1 - sigma) * decay * past / ratio * (before[0].clean - newest.clean)
    if corrected_by is not None:
        base = base + (1 - sigma) * decay * ahead * (corrected_by.clean - newest.clean)
    return base


def _weights(h: float, ratio: float | None, *, correcting: bool) -> tuple[float, float]:
    """How much the difference to the past and the one to the estimate ahead count."""
    if ratio is None or not correcting:
        return 0.5, 0.5  # what the equations below tend to for small h
    # The two orders at which the correction must be exact: past + ahead = first, ratio past + ahead = second.
    decay = math.expm1(-h)
    phi = decay / -h - 1
    first = phi / decay
    second = 2 * (phi / -h - 0.5) / decay
    past = (first - second) / (1 - ratio)
    return past, first - past
