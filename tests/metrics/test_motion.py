"""Laws of the measures of generated motion, against values that can be written down."""

import math

import pytest
import torch

from more4d.geometry.camera import Camera
from more4d.geometry.tracks import denormalise_motion
from more4d.metrics.motion import (
    diversity,
    edge_jumps,
    jerk_px,
    motion_errors,
    moved_mask,
    object_motion_px,
    prompted_objects_move,
)

CAMERA = Camera(fx=1.0, fy=4 / 3)
HEIGHT, WIDTH, FRAMES = 24, 32, 5
RIGHT_HALF = torch.arange(WIDTH).expand(HEIGHT, WIDTH) >= WIDTH // 2


def tracks(shift_px, where=RIGHT_HALF, power=1.0):
    """The pixels of `where` go `shift_px` (three axes, units of 1 / width); progress is time to a power."""
    start = CAMERA.unproject_depth(torch.full((HEIGHT, WIDTH), 2.0))
    done = torch.linspace(0, 1, FRAMES) ** power
    motion = done.view(-1, 1, 1, 1) * torch.tensor(shift_px) / WIDTH * where[..., None]
    return denormalise_motion(motion, start, CAMERA)


def test_a_pixel_moves_if_it_is_ever_a_pixel_away_in_the_picture_or_in_depth():
    assert torch.equal(moved_mask(tracks([1.1, 0.0, 0.0]), CAMERA), RIGHT_HALF)
    assert torch.equal(moved_mask(tracks([0.0, 0.0, -1.1]), CAMERA), RIGHT_HALF)
    assert not moved_mask(tracks([0.9, 0.0, 0.0]), CAMERA).any()
    there_and_back = tracks([4.0, 0.0, 0.0])
    there_and_back[-1] = there_and_back[0]
    assert torch.equal(moved_mask(there_and_back, CAMERA), RIGHT_HALF)


def test_errors_of_no_motion_are_the_motion_itself():
    truth = tracks([8.0, 0.0, 0.0])
    errors = motion_errors(tracks([0.0, 0.0, 0.0]), truth, CAMERA)
    assert errors["moving_px"] == pytest.approx(8 * 0.625, rel=1e-4)  # the mean of 1/4, 1/2, 3/4 and 1
    assert errors["moving_px"] == errors["no_motion_px"]
    assert errors["moving_median_px"] == errors["no_motion_median_px"]
    assert errors["moving_m"] == errors["no_motion_m"] == pytest.approx(8 / WIDTH * 2 * 0.625, rel=1e-4)
    assert errors["drift_px"] == 0 and errors["iou"] == 0 and errors["leak"] == 0 and errors["taken_px"] == 0


def test_half_the_way_is_half_the_error():
    truth = tracks([8.0, 0.0, 0.0])
    errors = motion_errors(tracks([4.0, 0.0, 0.0]), truth, CAMERA)
    assert errors["moving_px"] / errors["no_motion_px"] == pytest.approx(0.5, rel=1e-4)
    assert errors["taken_px"] / errors["no_motion_px"] == pytest.approx(0.5, rel=1e-4) and errors["iou"] == 1
    assert errors["moving_median_px"] / errors["no_motion_median_px"] == pytest.approx(0.5, rel=1e-4)


def test_what_leaks_lowers_the_overlap_and_is_drift():
    truth, wide = tracks([8.0, 0.0, 0.0]), torch.arange(WIDTH).expand(HEIGHT, WIDTH) >= WIDTH // 4
    errors = motion_errors(tracks([8.0, 0.0, 0.0], wide), truth, CAMERA)
    assert errors["iou"] == pytest.approx(2 / 3) and errors["leak"] == pytest.approx(1 / 2)
    assert errors["drift_px"] == pytest.approx(8 * 0.625 / 2, rel=1e-4) and errors["moving_px"] == 0


def test_without_moving_pixels_their_error_is_not_a_number():
    errors = motion_errors(tracks([0.0, 0.0, 0.0]), tracks([0.0, 0.0, 0.0]), CAMERA)
    assert math.isnan(errors["moving_px"]) and math.isnan(errors["iou"]) and errors["drift_px"] == 0


def test_tracks_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="at least 2 frames"):
        motion_errors(tracks([0.0, 0.0, 0.0])[:1], tracks([0.0, 0.0, 0.0])[:1], CAMERA)


def objects():
    """1: the right third, 2: the left third, 3: a single pixel."""
    ids = torch.zeros(HEIGHT, WIDTH, dtype=torch.int64)
    ids[:, 21:] = 1
    ids[:, :10] = 2
    ids[0, 15] = 3
    return ids


def test_objects_are_measured_by_their_mean_and_small_ones_left_out():
    ways = object_motion_px(tracks([4.0, 0.0, 0.0], objects() == 1), objects(), CAMERA)
    assert ways == {1: pytest.approx(4.0, rel=1e-4), 2: 0.0}


@pytest.mark.parametrize(
    ("asked_px", "other_px", "right", "still"),
    [(8.0, 0.0, True, True), (8.0, 2.0, True, False), (8.0, 5.0, False, False), (0.5, 0.0, False, True)],
)
def test_the_object_that_was_asked_moves_and_no_other(asked_px, other_px, right, still):
    truth = {1: 8.0, 2: 0.0}
    assert prompted_objects_move({1: asked_px, 2: other_px}, truth, [1, 3]) == (right, still)


def test_a_small_true_motion_is_enough_if_half_of_it_is_made():
    assert prompted_objects_move({1: 0.4, 2: 0.0}, {1: 0.7, 2: 0.0}, [1]) == (True, True)
    assert prompted_objects_move({1: 0.3, 2: 0.0}, {1: 0.7, 2: 0.0}, [1]) == (False, True)


def test_the_question_does_not_arise_where_all_or_none_are_asked():
    assert prompted_objects_move({1: 3.0, 2: 3.0}, {1: 3.0, 2: 3.0}, [1, 2]) is None
    assert prompted_objects_move({1: 0.0, 2: 0.0}, {1: 0.0, 2: 0.0}, []) is None


def test_diversity_is_the_distance_of_predictions_over_the_true_way():
    truth = tracks([8.0, 0.0, 0.0])
    assert diversity([truth, truth, truth], truth, CAMERA) == 0
    assert diversity([truth, tracks([4.0, 0.0, 0.0])], truth, CAMERA) == pytest.approx(0.5, rel=1e-4)
    with pytest.raises(ValueError, match="at least 2"):
        diversity([truth], truth, CAMERA)


def test_the_jerk_of_a_cubic_is_six_times_its_cube_and_that_of_a_parabola_nothing():
    step = 1 / (FRAMES - 1)
    cubic, parabola = (tracks([8.0, 0.0, 0.0], power=power) for power in (3, 2))
    assert jerk_px(cubic, CAMERA, RIGHT_HALF) == pytest.approx(8 * 6 * step**3, rel=1e-3)
    assert jerk_px(parabola, CAMERA, RIGHT_HALF) == pytest.approx(0, abs=1e-4)
    with pytest.raises(ValueError, match="at least 4"):
        jerk_px(tracks([8.0, 0.0, 0.0])[:3], CAMERA, RIGHT_HALF)


def test_steps_at_the_borders_of_cells_are_told_from_a_slope():
    nobody = torch.zeros(HEIGHT, WIDTH, dtype=torch.int64)
    start = CAMERA.unproject_depth(torch.full((HEIGHT, WIDTH), 2.0))
    columns = torch.arange(WIDTH).float()
    for profile, border, inside in ((columns, 1.0, 1.0), ((columns // 8) * 8, 8.0, 0.0)):
        motion = torch.zeros(2, HEIGHT, WIDTH, 3)
        motion[1, ..., 0] = profile / WIDTH
        border_px, inside_px = edge_jumps(denormalise_motion(motion, start, CAMERA), nobody, CAMERA)
        across = 3 * HEIGHT / (3 * HEIGHT + 2 * WIDTH)  # rows do not differ: their share of the borders is 0
        within = 28 * HEIGHT / (28 * HEIGHT + 21 * WIDTH)
        assert border_px == pytest.approx(border * across, rel=1e-3)
        assert inside_px == pytest.approx(inside * within, rel=1e-3, abs=1e-4)


def test_outlines_of_objects_are_no_edges_of_cells():
    ids = (torch.arange(WIDTH).expand(HEIGHT, WIDTH) >= 16).long()
    assert edge_jumps(tracks([8.0, 0.0, 0.0], ids > 0), ids, CAMERA) == (0, 0)
