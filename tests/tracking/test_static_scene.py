"""What stands still is found with the camera and its own depth; what moves keeps its motion."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from more4d.geometry.poses import rigid
from more4d.tracking.camera_motion import CameraMotion
from more4d.tracking.lifting import EdgeAwareFilter, fit_line_robust, smooth_over_time
from more4d.tracking.optical_flow import OpticalFlowTracker
from more4d.tracking.static_scene import find_static_scene, project_static, triangulate
from more4d.tracking.steady_tracks import steady_tracks
from tests.tracking.moving_square import (
    CAMERA,
    COLUMNS,
    HEIGHT,
    ROWS,
    STEP_PX,
    WALL_M,
    WIDTH,
    clip,
    texture,
    true_shift_px,
)

ROOT = Path(__file__).resolve().parent.parent.parent
FRAMES = 6


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("false_motion", ROOT / "benchmarks" / "false_motion.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def wobbling(depth: torch.Tensor) -> torch.Tensor:
    """Depth with errors of every kind: of scale, contrast, and smooth ones that differ in place and time."""
    frames, height, width = depth.shape
    generator = torch.Generator().manual_seed(4)
    coarse = torch.randn(frames, 1, 3, 3, generator=generator)
    local = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[:, 0]
    scale = 1 + 0.1 * torch.randn(frames, 1, 1, generator=generator)
    return scale * depth**1.05 * (0.03 * local).exp()


def test_wobbling_depth_moves_no_wall_and_the_square_goes_where_it_goes() -> None:
    video, depth = clip(FRAMES)
    depth = wobbling(depth)
    steady = steady_tracks(video, depth, OpticalFlowTracker().track(video, depth, CAMERA))
    position = steady.tracks.camera.project(steady.tracks.positions)[0] * torch.tensor([WIDTH, HEIGHT])
    went = (position - position[0])[-1]
    on_square = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    on_square[ROWS, COLUMNS] = True
    moved = (steady.tracks.positions - steady.tracks.positions[0]).norm(dim=-1).amax(0) > 0
    assert moved[~on_square].float().mean() < 0.02
    assert moved[on_square].float().mean() > 0.95
    inner = went[ROWS, COLUMNS][4:-4, 4:-4]
    assert (inner[..., 0] - true_shift_px(FRAMES)[-1].amax()).abs().median() < 0.5
    # little of what the estimate wobbles by is left in its depth
    z = steady.tracks.positions[:, ROWS, COLUMNS][:, 4:-4, 4:-4, 2]
    row, column = (ROWS.start + ROWS.stop) // 2, (COLUMNS.start + COLUMNS.stop) // 2
    raw = torch.stack([depth[t, row, column + t * STEP_PX] for t in range(FRAMES)])
    left, given = ((each / each[0] - 1).square().mean().sqrt() for each in (z, raw))
    assert left < 0.75 * given


def test_a_static_point_is_one_point_in_every_frame() -> None:
    video, depth = clip(FRAMES)
    depth = wobbling(depth)
    steady = steady_tracks(video, depth, OpticalFlowTracker().track(video, depth, CAMERA))
    still = steady.tracks.positions[:, steady.scene.static]
    assert torch.equal(still, still[:1].expand_as(still))


def moving_camera() -> CameraMotion:
    time = torch.linspace(0, 1, FRAMES)[:, None]
    poses = rigid(torch.eye(3).expand(FRAMES, 3, 3), time * torch.tensor([-0.4, 0.1, 0.0]))
    return CameraMotion(world_to_camera=poses, inlier_share=torch.ones(FRAMES))


def test_paths_tell_the_depth_that_the_estimate_has_wrong() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = 3 + torch.rand(HEIGHT, WIDTH, generator=generator)
    motion = moving_camera()
    position, _ = project_static(CAMERA.unproject_depth(truth), CAMERA, motion)
    prior = truth * torch.linspace(0.8, 1.25, WIDTH)
    flat = EdgeAwareFilter(torch.full((HEIGHT, WIDTH, 3), 0.5).numpy(), prior.numpy())
    seen = torch.ones(FRAMES, HEIGHT, WIDTH, dtype=torch.bool)
    points = triangulate(position, seen, CAMERA, motion, prior_m=prior, on_surface=flat)
    error = (points[..., 2] / truth - 1).abs()
    assert error.median() < 0.01 < (prior / truth - 1).abs().median()


def test_depth_nobody_can_tell_stays_as_estimated() -> None:
    prior = torch.full((HEIGHT, WIDTH), WALL_M)
    still = CameraMotion(world_to_camera=torch.eye(4).repeat(FRAMES, 1, 1), inlier_share=torch.ones(FRAMES))
    position, _ = project_static(CAMERA.unproject_depth(prior), CAMERA, still)
    flat = EdgeAwareFilter(texture(1, HEIGHT, WIDTH).numpy(), prior.numpy())
    seen = torch.ones(FRAMES, HEIGHT, WIDTH, dtype=torch.bool)
    points = triangulate(position, seen, CAMERA, still, prior_m=prior, on_surface=flat)
    torch.testing.assert_close(points[..., 2], prior, rtol=1e-4, atol=0)


def test_smoothing_takes_noise_and_leaves_motion() -> None:
    generator = torch.Generator().manual_seed(1)
    time = torch.linspace(0, 1, 25)[:, None]
    clean = torch.cat([0 * time, time, torch.sin(5 * time)], 1).repeat_interleave(50, 1)
    noisy = clean + 0.05 * torch.randn(clean.shape, generator=generator)
    smooth = smooth_over_time(noisy, 0.05)
    before, after = ((each - clean).square().mean(0).sqrt().view(3, 50).mean(1) for each in (noisy, smooth))
    assert (after < 0.7 * before).all()
    assert torch.equal(smooth_over_time(noisy, 0.0), noisy)
    flat = smooth_over_time(noisy[:, :50] * 0.5, 0.05)
    assert (flat.diff(dim=0).abs().amax(0) < 1e-6).float().mean() > 0.9  # a constant is the smoothest


def test_a_line_is_fitted_through_most_of_the_points() -> None:
    x = torch.linspace(0, 2, 200, dtype=torch.float64)
    y = 1.1 * x - 0.3
    y[::5] += 1.0
    assert fit_line_robust(x, y) == pytest.approx((1.1, -0.3), abs=0.02)


def test_little_motion_is_false_on_a_film_whose_camera_moves(benchmark) -> None:
    film = benchmark.make_film(benchmark.SETS["validation"] + 2, "x_moving")
    found = benchmark.measure(film)
    assert found["after"]["false"] <= 0.03 and found["before"]["false"] > 0.1
    assert found["after"]["recall"] > 0.95 and found["after"]["right"] >= found["before"]["right"]
    assert found["after"]["ate"] <= found["before"]["ate"]


def test_a_film_without_motion_has_none(benchmark) -> None:
    video, depth = clip(1)
    noise = 0.02 * torch.randn(FRAMES, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(2))
    video = (video.expand(FRAMES, -1, -1, -1) + noise).clamp(0, 1)
    depth = wobbling(depth.expand(FRAMES, -1, -1))
    scene = find_static_scene(video, OpticalFlowTracker().track(video, depth, CAMERA))
    assert scene.static.float().mean() > 0.99
