"""Laws of the measures of motion."""

import math

import pytest
import torch

from more4d.geometry.camera import Camera
from more4d.geometry.tracks import PointTracks, denormalise_motion
from more4d.metrics.tracks import (
    DIRECTION_AXES,
    follows_direction,
    image_error_px,
    moving_pixels,
    position_errors,
    track_errors,
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
    assert errors["largest_px"] == pytest.approx(0.5 / 2 * 16)
    assert errors["mean_px"] == pytest.approx(4 / (3 * 8 * 16))
    assert errors["mean_mm"] == pytest.approx(500 / (3 * 8 * 16))
    assert errors["largest_of_depth"] == pytest.approx(0.25)


def test_position_errors_pass_over_pixels_of_points_at_the_camera() -> None:
    camera = Camera(fx=1.0, fy=1.0)
    truth = camera.unproject_depth(torch.full((4, 4), 2.0)).repeat(2, 1, 1, 1)
    truth[1, 0, 0, 2] = 1e-6
    stored = truth + 1e-4
    assert position_errors(stored, truth, camera)["largest_px"] < 0.01


def point_tracks(positions, visibility=None):
    seen = torch.ones(positions.shape[:3], dtype=torch.bool) if visibility is None else visibility
    return PointTracks(
        positions=positions, colours=torch.full((6, 8, 3), 0.5), visibility=seen, camera=CAMERA
    )


def test_the_truth_is_without_error():
    truth = point_tracks(tracks([0.1, 0.0, 0.2]))
    errors = track_errors(truth, truth)
    shares = {"within_1px", "moving_within_1px", "visible_precision", "visible_recall", "visible_accuracy"}
    assert all(value == (name in shares) for name, value in errors.items())


def test_standing_still_is_wrong_by_the_motion_where_things_move():
    truth = point_tracks(tracks([0.5, 0.0, 0.0]))
    still = point_tracks(tracks([0.0, 0.0, 0.0]))
    errors = track_errors(still, truth)
    assert errors["moving_px"] == pytest.approx(8 * 0.5 * 0.75)  # half way in the first frame, all of it then
    assert errors["still_px"] == pytest.approx(0.0, abs=1e-5)
    assert errors["error_px"] == pytest.approx(errors["moving_px"] / 2, rel=1e-4)
    assert errors["moving_relative"] == pytest.approx(0.5 * 0.75)
    assert errors["error_m"] == pytest.approx(0.375)
    assert errors["moving_motion"] == pytest.approx(0.5 * 0.75)
    assert errors["within_1px"] == pytest.approx(0.5) and errors["moving_within_1px"] == 0


def test_the_scale_of_the_depth_does_not_count_in_motion():
    truth = point_tracks(tracks([0.1, 0.0, 0.2]))
    errors = track_errors(point_tracks(truth.positions * 1.5), truth)
    assert errors["motion"] == pytest.approx(0.0, abs=1e-6)
    assert errors["error_px"] == pytest.approx(0, abs=1e-4)
    assert errors["relative"] > 0.4


def test_points_that_are_not_seen_and_frame_0_do_not_count():
    truth = tracks([0.1, 0.0, 0.0])
    seen = torch.ones(3, 6, 8, dtype=torch.bool)
    seen[2, :, 4:] = False
    wrong = truth.clone()
    wrong[2, :, 4:] += 1.0
    wrong[0] += 0.3
    errors = track_errors(point_tracks(wrong), point_tracks(truth, seen))
    assert errors["error_px"] == pytest.approx(0.0, abs=1e-4)
    assert errors["error_m"] == pytest.approx(0.0, abs=1e-6)


def test_visibility_is_counted_over_the_frames_after_the_first():
    truth = tracks([0.0, 0.0, 0.0])
    seen, called = (torch.ones(3, 6, 8, dtype=torch.bool) for _ in range(2))
    seen[1, :, :4] = False  # 24 of 96 are hidden
    called[2, :, :2] = False  # 12 are missed, and the hidden ones taken for seen
    errors = track_errors(point_tracks(truth, called), point_tracks(truth, seen))
    assert errors["visible_precision"] == pytest.approx(60 / 84)
    assert errors["visible_recall"] == pytest.approx(60 / 72)
    assert errors["visible_accuracy"] == pytest.approx(60 / 96)


def test_without_moving_points_their_error_is_not_a_number():
    truth = point_tracks(tracks([0.0, 0.0, 0.0]))
    errors = track_errors(truth, truth)
    assert math.isnan(errors["moving_px"]) and errors["still_px"] == 0


def test_tracks_of_different_shapes_are_refused():
    truth = tracks([0.1, 0.0, 0.0])
    for other in (truth[:2], truth[:1]):
        with pytest.raises(ValueError, match="at least 2 frames"):
            track_errors(point_tracks(other), point_tracks(truth[:1]))
