"""Laws of the motion magnitude, and what it says of a real pair of orbits."""

import pytest
import torch
from jaxtyping import TypeCheckError

from more4d.files.image import load_image
from more4d.metrics.motion import motion_magnitude


def test_a_video_that_equals_its_static_orbit_has_none():
    video = torch.rand(3, 4, 5, 3, generator=torch.Generator().manual_seed(0))
    assert motion_magnitude(video, video) == 0


def test_it_is_the_mean_squared_difference():
    static = torch.zeros(4, 2, 2, 3)
    moving = static.clone()
    moving[1:3] = 0.5
    assert motion_magnitude(moving, static) == pytest.approx(0.25 / 2)


def test_videos_along_other_paths_are_refused():
    with pytest.raises((ValueError, TypeCheckError)):
        motion_magnitude(torch.zeros(3, 2, 2, 3), torch.zeros(2, 2, 2, 3))


def test_a_dynamic_orbit_moves_more_than_a_static_one(shared):
    folder = shared / "data" / "d4d-orbit-2a7f"
    dynamic, static, front = (
        torch.stack([load_image(folder / f"{name}_frame{index}.png") for index in range(0, 24, 3)])
        for name in ("multi", "multi_static", "front")
    )
    still = motion_magnitude(static[:1].expand_as(static), static[:1].expand_as(static))
    floor = motion_magnitude(dynamic[:1], static[:1])  # the thing has not moved yet; the light differs
    assert still == 0
    assert motion_magnitude(dynamic, static) > 3 * floor
    assert motion_magnitude(dynamic, static) > motion_magnitude(front[:1], static[:1])
