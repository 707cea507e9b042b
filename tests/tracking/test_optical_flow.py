"""Laws of the built-in tracker; benchmarks/tracking.py measures it on many clips."""

import pytest
import torch

from more4d.geometry.tracks import PointTracks
from more4d.metrics.tracks import moving_pixels, track_errors
from more4d.scenes.render import render_clip, render_video
from more4d.scenes.scene_sampling import sample_scene
from more4d.tracking.optical_flow import OpticalFlowTracker
from tests.tracking.moving_square import (
    CAMERA,
    COLUMNS,
    FRAMES,
    HEIGHT,
    ROWS,
    SQUARE_M,
    WALL_M,
    WIDTH,
    clip,
    true_shift_px,
    truly_seen,
)

SCENE = 10_000_010


@pytest.fixture(scope="module")
def tracked() -> PointTracks:
    video, depth = clip()
    return OpticalFlowTracker().track(video, depth, CAMERA)


def shift_px(tracks: PointTracks) -> torch.Tensor:
    position, _ = tracks.camera.project(tracks.positions)
    return (position - position[0]) * torch.tensor([WIDTH, HEIGHT])


def test_frame_0_is_the_depth_map_itself(tracked: PointTracks) -> None:
    video, depth = clip()
    assert torch.equal(tracked.positions[0], CAMERA.unproject_depth(depth[0]))
    assert torch.equal(tracked.colours, video[0]) and tracked.visibility[0].all()


def test_the_square_is_followed_to_a_fraction_of_a_pixel_but_for_its_rim(tracked: PointTracks) -> None:
    error = (shift_px(tracked) - torch.stack([true_shift_px(), torch.zeros_like(true_shift_px())], -1)).norm(
        dim=-1
    )[:, ROWS, COLUMNS]
    assert error.median() < 0.2
    assert (error[:, 6:-6, 6:-6] < 0.5).float().mean() > 0.95
    middle = tracked.positions[:, ROWS, COLUMNS][:, 6:-6, 6:-6]
    torch.testing.assert_close(middle[..., 2], torch.full_like(middle[..., 2], SQUARE_M), atol=0.02, rtol=0)


def test_the_wall_stands_still_exactly(tracked: PointTracks) -> None:
    far = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    far[10:62, :70] = False
    assert torch.equal(tracked.positions[:, far], tracked.positions[:1, far].expand(FRAMES, -1, -1))


def test_what_the_square_covers_is_not_seen_and_stays_on_the_wall(tracked: PointTracks) -> None:
    hidden, seen = ~truly_seen(), truly_seen()
    assert (~tracked.visibility[hidden]).float().mean() > 0.9
    assert tracked.visibility[seen].float().mean() > 0.93
    assert (tracked.positions[hidden][..., 2] - WALL_M).abs().mean() < 0.1


def test_depth_that_jitters_moves_nothing_that_stands_still() -> None:
    video, depth = clip()
    jitter = torch.tensor([1.0, 1.15, 0.9, 1.05]).view(-1, 1, 1)
    steady = OpticalFlowTracker().track(video, depth * jitter, CAMERA)
    square = steady.positions[:, ROWS, COLUMNS][:, 4:-4, 4:-4, 2]
    assert (square - SQUARE_M).abs().max() < 0.05


def test_a_point_that_leaves_the_picture_is_not_seen() -> None:
    video, depth = clip(frames=6, step_px=10)
    tracks = OpticalFlowTracker().track(video, depth, CAMERA)
    position, _ = CAMERA.project(tracks.positions)
    outside = ((position < 0) | (position >= 1)).any(-1)
    assert not (tracks.visibility & outside).any()
    assert torch.isfinite(tracks.positions).all()


def test_the_same_clip_gives_the_same_tracks(tracked: PointTracks) -> None:
    video, depth = clip()
    again = OpticalFlowTracker().track(video, depth, CAMERA)
    assert torch.equal(again.positions, tracked.positions)
    assert torch.equal(again.visibility, tracked.visibility)


def test_a_picture_too_small_for_flow_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 x 16"):
        OpticalFlowTracker().track(torch.full((2, 8, 40, 3), 0.5), torch.ones(2, 8, 40), CAMERA)


def test_a_single_frame_stays_where_it_is() -> None:
    video, depth = clip()
    tracks = OpticalFlowTracker().track(video[:1], depth[:1], CAMERA)
    assert tracks.frames == 1 and torch.equal(tracks.positions[0], CAMERA.unproject_depth(depth[0]))


def test_a_procedural_clip_is_tracked_within_measured_bounds() -> None:
    scene = sample_scene(SCENE)
    truth = render_clip(scene, height=96, width=128, frames=9).tracks
    movie = render_video(scene, height=96, width=128, frames=9)
    tracks = OpticalFlowTracker().track(movie.frames, movie.depth_m, scene.camera)
    errors = track_errors(tracks, truth, moving=moving_pixels(truth.positions, truth.camera))
    assert errors["error_px"] < 0.1 and errors["moving_median_px"] < 0.7
    assert errors["motion"] < 0.004
    assert errors["visible_precision"] > 0.98 and errors["visible_recall"] > 0.95
