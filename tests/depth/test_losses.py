import math

import pytest
import torch

from more4d.depth.losses import DepthLossWeights, clamped_log_depth, depth_loss, gradient_loss

FOCAL = torch.tensor([0.1, -0.2])


def a_truth() -> torch.Tensor:
    return (torch.rand(2, 12, 16, generator=torch.Generator().manual_seed(0)) * 20 + 0.5).log()


def loss_of(
    log_depth: torch.Tensor,
    *,
    truth: torch.Tensor | None = None,
    valid: torch.Tensor | None = None,
    **kwargs: float,
) -> dict[str, float]:
    truth = a_truth() if truth is None else truth
    valid = torch.ones_like(truth, dtype=torch.bool) if valid is None else valid
    total, parts = depth_loss(log_depth, truth, valid, FOCAL, FOCAL, weights=DepthLossWeights(**kwargs))
    return {"total": float(total), **{name: float(value) for name, value in parts.items()}}


def test_a_perfect_prediction_costs_nothing() -> None:
    assert loss_of(a_truth())["total"] == 0


def test_a_factor_costs_only_the_metric_term() -> None:
    parts = loss_of(a_truth() + math.log(2))
    assert parts["relative"] == pytest.approx(0, abs=1e-5)
    assert parts["edges"] == pytest.approx(0, abs=1e-5)
    assert parts["metric"] == pytest.approx(math.log(2), rel=1e-5)


def test_contrast_costs_the_relative_and_the_gradient_terms() -> None:
    parts = loss_of(a_truth() * 0.5)
    assert parts["relative"] > 0.1 and parts["edges"] > 0.1


def test_invalid_pixels_do_not_count() -> None:
    wrong, valid = a_truth(), torch.ones(2, 12, 16, dtype=torch.bool)
    wrong[:, 3:6, 4:9] += 5
    valid[:, 3:6, 4:9] = False
    assert loss_of(wrong, valid=valid)["total"] == 0
    wrong[:, 3, 4] = torch.nan
    assert loss_of(wrong, valid=valid)["total"] == 0


def test_near_errors_cost_more_than_far_ones() -> None:
    truth = torch.full((2, 12, 16), math.log(2.0))
    truth[:, :6] = math.log(50.0)
    far, near = truth.clone(), truth.clone()
    far[:, :6, :8] += 0.5
    near[:, 6:, :8] += 0.5
    assert loss_of(near, truth=truth)["relative"] > 2 * loss_of(far, truth=truth)["relative"]
    even = {"far_power": 0.0}
    assert loss_of(near, truth=truth, **even)["relative"] == pytest.approx(
        loss_of(far, truth=truth, **even)["relative"]
    )


def test_the_focal_term_is_the_error_of_the_log_focal_length() -> None:
    truth = a_truth()
    valid = torch.ones_like(truth, dtype=torch.bool)
    total, parts = depth_loss(truth, truth, valid, FOCAL + 0.25, FOCAL, weights=DepthLossWeights())
    assert float(parts["focal"]) == pytest.approx(0.25)
    assert float(total) == pytest.approx(0.25 * DepthLossWeights().focal)


def test_the_gradient_loss_sees_a_step_at_every_scale() -> None:
    error, ones = torch.zeros(1, 16, 16), torch.ones(1, 16, 16)
    error[:, :, 8:] = 1.0
    values = [float(gradient_loss(error, ones.bool(), ones, scales)) for scales in (1, 2, 3)]
    assert 0 < values[0] < values[1] < values[2]  # coarser pairs cross the step more often


def test_a_single_pixel_has_no_gradient() -> None:
    one = torch.ones(1, 1, 1)
    assert float(gradient_loss(one, one.bool(), one, 4)) == 0


def test_unknown_depth_counts_as_far_and_the_rest_is_clamped() -> None:
    depth = torch.tensor([torch.nan, torch.inf, -1.0, 0.0, 0.1, 5.0, 1e4])
    expected = torch.tensor([100.0, 100.0, 100.0, 100.0, 0.3, 5.0, 100.0])
    torch.testing.assert_close(clamped_log_depth(depth, 0.3, 100.0).exp(), expected)
