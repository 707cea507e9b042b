"""Laws of the boundary score."""

import math

import pytest
import torch
from jaxtyping import TypeCheckError

from more4d.metrics.depth import edge_f1


def step(column, height=6, width=10, near=1.0, far=2.0):
    depth = torch.full((height, width), far)
    depth[:, :column] = near
    return depth


def test_the_truth_at_any_scale_is_perfect():
    assert edge_f1(step(4), step(4)) == pytest.approx(1)
    assert edge_f1(7 * step(4), step(4)) == pytest.approx(1)


def test_an_edge_a_pixel_off_is_missed():
    assert edge_f1(step(5), step(4)) == 0


def test_the_wrong_side_in_front_is_wrong():
    assert edge_f1(step(4, near=2.0, far=1.0), step(4)) == 0


def test_one_edge_of_two_found_is_two_thirds():
    truth = step(3) + step(7)
    assert edge_f1(step(3), truth) == pytest.approx(2 / 3)


def test_a_faint_edge_counts_for_the_small_factors_only():
    faint = step(4, far=1.12)
    assert 0 < edge_f1(faint, step(4)) < 0.5


def test_unknown_pixels_hide_their_edges_and_no_edge_is_no_number():
    valid = torch.ones(6, 10, dtype=torch.bool)
    valid[:, 3] = False
    assert math.isnan(edge_f1(step(4), step(4), valid))
    assert math.isnan(edge_f1(step(4), torch.ones(6, 10)))


def test_maps_of_different_sizes_are_refused():
    with pytest.raises((ValueError, TypeCheckError)):  # the second, where shapes are checked at run time
        edge_f1(step(4), step(4, height=7))
