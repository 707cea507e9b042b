"""Laws of the motion normalisation."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from more4d.geometry.camera import Camera
from more4d.geometry.tracks import denormalise_motion, motion_scale, normalise_motion

cameras = st.builds(
    Camera, fx=st.floats(0.3, 4), fy=st.floats(0.3, 4), cx=st.floats(0.2, 0.8), cy=st.floats(0.2, 0.8)
)


def moving_points(camera: Camera, depth: float, seed: int, amount: float = 0.3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    depth_m = depth * (0.5 + torch.rand(6, 8, generator=generator))
    steps = amount * depth * torch.randn(5, 6, 8, 3, generator=generator)
    steps[0] = 0
    return camera.unproject_depth(depth_m) + steps


@given(cameras, st.floats(-6, 6), st.integers(0, 10_000))
@settings(deadline=None)
def test_denormalise_undoes_normalise(camera: Camera, log_depth: float, seed: int) -> None:
    positions = moving_points(camera, 10**log_depth, seed)
    again = denormalise_motion(normalise_motion(positions, camera), positions[0], camera)
    assert float((again - positions).norm() / positions.norm()) < 1e-6
    worst = (again - positions).abs().amax() / positions[..., 2].abs().amax()
    assert float(worst) < 1e-5


@given(cameras, st.floats(-3, 3), st.integers(0, 10_000))
@settings(deadline=None)
def test_normalise_undoes_denormalise(camera: Camera, log_depth: float, seed: int) -> None:
    positions = moving_points(camera, 10**log_depth, seed)
    motion = torch.randn(positions.shape, generator=torch.Generator().manual_seed(seed))
    motion[0] = 0
    again = normalise_motion(denormalise_motion(motion, positions[0], camera), camera)
    torch.testing.assert_close(again, motion, rtol=1e-5, atol=1e-5)


def test_frame_zero_is_exactly_zero() -> None:
    camera = Camera(fx=1.1, fy=1.4)
    assert not normalise_motion(moving_points(camera, 3.0, 0), camera)[0].any()


@given(cameras, st.floats(-3, 3))
@settings(deadline=None)
def test_normalised_motion_does_not_know_the_scale(camera: Camera, log_scale: float) -> None:
    positions = moving_points(camera, 1.0, 7)
    torch.testing.assert_close(
        normalise_motion(positions * 10**log_scale, camera), normalise_motion(positions, camera),
        rtol=1e-4, atol=1e-4,
    )  # fmt: skip


def test_sideways_motion_is_displacement_in_image_widths_and_heights() -> None:
    camera = Camera(fx=1.3, fy=0.8)
    start = camera.unproject_depth(torch.full((3, 4), 2.5))
    end = start + torch.tensor([0.2, -0.1, 0.0])
    motion = normalise_motion(torch.stack([start, end]), camera)[1]
    shift = camera.project(end)[0] - camera.project(start)[0]
    torch.testing.assert_close(motion[..., :2], shift)
    assert not motion[..., 2].any()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 0.0, -2.0])
def test_impossible_depth_counts_as_one_metre(bad: float) -> None:
    camera = Camera(fx=2.0, fy=4.0)
    scale = motion_scale(torch.tensor([[bad, 3.0]]), camera)
    torch.testing.assert_close(scale[0, 0], torch.tensor([0.5, 0.25, 1.0]))
    torch.testing.assert_close(scale[0, 1], torch.tensor([1.5, 0.75, 3.0]))


@pytest.mark.parametrize("bad", [0.0, -2.0])
def test_the_round_trip_holds_where_depth_is_impossible(bad: float) -> None:
    camera = Camera(fx=2.0, fy=4.0)
    positions = torch.randn(3, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    positions[0, ..., 2] = bad
    again = denormalise_motion(normalise_motion(positions, camera), positions[0], camera)
    torch.testing.assert_close(again, positions)
