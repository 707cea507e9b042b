"""The user's own depth beside the estimate: held against it, aligned to it, and filled from it.

Own depth keeps its values bit for bit where it has them, in metres. The estimate serves three ends:

* sense: depth that falls where the estimate rises shows a scene inside out; depth several times as large has
  mostly another unit. Both are reported.
* inverse and relative depth is known up to scale and shift, s v + t = 1/z or z. The two numbers are those
  that agree with the estimate at most pixels: least median of squares (Rousseeuw 1984) over random pairs of
  pixels, then means with Tukey's weights, so that up to half of the pixels may disagree.
* gaps: between the returns of a sensor the estimate is right up to a smooth factor. The log of this factor is
  known where depth is; pull-push (Gortler et al. 1996) spreads it into the gaps, so that no step appears at
  their borders.
"""

import logging
import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from more4d.files.depth_units import INVERSE, METRIC, RELATIVE, UNIT_HINT
from more4d.foundation.errors import InputError
from more4d.geometry.camera import DepthMap, robust_quantile

AGAINST = -0.3
"""Rank correlation below which two depth maps contradict each other."""
AGREES = 0.2
"""Rank correlation below which scale and shift mean little."""
CLEAR, BETTER = 0.5, 0.2
"""Turned depth is reported if it agrees so clearly turned back, and so much better."""
OTHER_UNIT = 3.0
"""Estimates of one photo are wrong by a factor of up to about 2; the nearest wrong units by 3.9 and 5."""
MOST_SAMPLES = 20_000
PAIRS, PAIR_SAMPLES = 1000, 1500
TUKEY, MAD_TO_SIGMA = 4.685, 1.4826
"""Efficiency of 95 % on normal errors; median of absolute deviations to standard deviation."""
ROUNDS = 20
FARTHER = 2.0
"""How far beyond the far end of the estimate aligned depth may lie: 1/z near zero has no end."""
LARGEST_FACTOR = math.log(1.5)
"""Log of local factors that are always believed; larger ones only where many pixels have them."""

_log = logging.getLogger(__name__)


def complete_depth(
    own: Float[Tensor, "height width"], estimate: DepthMap, *, kind: str = METRIC, name: str = "the depth"
) -> DepthMap:
    """Own depth in metres, without gaps, with the camera of the estimate.

    Args:
        own: metres, or inverse or relative depth; NaN where unknown, infinite where only sky is.
        estimate: of the same picture, at the same size.
        kind: of `files.depth_units.DEPTH_KINDS`.
        name: of the own depth, for messages.

    Raises:
        InputError: nothing is known of this picture, or inverse or relative depth cannot be aligned.
    """
    if not bool(own.isfinite().any()):
        raise InputError(f"{name} knows the depth of no pixel of the film; give depth of more of the picture")
    if kind == METRIC:
        report_sense(own, estimate, name)
        metres = own
    else:
        metres = align_depth(own, estimate, kind=kind, name=name)
    gaps = metres.isnan()
    if bool(gaps.any()):
        share = 100 * float(gaps.float().mean())
        _log.warning("%s: %.3g %% of the depth is unknown and is filled from the estimate", name, share)
        metres = fill_gaps(metres, estimate)
    # What is still NaN or infinite lies beyond everything that is known: `from_raw` puts it at the far end.
    known = metres.isfinite()
    return DepthMap.from_raw(torch.where(known, metres, torch.zeros_like(metres)), estimate.camera)


def align_depth(
    own: Float[Tensor, "height width"], estimate: DepthMap, *, kind: str, name: str = "the depth"
) -> Float[Tensor, "height width"]:
    """Inverse or relative depth in metres, by the scale and shift that agree with the estimate; NaN stays.

    Raises:
        InputError: it runs against the estimate, or has too few values to be aligned.
    """
    both = own.isfinite() & estimate.valid
    values, depth_m = own[both].double(), estimate.depth_m[both].double()
    target = 1 / depth_m if kind == INVERSE else depth_m
    agreement = rank_correlation(values, target)
    if agreement < AGAINST:
        other = f"{RELATIVE} or {METRIC}" if kind == INVERSE else INVERSE
        raise InputError(
            f"{name} cannot be {kind} depth: it runs against the estimate (correlation {agreement:.2f}); "
            f"give --depth-kind {other}"
        )
    if agreement < AGREES:
        _log.warning(
            "%s hardly agrees with the estimate (rank correlation %.2f); its scale may be wrong",
            name,
            agreement,
        )
    # z is compared in relative terms, as errors of depth grow with it; 1/z does so by itself.
    fitted = fit_scale_and_shift(values, target, 1 / depth_m if kind == RELATIVE else torch.ones_like(values))
    if fitted is None:
        raise InputError(
            f"{name} cannot be aligned to the estimate: no scale above 0 fits; give depth of this photo"
        )
    scale, shift = fitted
    aligned = own.double() * scale + shift
    far, near = (float(robust_quantile(depth_m, q)) for q in (0.99, 0.01))
    if kind == INVERSE:
        metres = 1 / aligned.clamp_min(1 / (FARTHER * far))
    else:
        # Never behind the camera: relative depth may be cut off below the nearest that the estimate knows.
        metres = aligned.clamp_min(near / FARTHER)
    return metres.to(own.dtype)


def fit_scale_and_shift(
    values: Float[Tensor, " n"], target: Float[Tensor, " n"], weight: Float[Tensor, " n"]
) -> tuple[float, float] | None:
    """The scale above 0 and the shift by which most values become the target; None if there are none.

    Args:
        weight: of every residual before it is squared.
    """
    step = max(1, len(values) // MOST_SAMPLES)
    values, target, weight = values[::step], target[::step], weight[::step]
    if len(values) < 2:
        return None
    # 1. A start that half of the pixels may contradict: lines through random pairs of pixels.
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randint(len(values), (2, PAIRS), generator=generator)
    scales = (target[other] - target[one]) / (values[other] - values[one])
    shifts = target[one] - scales * values[one]
    usable = scales.isfinite() & (scales > 0)
    if not bool(usable.any()):
        return None
    scales, shifts = scales[usable], shifts[usable]
    some = torch.randint(len(values), (min(PAIR_SAMPLES, len(values)),), generator=generator)
    # of every line at every sample: pairs x samples
    residuals = scales[:, None] * values[some] + shifts[:, None] - target[some]
    best = int((residuals.abs() * weight[some]).median(1).values.argmin())
    scale, shift = scales[best], shifts[best]
    # 2. Weighted least squares; Tukey's weights are zero for what is 4.7 standard deviations off.
    least = 1e-6 * float((target * weight).abs().median())
    for _ in range(ROUNDS):
        error = (scale * values + shift - target) * weight
        sigma = max(MAD_TO_SIGMA * float(error.abs().median()), least)
        trust = (1 - (error / (TUKEY * sigma)).clamp(-1, 1) ** 2) ** 2 * weight**2
        mean_v, mean_t = ((trust * each).sum() / trust.sum() for each in (values, target))
        variance = (trust * (values - mean_v) ** 2).sum()
        new_scale = (trust * (values - mean_v) * (target - mean_t)).sum() / variance
        if not bool(variance > 0) or not bool(new_scale > 0):
            break
        scale, shift = new_scale, mean_t - new_scale * mean_v
    return float(scale), float(shift)


def fill_gaps(own: Float[Tensor, "height width"], estimate: DepthMap) -> Float[Tensor, "height width"]:
    """Own depth in metres with its NaN pixels from the estimate, scaled by what is known around them.

    Pixels where the estimate knows nothing either stay NaN.
    """
    known = own.isfinite()
    log_estimate = estimate.depth_m.double().log()
    factor = own.double().log() - log_estimate
    usable = known & estimate.valid
    if not bool(usable.any()):
        return own
    centre = factor[usable].median()
    deviation = factor[usable] - centre
    # A single return through a window would bend all that is around it.
    limit = max(LARGEST_FACTOR, TUKEY * MAD_TO_SIGMA * float(deviation.abs().median()))
    field = spread(torch.where(usable, (factor - centre).clamp(-limit, limit), 0.0), usable)
    filled = (log_estimate + centre + field).exp().to(own.dtype)
    return torch.where(own.isnan() & estimate.valid, filled, own)


def spread(
    values: Float[Tensor, "height width"], known: Bool[Tensor, "height width"]
) -> Float[Tensor, "height width"]:
    """Values everywhere, smooth, equal to the given ones where they are known (at least at one pixel).

    Pull: every coarser picture is the mean of what is known in blocks of four. Push: back from coarse to
    fine, what is not known takes the interpolated coarser value.
    """
    if bool(known.all()) or min(values.shape) == 1:
        return torch.where(known, values, values[known].mean())
    height, width = values.shape
    weight = known.to(values.dtype)
    # [2, h, w] -> [2, ceil(h / 2), ceil(w / 2)]; the border of odd sizes counts what is inside
    padded = torch.nn.functional.pad(torch.stack([values * weight, weight]), (0, width % 2, 0, height % 2))
    total, count = torch.nn.functional.avg_pool2d(padded, 2)
    coarse = spread(torch.where(count > 0, total / count.clamp_min(1e-9), 0.0), count > 0)
    fine = torch.nn.functional.interpolate(
        coarse[None, None], scale_factor=2, mode="bilinear", align_corners=False
    )
    return torch.where(known, values, fine[0, 0, :height, :width])


def _agreement(own: Tensor, estimate: DepthMap) -> float:
    both = own.isfinite() & estimate.valid
    return rank_correlation(own[both].double(), estimate.depth_m[both].double()) if bool(both.any()) else 0.0


def rank_correlation(one: Float[Tensor, " n"], other: Float[Tensor, " n"]) -> float:
    """Spearman's coefficient: 1 if both have one order, -1 if the opposite; 0 if one is flat."""
    step = max(1, len(one) // MOST_SAMPLES)
    ranks = torch.stack([_ranks(one[::step]), _ranks(other[::step])])
    ranks = ranks - ranks.mean(1, keepdim=True)
    spread_of = ranks.norm(dim=1)
    if not bool((spread_of > 0).all()):
        return 0.0
    return float((ranks[0] * ranks[1]).sum() / spread_of.prod())


def _ranks(values: Tensor) -> Tensor:
    values = values.contiguous()
    ordered = values.sort().values
    # equal values share the mean of their ranks
    low, high = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    return (low + high).double() / 2


def report_sense(own: Float[Tensor, "height width"], estimate: DepthMap, name: str) -> None:
    """Warn of metric depth that contradicts the estimate: turned, near and far exchanged, or another unit."""
    both = own.isfinite() & estimate.valid
    if not bool(both.any()) or bool((own[both] == own[both][0]).all()):
        return
    values, depth_m = own[both].double(), estimate.depth_m[both].double()
    agreement = rank_correlation(values, depth_m)
    turned = {"upside down": own.flip(0), "mirrored": own.flip(1), "turned by 180 degrees": own.flip(0, 1)}
    if own.shape[0] == own.shape[1]:
        turned["transposed"] = own.T
    fits = {how: _agreement(other, estimate) for how, other in turned.items()}
    how = max(fits, key=lambda each: fits[each])
    # Depth upside down looks much like inverse depth: what fits best is reported.
    if fits[how] > max(CLEAR, agreement + BETTER, -agreement):
        _log.warning(
            "%s agrees with the estimate only if it is %s (rank correlation %.2f, as it is %.2f); give depth "
            "of the upright picture, its first row at the top",
            *(name, how, fits[how], agreement),
        )
        return
    if agreement < AGAINST:
        _log.warning(
            "%s runs against the estimate (rank correlation %.2f): near and far may be exchanged; if it is "
            "inverse depth (disparity), say so: --depth-kind inverse",
            name,
            agreement,
        )
        return
    if agreement < AGREES:
        _log.warning(
            "%s hardly agrees with the estimate (rank correlation %.2f); is it depth of this photo?",
            *(name, agreement),
        )
    ratio = float((values / depth_m).median())
    if not 1 / OTHER_UNIT < ratio < OTHER_UNIT:
        _log.warning(
            "%s is %.3g times as deep as the estimate; if it has another unit, give it (--depth-unit %s)",
            name,
            ratio,
            UNIT_HINT,
        )
