"""Laws of the colours that holes get: those of the surface behind, and of nothing that is not there."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from more4d.geometry.background import fill_background

NEAR, FAR = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])


def wall_behind_a_thing(columns: slice, distance: float = 8.0):
    """A red thing at 2 m in front of a blue wall, and a hole to the right of the thing."""
    colour, depth = FAR.expand(1, 32, 48, 3).clone(), torch.full((1, 32, 48), distance)
    colour[:, 8:24, 8:20], depth[:, 8:24, 8:20] = NEAR, 2.0
    known = torch.ones(1, 32, 48, dtype=torch.bool)
    known[:, 8:24, columns] = False
    return colour, depth, known


def test_a_hole_beside_a_thing_shows_the_wall_behind_it():
    colour, depth, known = wall_behind_a_thing(slice(20, 30))
    filled = fill_background(torch.where(known[..., None], colour, 9.0), depth, known)
    assert torch.equal(filled[known], colour[known])
    error = (filled - FAR)[~known].abs()
    assert float(error.mean()) < 0.05 and float(error.max()) < 0.2


def test_what_stands_as_far_as_the_thing_takes_after_both():
    """Without depths to tell them apart, the thing's colour runs into the hole."""
    colour, _, known = wall_behind_a_thing(slice(20, 30))
    flat = fill_background(colour, torch.ones(1, 32, 48), known)
    assert float((flat - FAR)[~known].abs().mean()) > 0.1


@given(st.integers(0, 2**16), st.floats(0.1, 0.9))
def test_an_even_picture_stays_even_and_others_within_their_range(seed, share):
    generator = torch.Generator().manual_seed(seed)
    known = torch.rand(2, 9, 13, generator=generator) < share
    depth = 1 + 30 * torch.rand(2, 9, 13, generator=generator)
    even = fill_background(torch.full((2, 9, 13, 3), 0.25), depth, known)
    for frame in range(2):
        expected = 0.25 if bool(known[frame].any()) else 0.5
        torch.testing.assert_close(
            even[frame][~known[frame]], torch.full_like(even[frame][~known[frame]], expected)
        )
    colour = torch.rand(2, 9, 13, 3, generator=generator)
    filled = fill_background(colour, depth, known)
    assert torch.equal(filled[known], colour[known])
    assert float(filled.min()) >= 0 and float(filled.max()) <= 1


def test_in_a_single_row_at_one_depth_it_is_the_mean():
    colour = torch.rand(1, 1, 4, 3, generator=torch.Generator().manual_seed(0))
    known = torch.tensor([[[True, True, False, True]]])
    filled = fill_background(colour, torch.ones(1, 1, 4), known)
    mean = colour[0, 0, [0, 1, 3]].mean(0)  # a row is as small as pictures get: pixels, then all of them
    torch.testing.assert_close(filled[0, 0, 2], mean)


def test_a_sky_at_any_distance_is_a_colour_like_others():
    for distance in (500.0, 1e6, torch.inf):
        colour, depth, known = wall_behind_a_thing(slice(20, 30), distance)
        filled = fill_background(colour, depth, known)
        assert float((filled - FAR)[~known].abs().max()) < 0.2, distance


@pytest.mark.parametrize("fill", [0.0, torch.nan])
def test_what_stands_in_holes_before_does_not_matter(fill):
    colour, depth, known = wall_behind_a_thing(slice(20, 30))
    dirty = fill_background(
        torch.where(known[..., None], colour, fill), torch.where(known, depth, fill), known
    )
    torch.testing.assert_close(dirty, fill_background(colour, depth, known))
