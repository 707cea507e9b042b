"""What the small depth network is trained on: relative depth, edges, metres and the field of view."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class DepthLossWeights:
    """How much each part of the loss counts.

    Attributes:
        relative: error of log depth after the best single scale of the image.
        gradient: error of log-depth differences between neighbours, at `scales` sizes.
        metric: error of that scale.
        focal: error of the log focal length.
        far_power: a pixel at depth z weighs z ** -far_power, so that what is near counts more.
        scales: how many times the gradient term halves the image, plus one.
    """

    relative: float = 1.0
    gradient: float = 0.5
    metric: float = 0.3
    focal: float = 0.3
    far_power: float = 0.5
    scales: int = 4


def depth_loss(
    log_depth: Float[Tensor, "b height width"],
    true_log_depth: Float[Tensor, "b height width"],
    valid: Bool[Tensor, "b height width"],
    log_focal: Float[Tensor, " b"],
    true_log_focal: Float[Tensor, " b"],
    *,
    weights: DepthLossWeights,
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
    """The loss and its parts.

    `log_depth` must already be for the true focal length: errors of the focal length have their own
    term. Relative depth and gradients follow Eigen et al. (arXiv 1406.2283) and MegaDepth (arXiv 1804.00607),
    with absolute in place of squared errors.
    """
    weight = torch.exp(-weights.far_power * true_log_depth) * valid
    weight = weight / weight.sum((1, 2), keepdim=True).clamp_min(1e-6)  # every image counts the same
    error = torch.where(valid, log_depth - true_log_depth, 0.0)
    scale_error = (error * weight).sum((1, 2))
    relative = _weighted_mean((error - scale_error[:, None, None]).abs(), weight)
    gradient = gradient_loss(error, valid, weight, weights.scales)
    metric = scale_error.abs().mean()
    focal = (log_focal - true_log_focal).abs().mean()
    total = (
        weights.relative * relative
        + weights.gradient * gradient
        + weights.metric * metric
        + weights.focal * focal
    )
    parts = {"relative": relative, "edges": gradient, "metric": metric, "focal": focal}
    return total, {name: value.detach() for name, value in parts.items()}


def gradient_loss(
    error: Float[Tensor, "b height width"],
    valid: Bool[Tensor, "b height width"],
    weight: Float[Tensor, "b height width"],
    scales: int,
) -> Float[Tensor, ""]:
    """Mean absolute difference of neighbouring errors, over `scales` halvings of the image.

    Zero exactly where the prediction is right up to one factor. A pair counts if both its pixels are valid.
    """
    total = error.new_zeros(())
    for scale in range(scales):
        step = 2**scale
        error_s, valid_s, weight_s = (x[:, ::step, ::step] for x in (error, valid, weight))
        for axis in (1, 2):
            if error_s.shape[axis] < 2:
                continue
            pairs = valid_s.narrow(axis, 1, valid_s.shape[axis] - 1) & valid_s.narrow(
                axis, 0, valid_s.shape[axis] - 1
            )
            pair_weight = torch.minimum(
                weight_s.narrow(axis, 1, weight_s.shape[axis] - 1),
                weight_s.narrow(axis, 0, weight_s.shape[axis] - 1),
            )
            total = total + _weighted_mean(error_s.diff(dim=axis).abs(), pair_weight * pairs)
    return total / scales


def clamped_log_depth(
    depth_m: Float[Tensor, "*shape"], near_m: float, far_m: float
) -> Float[Tensor, "*shape"]:
    """Log depth within [near, far]; unknown depth (NaN, infinite, not positive) is far: mostly sky."""
    known = torch.isfinite(depth_m) & (depth_m > 0)
    return torch.where(known, depth_m, far_m).clamp(near_m, far_m).log()


def _weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp_min(1e-6)
