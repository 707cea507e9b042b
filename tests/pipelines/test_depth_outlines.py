import numpy as np
import pytest
import torch

from more4d.geometry.label_maps import border, connected, nearest_label, nearest_place
from more4d.pipelines.depth_outlines import hold_to_depth
from more4d.pipelines.moving_objects import move_as_wholes
from more4d.pipelines.tracks import Guide, joint_bilateral_source

HEIGHT, WIDTH, CELL = 96, 128, 4


def depth_with(*things: tuple[slice, slice]) -> torch.Tensor:
    """Things 3 m away in front of a wall 6 m away."""
    depth_m = torch.full((HEIGHT, WIDTH), 6.0)
    for thing in things:
        depth_m[thing] = 3.0
    return depth_m


def picks_of(depth_m: torch.Tensor) -> torch.Tensor:
    """Colours say nothing."""
    large = Guide(colours=torch.full((HEIGHT, WIDTH, 3), 0.5), depth_m=depth_m)
    small = Guide(
        colours=large.colours[::CELL, ::CELL], depth_m=depth_m[CELL // 2 :: CELL, CELL // 2 :: CELL]
    )
    return joint_bilateral_source(small, large)


def seeds_in(*places: tuple[slice, slice]) -> torch.Tensor:
    large = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    for place in places:
        large[place] = True
    return large[CELL // 2 :: CELL, CELL // 2 :: CELL]


THING = (slice(20, 76), slice(24, 64))
OTHER = (slice(20, 76), slice(64, 120))


def test_what_lies_behind_an_object_is_not_of_it():
    depth_m = depth_with(THING)
    found = torch.zeros(HEIGHT, WIDTH, dtype=torch.long)
    found[THING] = 1
    found[8:20, 24:64] = 1  # of the wall, which has the same colour
    held = hold_to_depth(found, seeds_in(THING), picks_of(depth_m), depth_m)
    assert torch.equal(held > 0, depth_m == 3)


def test_an_object_of_which_a_part_moves_is_kept_whole():
    depth_m = depth_with(THING)
    found = (depth_m == 3).long()
    held = hold_to_depth(found, seeds_in((slice(20, 76), slice(24, 48))), picks_of(depth_m), depth_m)
    assert torch.equal(held, found)


def test_motion_that_has_an_outline_does_not_spread_over_what_stands_beside_it():
    depth_m = depth_with(THING)
    depth_m[OTHER] = 3.2  # in reach of the seeds, behind a step
    found = (depth_m < 6).long()
    narrow = (slice(20, 76), slice(24, 40))
    depth_m[:, 40:64] = 6.0
    depth_m[20:76, 36:64] = 3.2
    depth_m[narrow] = 3.0
    held = hold_to_depth(found, seeds_in(narrow), picks_of(depth_m), depth_m)
    assert float((held > 0)[narrow].float().mean()) > 0.9
    assert not bool((held > 0)[OTHER].any())


def test_a_speck_beside_a_large_object_does_not_make_another_one_move():
    other = (slice(20, 76), slice(80, 120))
    depth_m = depth_with(THING, other)
    found = (depth_m == 3).long()
    found[other] *= 2
    speck = (slice(40, 44), slice(96, 100))
    held = hold_to_depth(found, seeds_in(THING, speck), picks_of(depth_m), depth_m)
    assert torch.equal(held > 0, (seeds_in(THING, speck)).flatten()[picks_of(depth_m)])
    alone = hold_to_depth(found, seeds_in(speck), picks_of(depth_m), depth_m)
    assert bool((alone[other] > 0).all())  # where nothing else moves it is all that there is


def test_without_motion_or_objects_nothing_changes():
    depth_m, nothing = depth_with(THING), torch.zeros(HEIGHT, WIDTH, dtype=torch.long)
    found = (depth_m == 3).long()
    assert torch.equal(hold_to_depth(nothing, seeds_in(THING), picks_of(depth_m), depth_m), nothing)
    assert torch.equal(hold_to_depth(found, seeds_in(), picks_of(depth_m), depth_m), found)


def test_known_depth_draws_the_outline_that_colours_do_not_show():
    depth_m = depth_with(THING)
    image = torch.full((HEIGHT, WIDTH, 3), 0.5)
    motion = torch.zeros(5, HEIGHT // CELL, WIDTH // CELL, 3)
    motion[:, seeds_in(THING), 0] = torch.linspace(0, 0.2, 5)[:, None]
    whole, source, *_ = move_as_wholes(motion, image, depth_m, picks=picks_of(depth_m))
    assert torch.equal(whole[-1].flatten(0, 1)[source][..., 0] > 0.1, depth_m == 3)


def test_the_nearest_place_is_the_nearest():
    mask = np.random.default_rng(0).random((17, 23)) < 0.05
    rows, columns = np.nonzero(mask)
    y, x = np.indices(mask.shape)
    away = np.hypot(y[..., None] - rows, x[..., None] - columns)
    found = nearest_place(mask)
    assert mask.flatten()[found].all()
    assert np.allclose(np.hypot(y - found // 23, x - found % 23), away.min(-1))
    with pytest.raises(ValueError, match="empty mask"):
        nearest_place(np.zeros((3, 3), bool))


def test_numbers_pieces_and_borders():
    labels = np.array([[0, 0, 3, 0], [0, 0, 0, 0], [5, 0, 0, 0]])
    assert nearest_label(labels)[0, 1:].tolist() == [3, 3, 3] and nearest_label(labels)[2, 1] == 5
    assert not nearest_label(np.zeros((2, 2), int)).any()
    two = np.array([[1, 1, 0, 1], [1, 1, 0, 1], [0, 0, 0, 1]], bool)
    assert connected(two, np.eye(3, 4, dtype=bool)).tolist() == (two & (np.arange(4) < 2)).tolist()
    full = np.ones((5, 5), bool)
    full[0] = False
    assert border(full)[1].all() and not border(full)[3, 2]
