"""Laws of the pinhole camera."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from more4d.geometry.camera import Camera, pixel_centres

cameras = st.builds(
    Camera, fx=st.floats(0.2, 5), fy=st.floats(0.2, 5), cx=st.floats(-0.5, 1.5), cy=st.floats(-0.5, 1.5)
)


@given(cameras, st.floats(1e-4, 1e5), st.integers(0, 1000))
@settings(deadline=None)
def test_project_undoes_unproject(camera: Camera, depth: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    position = torch.rand(4, 5, 2, generator=generator)
    depths = depth * (0.5 + torch.rand(4, 5, generator=generator))
    again, same = camera.project(camera.unproject(position, depths))
    torch.testing.assert_close(again, position, rtol=1e-5, atol=1e-5)
    assert torch.equal(same, depths)


@given(cameras, st.integers(0, 1000))
@settings(deadline=None)
def test_unproject_undoes_project(camera: Camera, seed: int) -> None:
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    points[:, 2] = points[:, 2].abs() + 0.1
    torch.testing.assert_close(camera.unproject(*camera.project(points)), points)


def test_pixel_centres_lie_half_a_pixel_from_the_edges() -> None:
    centres = pixel_centres(2, 4)
    torch.testing.assert_close(centres[0, :, 0], torch.tensor([0.125, 0.375, 0.625, 0.875]))
    torch.testing.assert_close(centres[:, 0, 1], torch.tensor([0.25, 0.75]))


def test_every_pixel_of_a_depth_map_projects_to_its_own_centre() -> None:
    camera = Camera(fx=1.3, fy=0.8, cx=0.4, cy=0.6)
    depth = torch.rand(7, 9) + 0.5
    points = camera.unproject_depth(depth)
    position, same = camera.project(points)
    torch.testing.assert_close(position, pixel_centres(7, 9))
    assert torch.equal(same, depth)
    torch.testing.assert_close(points, camera.rays(7, 9) * depth[..., None])


def test_axes_are_opencv() -> None:
    camera = Camera(fx=1.0, fy=1.0)
    position, _ = camera.project(torch.tensor([[0.1, 0.0, 1.0], [0.0, 0.1, 1.0]]))
    assert float(position[0, 0]) > 0.5, "x points right"
    assert float(position[1, 1]) > 0.5, "y points down"


def test_pixel_intrinsics_round_trip() -> None:
    camera = Camera.from_pixels(600.0, 610.0, 319.5, 241.0, width=640, height=480)
    assert camera.focal_px(width=640, height=480) == pytest.approx((600, 610))
    assert camera.cx * 640 == pytest.approx(319.5)
    assert camera.cy * 480 == pytest.approx(241)


@given(st.floats(1, 179), st.integers(1, 4000), st.integers(1, 4000))
@settings(deadline=None)
def test_field_of_view_round_trip_with_square_pixels(fov: float, width: int, height: int) -> None:
    camera = Camera.from_fov(fov, width=width, height=height)
    assert camera.fov_x_deg == pytest.approx(fov)
    fx_px, fy_px = camera.focal_px(width=width, height=height)
    assert fx_px == pytest.approx(fy_px)


@pytest.mark.parametrize(
    "bad", [{"fx": 0.0}, {"fy": -1.0}, {"fx": math.nan}, {"cx": math.inf}, {"cy": math.nan}]
)
def test_impossible_intrinsics_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"finite|positive"):
        Camera(**{"fx": 1.0, "fy": 1.0, **bad})


@pytest.mark.parametrize("fov", [0.0, 180.0, -10.0])
def test_impossible_fields_of_view_are_refused(fov: float) -> None:
    with pytest.raises(ValueError, match="field of view"):
        Camera.from_fov(fov, width=4, height=3)
