"""Errors of a depth map: plain, after the customary alignments, of its field of view, and at depth edges.

One image determines depth only up to a factor (relative estimators: up to more), so a "delta1" means little
without its alignment: each alignment is a function of its own and is named in every result.

`edge_f1` is the boundary measure of Depth Pro (Bochkovskii et al., arXiv 2410.02073), right up to a scale of
the depth: two neighbouring pixels have an edge between them if one is more than a factor farther than the
other. Precision and recall of these edges, each with its side, make an F1 score per factor; larger factors
weigh more in the mean.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from more4d.geometry.camera import DepthMap

Values = Float[Tensor, " n"]


def depth_errors(estimate: DepthMap, truth: DepthMap, *, far_m: float = math.inf) -> dict[str, float]:
    """Errors of a depth map over the pixels whose true depth is known and at most `far_m`.

    Returns:
        `si_log`, `abs_rel` and `delta1` (`delta` for a factor 1.25) as these functions define them,
        `scaled_...` after `align_scale`, `affine_log_...` after `align_affine_log`; `fov_error_deg`: absolute
        error of the horizontal field of view.

    Raises:
        ValueError: the sizes differ, or no pixel counts.
    """
    if estimate.depth_m.shape != truth.depth_m.shape:
        raise ValueError(
            f"sizes differ: {tuple(estimate.depth_m.shape)} and {tuple(truth.depth_m.shape)}; resize first"
        )
    counted = truth.valid & (truth.depth_m <= far_m)
    if not bool(counted.any()):
        raise ValueError(f"no pixel of the truth is known and within {far_m} m")
    depth, true = estimate.depth_m[counted].double(), truth.depth_m[counted].double()
    scaled = align_scale(depth, true)
    return {
        "si_log": float(si_log(depth, true)),
        "abs_rel": float(abs_rel(depth, true)),
        "delta1": float(delta(depth, true)),
        "scaled_abs_rel": float(abs_rel(scaled, true)),
        "scaled_delta1": float(delta(scaled, true)),
        "affine_log_delta1": float(delta(align_affine_log(depth, true), true)),
        "fov_error_deg": abs(estimate.camera.fov_x_deg - truth.camera.fov_x_deg),
    }


def mean_errors(errors: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each error over several images."""
    return {name: sum(error[name] for error in errors) / len(errors) for name in errors[0]}


def si_log(depth: Values, truth: Values) -> Float[Tensor, ""]:
    """Deviation of log(depth / truth): zero if right up to a factor (Eigen et al., arXiv 1406.2283)."""
    return (depth / truth).log().std(correction=0)


def abs_rel(depth: Values, truth: Values) -> Float[Tensor, ""]:
    """Mean of |depth - truth| / truth."""
    return ((depth - truth).abs() / truth).mean()


def delta(depth: Values, truth: Values, threshold: float = 1.25) -> Float[Tensor, ""]:
    """Share of pixels whose depth is within a factor `threshold` of the truth."""
    return (torch.maximum(depth / truth, truth / depth) < threshold).to(depth.dtype).mean()


def align_scale(depth: Values, truth: Values) -> Values:
    """`depth` times the one factor that makes the median of depth / truth one."""
    return depth / (depth / truth).median()


def align_affine_log(depth: Values, truth: Values) -> Values:
    """exp(a log depth + b) with the a and b of least squared error in the log: forgives contrast too.

    A constant depth has no contrast to stretch: a is then 0.
    """
    log_depth, log_truth = depth.log(), truth.log()
    centred = log_depth - log_depth.mean()
    variance = centred.square().mean()
    slope = (centred * log_truth).mean() / variance if float(variance) > 1e-12 else 0.0
    return (slope * centred + log_truth.mean()).exp()


FACTORS = tuple(1.05 + 0.2 * index / 9 for index in range(10))


def edge_f1(
    depth: Float[Tensor, "height width"],
    truth: Float[Tensor, "height width"],
    valid: Bool[Tensor, "height width"] | None = None,
) -> float:
    """Weighted mean of the F1 scores over `FACTORS`; NaN where the truth has no edge at all.

    Args:
        depth: positive, any unit.
        truth: positive.
        valid: where the truth is known; edges beside an unknown pixel do not count.

    Raises:
        ValueError: the sizes differ.
    """
    if depth.shape != truth.shape:
        raise ValueError(f"sizes differ: {tuple(depth.shape)} and {tuple(truth.shape)}; resize first")
    known = torch.ones_like(truth, dtype=torch.bool) if valid is None else valid
    estimate, true = _steps(depth, known), _steps(truth, known)
    scores, weights = [], []
    for factor in FACTORS:
        predicted, true_edges = estimate > factor, true > factor
        if bool(true_edges.any()):
            hits = (predicted & true_edges).sum()
            precision = hits / predicted.sum().clamp(min=1)
            recall = hits / true_edges.sum()
            scores.append(float(2 * precision * recall / (precision + recall).clamp(min=1e-9)))
            weights.append(factor)
    if not scores:
        return float("nan")
    return sum(s * w for s, w in zip(scores, weights, strict=True)) / sum(weights)


def _steps(depth: Tensor, known: Tensor) -> Tensor:
    """How much farther each of four neighbours is, as a factor; 0 where one of the two is unknown."""
    steps = []
    for axis in (0, 1):
        length = depth.shape[axis]
        first, second = depth.narrow(axis, 0, length - 1), depth.narrow(axis, 1, length - 1)
        both = known.narrow(axis, 0, length - 1) & known.narrow(axis, 1, length - 1)
        steps += [torch.where(both, ratio, 0).flatten() for ratio in (second / first, first / second)]
    return torch.cat(steps)
