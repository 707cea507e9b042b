import math

import pytest
import torch
from torch import Tensor

from more4d.geometry.camera import Camera, DepthMap
from more4d.metrics.depth import align_affine_log, align_scale, delta, depth_errors, mean_errors, si_log

CAMERA = Camera.from_fov(60.0, width=8, height=6)


def a_truth() -> Tensor:
    return torch.rand(6, 8, generator=torch.Generator().manual_seed(0)) * 20 + 0.5


def a_map(depth_m: Tensor, camera: Camera = CAMERA) -> DepthMap:
    return DepthMap.from_raw(depth_m, camera)


def test_a_perfect_map_has_no_error() -> None:
    errors = depth_errors(a_map(a_truth()), a_map(a_truth()))
    shares = {"delta1", "scaled_delta1", "affine_log_delta1"}
    for name, value in errors.items():
        assert value == pytest.approx(1 if name in shares else 0, abs=1e-6), name


def test_a_factor_costs_plain_errors_only() -> None:
    errors = depth_errors(a_map(a_truth() * 3), a_map(a_truth()))
    assert (errors["delta1"], errors["abs_rel"]) == pytest.approx((0, 2))
    assert (errors["si_log"], errors["scaled_abs_rel"]) == pytest.approx((0, 0), abs=1e-6)
    assert errors["scaled_delta1"] == errors["affine_log_delta1"] == 1


def test_a_power_is_forgiven_by_the_affine_alignment_only() -> None:
    errors = depth_errors(a_map(a_truth() ** 3), a_map(a_truth()))
    assert errors["affine_log_delta1"] == 1
    assert errors["scaled_delta1"] < 0.5 and errors["si_log"] > 0.5


def test_si_log_is_the_deviation_of_the_log_ratio() -> None:
    truth = torch.tensor([1.0, 1.0])
    assert float(si_log(torch.tensor([math.e, 1 / math.e]), truth)) == pytest.approx(1)


def test_delta_counts_pixels_within_the_factor_on_both_sides() -> None:
    assert float(delta(torch.tensor([1.2, 1.3, 0.9, 0.7]), torch.ones(4))) == 0.5


def test_alignments_recover_the_truth_they_can() -> None:
    truth = a_truth().flatten().double()
    torch.testing.assert_close(align_scale(truth * 0.2, truth), truth)
    torch.testing.assert_close(align_affine_log(2 * truth**0.5, truth), truth)


def test_a_constant_map_aligns_to_the_geometric_mean() -> None:
    aligned = align_affine_log(torch.full((2,), 5.0), torch.tensor([1.0, 4.0]))
    torch.testing.assert_close(aligned, torch.full((2,), 2.0))


def test_unknown_and_far_pixels_do_not_count() -> None:
    truth, estimate = a_truth(), a_truth()
    truth[0], estimate[0] = torch.nan, 1e3
    truth[1], estimate[1] = 500.0, 1.0
    assert depth_errors(a_map(estimate), a_map(truth), far_m=100.0)["abs_rel"] == 0
    with pytest.raises(ValueError, match="no pixel"):
        depth_errors(a_map(estimate), a_map(truth), far_m=0.01)


def test_maps_of_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="sizes differ"):
        depth_errors(a_map(a_truth()[:3]), a_map(a_truth()))


def test_the_field_of_view_error_is_in_degrees_and_means_are_means() -> None:
    other = a_map(a_truth(), Camera.from_fov(70.0, width=8, height=6))
    errors = depth_errors(other, a_map(a_truth()))
    assert errors["fov_error_deg"] == pytest.approx(10)
    perfect = depth_errors(a_map(a_truth()), a_map(a_truth()))
    assert mean_errors([errors, perfect])["fov_error_deg"] == pytest.approx(5)
