from dataclasses import replace

import pytest
import torch

from more4d.geometry.tracks import FilledPoints


def some_points(count: int = 5, *, seed: int = 0) -> FilledPoints:
    draw = torch.Generator().manual_seed(seed)
    return FilledPoints(
        positions=torch.randn(count, 3, generator=draw),
        colours=torch.rand(count, 3, generator=draw),
        footprint_m=torch.rand(count, generator=draw),
        frame=torch.randint(0, 9, (count,), generator=draw),
        visible_in_all_frames=torch.rand(count, generator=draw) > 0.5,
    )


def test_joined_points_come_in_order():
    one, two = some_points(2), some_points(3, seed=1)
    both = FilledPoints.concat([one, two])
    assert len(both) == 5
    assert torch.equal(both.positions, torch.cat([one.positions, two.positions]))
    assert torch.equal(both.frame, torch.cat([one.frame, two.frame]))
    assert torch.equal(
        both.visible_in_all_frames, torch.cat([one.visible_in_all_frames, two.visible_in_all_frames])
    )
    assert len(FilledPoints.concat([])) == len(FilledPoints.empty()) == 0


def test_chosen_points_keep_what_belongs_to_them():
    points = some_points()
    chosen = points.select(points.visible_in_all_frames)
    assert bool(chosen.visible_in_all_frames.all()) and len(chosen) == int(points.visible_in_all_frames.sum())
    assert torch.equal(chosen.colours, points.colours[points.visible_in_all_frames])
    assert torch.equal(chosen.frame, points.frame[points.visible_in_all_frames])


@pytest.mark.parametrize(
    "change",
    [
        {"colours": torch.rand(4, 3)},
        {"frame": torch.zeros(4, dtype=torch.long)},
        {"positions": torch.full((5, 3), torch.nan)},
        {"footprint_m": torch.full((5,), torch.inf)},
        {"colours": torch.full((5, 3), 1.5)},
    ],
)
def test_impossible_points_are_refused(change):
    with pytest.raises((ValueError, TypeError), match=r"points|colours"):  # tests check shapes on the way
        replace(some_points(), **change)
