"""Streets and still lifes, which only depth training sees."""

import math

import pytest
import torch

from more4d.scenes.render import render_clip
from more4d.scenes.still_lifes import sample_still_life
from more4d.scenes.streets import sample_street

SEEDS = range(10)
KINDS = [sample_street, sample_still_life]


def photo(sample, seed, *, height=24, width=32):
    return render_clip(sample(seed), height=height, width=width, frames=1, visibility="none")


@pytest.mark.parametrize("sample", KINDS)
def test_a_seed_is_a_scene(sample):
    first, again, other = photo(sample, 3), photo(sample, 3), photo(sample, 4)
    assert torch.equal(first.tracks.colours, again.tracks.colours)
    assert not torch.equal(first.tracks.colours, other.tracks.colours)


def test_streets_go_far_and_still_lifes_are_near():
    streets = [photo(sample_street, seed).depth.depth_m for seed in SEEDS]
    near = [photo(sample_still_life, seed).depth.depth_m for seed in SEEDS]
    assert sum(float(depth.quantile(0.9)) > 20 for depth in streets) >= 7
    assert all(float(depth.median()) < 5 for depth in near)


@pytest.mark.parametrize("sample", KINDS)
def test_nothing_stands_in_the_camera(sample):
    assert all(float(photo(sample, seed).depth.depth_m.min()) > 0.03 for seed in SEEDS)


def test_most_still_lifes_show_things():
    shares = [float((photo(sample_still_life, seed).object_ids > 0).float().mean()) for seed in SEEDS]
    assert sum(share > 0.02 for share in shares) >= 7


@pytest.mark.parametrize("sample", KINDS)
@pytest.mark.parametrize("aspect", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_aspect_is_refused(sample, aspect):
    with pytest.raises(ValueError, match="aspect"):
        sample(1, aspect=aspect)
