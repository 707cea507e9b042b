"""Laws of the measures of motion."""

import pytest
import torch

from more4d.geometry.camera import Camera
from more4d.geometry.motion import denormalise_motion
from more4d.metrics.tracks import (
    DIRECTION_AXES,
    follows_direction,
    image_error_px,
    moving_pixels,
    position_errors,
)

CAMERA = Camera(fx=1.0, fy=4 / 3)


def tracks(shift):
    """Everything at 2 m moves by `shift` in normalised motion over three frames; the left half stays."""
    start = CAMERA.unproject_depth(torch.full((6, 8), 2.0))
    motion = torch.linspace(0, 1, 3).view(3, 1, 1, 1) * torch.tensor(shift).expand(3, 6, 8, 3)
    motion = motion * (torch.arange(8) >= 4).float().view(1, 1, 8, 1)
    return denormalise_motion(motion, start, CAMERA)


def test_a_shift_of_a_tenth_of_the_width_is_that_many_pixels():
    error = image_error_px(tracks([0.1, 0.0, 0.0]), tracks([0.0, 0.0, 0.0]), CAMERA)
    assert torch.allclose(error[-1, :, 4:], torch.tensor(0.8), atol=1e-4)
    assert error[-1, :, :4].max() < 1e-4


def test_only_what_moves_counts_as_moving():
    moving = moving_pixels(tracks([0.0, 0.2, 0.0]), CAMERA)
    assert moving[:, 4:].all()
    assert not moving[:, :4].any()


@pytest.mark.parametrize("direction", DIRECTION_AXES)
def test_each_direction_is_told_from_its_opposite(direction):
    axis, sign = DIRECTION_AXES[direction]
    shift = [0.0, 0.0, 0.0]
    shift[axis] = 0.2 * sign
    mask = torch.arange(8).expand(6, 8) >= 4
    followed = {name for name in DIRECTION_AXES if follows_direction(tracks(shift), mask, name, CAMERA)}
    assert followed == {direction}


def test_an_unknown_direction_and_an_empty_mask_are_refused():
    still = tracks([0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="sideways"):
        follows_direction(still, torch.ones(6, 8, dtype=torch.bool), "sideways", CAMERA)
    with pytest.raises(ValueError, match="empty"):
        follows_direction(still, torch.zeros(6, 8, dtype=torch.bool), "left", CAMERA)


def test_position_errors_are_pixels_millimetres_and_shares_of_the_depth() -> None:
    camera = Camera(fx=1.0, fy=1.0)
    truth = camera.unproject_depth(torch.full((8, 16), 2.0)).expand(3, 8, 16, 3)
    stored = truth.clone()
    stored[1, 4, 5] += torch.tensor([0.5, 0.0, 0.0])
    errors = position_errors(stored, truth, camera)
    assert errors.largest_px == pytest.approx(0.5 / 2 * 16)
    assert errors.mean_px == pytest.approx(4 / (3 * 8 * 16))
    assert errors.mean_mm == pytest.approx(500 / (3 * 8 * 16))
    assert errors.largest_of_depth == pytest.approx(0.25)


def test_position_errors_pass_over_pixels_of_points_at_the_camera() -> None:
    camera = Camera(fx=1.0, fy=1.0)
    truth = camera.unproject_depth(torch.full((4, 4), 2.0)).repeat(2, 1, 1, 1)
    truth[1, 0, 0, 2] = 1e-6
    stored = truth + 1e-4
    assert position_errors(stored, truth, camera).largest_px < 0.01
