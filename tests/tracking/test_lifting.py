"""Laws of bringing paths in the picture into space."""

import pytest
import torch

from more4d.geometry.camera import pixel_centres
from more4d.tracking.camera_motion import CameraMotion
from more4d.tracking.lifting import (
    align_depths,
    estimate_occluded,
    lift_tracks,
    sample_depth,
)
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

STILL = CameraMotion(
    world_to_camera=torch.eye(4).expand(FRAMES, 4, 4).clone(), inlier_share=torch.ones(FRAMES)
)


def true_positions() -> torch.Tensor:
    start = pixel_centres(HEIGHT, WIDTH)
    shift = torch.stack([true_shift_px() / WIDTH, torch.zeros(FRAMES, HEIGHT, WIDTH)], -1)
    return start + shift


def test_depth_between_two_surfaces_is_that_of_one_of_them() -> None:
    depth = clip()[1][0]
    grid = pixel_centres(5 * HEIGHT, 5 * WIDTH)
    values = sample_depth(depth, grid)
    assert ((values - WALL_M).abs().minimum((values - SQUARE_M).abs()) < 1e-5).all()


def test_the_expected_surface_decides_at_an_edge() -> None:
    depth = clip()[1][0]
    edge = torch.tensor([[COLUMNS.start / WIDTH, 24.5 / HEIGHT]])
    assert sample_depth(depth, edge, torch.tensor([SQUARE_M])).item() == pytest.approx(SQUARE_M)
    assert sample_depth(depth, edge, torch.tensor([WALL_M])).item() == pytest.approx(WALL_M)


def test_depth_of_a_slant_is_interpolated() -> None:
    depth = torch.linspace(2.0, 2.6, WIDTH).log().exp().expand(HEIGHT, WIDTH)
    position = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.05
    expected = 2.0 + 0.6 * (position[:, 0] * WIDTH - 0.5) / (WIDTH - 1)
    torch.testing.assert_close(sample_depth(depth, position), expected, atol=1e-4, rtol=0)


def test_alignment_undoes_jitter_of_scale_and_contrast() -> None:
    truth = torch.linspace(2.0, 6.0, HEIGHT)[:, None].expand(FRAMES, HEIGHT, WIDTH).clone()
    truth[:, ROWS, COLUMNS] = clip()[1][:, ROWS, COLUMNS].clamp(max=SQUARE_M)
    scale, contrast = torch.tensor([1.0, 1.3, 0.8, 1.1]), torch.tensor([1.0, 1.1, 0.9, 1.05])
    jittered = scale.view(-1, 1, 1) * truth ** contrast.view(-1, 1, 1)
    still = pixel_centres(HEIGHT, WIDTH).expand(FRAMES, HEIGHT, WIDTH, 2)
    seen = torch.ones(FRAMES, HEIGHT, WIDTH, dtype=torch.bool)
    aligned = align_depths(jittered, still, seen, CAMERA, STILL)
    torch.testing.assert_close(aligned, truth, rtol=2e-3, atol=0)
    assert torch.equal(aligned[0], jittered[0])


def test_things_that_come_nearer_do_not_pull_the_alignment() -> None:
    truth = torch.full((FRAMES, HEIGHT, WIDTH), WALL_M)
    truth[:, ROWS, COLUMNS] = torch.tensor([2.0, 1.8, 1.6, 1.4]).view(-1, 1, 1)
    still = pixel_centres(HEIGHT, WIDTH).expand(FRAMES, HEIGHT, WIDTH, 2)
    seen = torch.ones(FRAMES, HEIGHT, WIDTH, dtype=torch.bool)
    aligned = align_depths(truth * 1.2 ** torch.arange(FRAMES).view(-1, 1, 1), still, seen, CAMERA, STILL)
    assert (aligned / truth - 1).abs().max() < 0.02


def test_alignment_keeps_what_a_moving_camera_really_sees() -> None:
    poses = torch.eye(4).repeat(FRAMES, 1, 1)
    poses[:, 2, 3] = -0.3 * torch.arange(FRAMES)
    motion = CameraMotion(world_to_camera=poses, inlier_share=torch.ones(FRAMES))
    depth = WALL_M - 0.3 * torch.arange(FRAMES).view(-1, 1, 1).expand(FRAMES, HEIGHT, WIDTH)
    start = CAMERA.unproject_depth(depth[0])
    position = torch.stack([CAMERA.project(motion.to_camera(t, start))[0] for t in range(FRAMES)])
    seen = torch.ones(FRAMES, HEIGHT, WIDTH, dtype=torch.bool)
    torch.testing.assert_close(align_depths(depth, position, seen, CAMERA, motion), depth, rtol=1e-4, atol=0)


def test_true_positions_are_lifted_to_true_points() -> None:
    video, depth = clip()
    tracks = lift_tracks(video, depth, CAMERA, true_positions(), truly_seen())
    truth = CAMERA.unproject(true_positions(), depth[0].expand(FRAMES, -1, -1))
    torch.testing.assert_close(tracks.positions[truly_seen()], truth[truly_seen()], atol=1e-4, rtol=0)
    assert torch.equal(tracks.colours, video[0]) and torch.equal(tracks.visibility, truly_seen())


def test_what_the_square_hides_stays_behind_it() -> None:
    video, depth = clip()
    tracks = lift_tracks(video, depth, CAMERA, true_positions(), truly_seen())
    hidden = ~truly_seen()
    away = (tracks.positions - tracks.positions[0])[hidden].norm(dim=-1)
    assert hidden.any() and away.max() < 0.05


def test_an_unseen_point_moves_with_its_surface_and_ties_to_its_sightings() -> None:
    start = CAMERA.unproject_depth(torch.full((12, 16), 3.0))
    shift = torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8])
    positions = start + shift.view(-1, 1, 1, 1) * torch.tensor([1.0, 0.0, 0.0])
    offset = torch.tensor([0.0, 0.1, 0.0])
    positions[4, 5, 5] += offset
    seen = torch.ones(5, 12, 16, dtype=torch.bool)
    seen[1:4, 5, 5] = False
    given = positions.clone()
    given[1:4, 5, 5] = 99.0
    guessed = estimate_occluded(given, seen, torch.full((12, 16, 3), 0.5))
    assert torch.equal(guessed[seen], positions[seen])
    expected = positions[1:4, 5, 5] + torch.tensor([0.25, 0.5, 0.75])[:, None] * offset
    # The given positions of unseen points weigh a little: 99 m are heard of.
    assert (guessed[1:4, 5, 5] - expected).norm(dim=-1).max() < 0.6


def test_guesses_are_finite_even_where_a_whole_surface_is_hidden() -> None:
    video, depth = clip()
    seen = truly_seen()
    seen[1:, ROWS, COLUMNS] = False
    tracks = lift_tracks(video, depth, CAMERA, true_positions(), seen)
    assert torch.isfinite(tracks.positions).all()
    truth = CAMERA.unproject(true_positions(), depth[0].expand(FRAMES, -1, -1))
    own = (tracks.positions - truth)[:, ROWS, COLUMNS].norm(dim=-1)
    assert own.mean() < 0.1  # nobody else of its surface is seen: its own positions count
