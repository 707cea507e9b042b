"""Rooms seen from inside."""

import math

import pytest
import torch

from more4d.scenes.interiors import sample_interior
from more4d.scenes.render import render_clip

SEEDS = range(12)


def photo(seed, *, height=24, width=32):
    return render_clip(sample_interior(seed), height=height, width=width, frames=1, visibility="none")


def test_a_seed_is_a_room():
    first, again, other = photo(3), photo(3), photo(4)
    assert torch.equal(first.tracks.colours, again.tracks.colours)
    assert not torch.equal(first.tracks.colours, other.tracks.colours)


def test_walls_are_never_far():
    depths = [photo(seed).depth.depth_m for seed in SEEDS]
    assert all(float(depth.min()) > 0.01 for depth in depths)
    assert all(float(depth.median()) < 10 for depth in depths)


def test_most_pictures_show_something_that_stands_in_the_room():
    shares = [float((photo(seed).object_ids > 0).float().mean()) for seed in SEEDS]
    assert sum(share > 0.02 for share in shares) >= 0.75 * len(shares)


def test_the_picture_has_the_shape_that_was_asked_for():
    camera = sample_interior(5, aspect=0.75).camera
    assert camera.fx * 0.75 == pytest.approx(camera.fy)


@pytest.mark.parametrize("aspect", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_shape_is_refused(aspect):
    with pytest.raises(ValueError, match="aspect"):
        sample_interior(0, aspect=aspect)
