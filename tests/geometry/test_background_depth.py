import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from more4d.geometry.background import blur_surfaces, extend_depth, occluders_at_steps

HEIGHT, WIDTH = 24, 40


def plane(right: float, down: float, at_corner: float = 0.2) -> torch.Tensor:
    """Depth of a flat surface: its inverse is linear over the picture."""
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return 1 / (at_corner + right * columns + down * rows)


def everything_but(rows: slice, columns: slice) -> torch.Tensor:
    known = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    known[rows, columns] = False
    return known


@pytest.mark.parametrize(
    "known",
    [
        everything_but(slice(8, 16), slice(10, 22)),
        everything_but(slice(None), slice(30, None)),
        everything_but(slice(None), slice(0, 9)),
        everything_but(slice(18, None), slice(None)),
        everything_but(slice(0, 3), slice(None)),
    ],
)
@pytest.mark.parametrize(("right", "down"), [(0.0, 0.004), (0.002, 0.0), (0.0005, 0.003)])
def test_a_flat_surface_goes_on_as_it_was(known, right, down):
    depth = plane(right, down)
    extended = extend_depth(torch.where(known, depth, torch.inf), known)
    assert torch.allclose(extended, depth, rtol=1e-3)


def test_behind_a_thing_that_moved_away_lies_what_is_farther():
    depth = torch.full((HEIGHT, WIDTH), 8.0)
    depth[:, :12] = 2.0  # the thing; the hole is right of it
    known = everything_but(slice(None), slice(12, 20))
    extended = extend_depth(torch.where(known, depth, torch.nan), known)
    assert torch.allclose(extended[:, 12:20], torch.tensor(8.0))


def test_a_corner_that_no_row_and_no_column_reaches_has_a_depth():
    known = everything_but(slice(10, None), slice(None)) & everything_but(slice(None), slice(20, None))
    depth = extend_depth(torch.full((HEIGHT, WIDTH), 3.0), known)
    assert torch.allclose(depth, torch.tensor(3.0))


@given(seed=st.integers(0, 1000), share=st.floats(0.01, 0.99))
def test_every_depth_is_of_the_scene_and_known_ones_stay(seed, share):
    draw = torch.Generator().manual_seed(seed)
    depth = 0.5 + 50 * torch.rand(HEIGHT, WIDTH, generator=draw)
    known = torch.rand(HEIGHT, WIDTH, generator=draw) < share
    known[seed % HEIGHT, seed % WIDTH] = True
    extended = extend_depth(torch.where(known, depth, torch.inf), known)
    assert torch.equal(extended[known], depth[known])
    assert torch.isfinite(extended).all()
    assert float(extended.min()) >= 0.5 / 4 and float(extended.max()) <= 4 * 50.5


def test_one_ragged_row_does_not_leave_a_streak():
    """Outlines of estimated depth are ragged: in one row the thing in front reaches to the hole's border."""
    known = everything_but(slice(None), slice(24, None))
    depth = torch.full((HEIGHT, WIDTH), 8.0)
    depth[11, 20:24] = 2.0
    extended = extend_depth(torch.where(known, depth, torch.inf), known)
    assert torch.allclose(extended[:, 24:], torch.tensor(8.0))


def test_up_and_down_and_left_and_right_are_alike():
    draw = torch.Generator().manual_seed(3)
    depth = 1 + torch.rand(HEIGHT, WIDTH, generator=draw)
    known = torch.rand(HEIGHT, WIDTH, generator=draw) < 0.5
    extended = extend_depth(depth, known)
    for axis in (0, 1):
        assert torch.allclose(extend_depth(depth.flip(axis), known.flip(axis)).flip(axis), extended)


def test_nothing_known_is_refused():
    with pytest.raises(ValueError, match="no depth is known"):
        extend_depth(torch.ones(4, 4), torch.zeros(4, 4, dtype=torch.bool))


def test_static_things_hide_as_much_as_the_parallax_uncovers():
    inverse = torch.full((20, 40), 0.25)
    inverse[:, 15:] = 0.5
    assert not bool(occluders_at_steps(inverse, reach=0.0).any())
    columns = occluders_at_steps(inverse, reach=20.0)[10].nonzero()[:, 0]
    # 20 * (1/2 - 1/4) = 5 cells and one more; the step is known to two cells
    assert columns.min() == 15 and 20 <= columns.max() <= 22


def test_a_blur_within_surfaces_does_not_cross_a_step_of_depth():
    depth_m = torch.full((20, 40), 4.0)
    depth_m[:, 20:] = 8.0
    colour = torch.zeros(20, 40, 3)
    colour[:, 20:] = 1.0
    blurred = blur_surfaces(colour, depth_m, 3.0)
    assert float((blurred - colour).abs().max()) < 0.02
    flat = blur_surfaces(colour, torch.full((20, 40), 4.0), 3.0)
    assert 0.4 < float(flat[10, 19:21].mean()) < 0.6
