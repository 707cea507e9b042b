"""Laws of the Frechet distance."""

import math

import pytest
import torch

from more4d.metrics.image_quality import frechet_distance


def samples(count, dim, seed=0):
    """Samples whose mean is exactly zero and whose covariance is exactly the identity."""
    drawn = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    drawn = drawn - drawn.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(drawn.T))
    return drawn @ vectors / values.sqrt()


def test_a_set_is_at_no_distance_from_itself():
    drawn = samples(40, 5)
    assert frechet_distance(drawn, drawn) == pytest.approx(0, abs=1e-9)


def test_a_shift_counts_by_its_square():
    drawn = samples(40, 5)
    assert frechet_distance(drawn, drawn + torch.tensor([3.0, 4, 0, 0, 0])) == pytest.approx(25)


def test_scales_of_normal_distributions_have_the_closed_form():
    first, second = samples(40, 3), samples(50, 3, seed=1)
    spread = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    expected = sum((s - 1) ** 2 for s in spread.tolist())
    assert frechet_distance(first, second * spread) == pytest.approx(expected)


def test_it_is_mutual_and_holds_with_fewer_samples_than_dimensions():
    first, second = torch.randn(6, 20), torch.randn(6, 20) + 1
    distance = frechet_distance(first, second)
    assert math.isfinite(distance) and distance > 0
    assert distance == pytest.approx(frechet_distance(second, first))


def test_a_single_sample_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        frechet_distance(torch.zeros(1, 3), torch.zeros(4, 3))
