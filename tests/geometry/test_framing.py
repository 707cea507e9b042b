"""Laws of resizing and cropping a picture with its camera."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from more4d.geometry.camera import (
    Camera,
    DepthMap,
    fit,
    fit_mask,
    fit_values,
    pixel_centres,
    window,
    working_size,
)

sizes = st.integers(1, 90)


def ray_picture(camera: Camera, height: int, width: int) -> torch.Tensor:
    """A picture whose content is the direction of its own rays: (x / z, y / z)."""
    return camera.rays(height, width)[..., :2]


@given(st.integers(24, 90), st.integers(24, 90), st.integers(24, 90), st.integers(24, 90), st.data())
@settings(deadline=None, max_examples=50)
def test_the_ray_through_the_same_content_is_the_same(
    height: int, width: int, new_height: int, new_width: int, data: st.DataObject
) -> None:
    camera = Camera(
        fx=data.draw(st.floats(0.3, 3)),
        fy=data.draw(st.floats(0.3, 3)),
        cx=data.draw(st.floats(0.2, 0.8)),
        cy=data.draw(st.floats(0.2, 0.8)),
    )
    picture, fitted = fit(ray_picture(camera, height, width), camera, height=new_height, width=new_width)
    expected = ray_picture(fitted, new_height, new_width)
    # A linear picture survives antialiased resizing away from the border, where the filter is one-sided.
    margin = max(2, math.ceil(3 * max(new_height / height, new_width / width)))
    inner = (slice(margin, -margin), slice(margin, -margin))
    torch.testing.assert_close(picture[inner], expected[inner], rtol=0, atol=2e-3)


@given(sizes, sizes, sizes, sizes)
@settings(deadline=None, max_examples=60)
def test_nearest_keeps_values_and_finds_them_where_the_camera_says(
    height: int, width: int, new_height: int, new_width: int
) -> None:
    camera = Camera(fx=1.1, fy=0.9, cx=0.4, cy=0.55)
    source = ray_picture(camera, height, width)
    picture, fitted = fit(source, camera, height=new_height, width=new_width, mode="nearest")
    off = (picture - ray_picture(fitted, new_height, new_width)).abs()
    half_pixel = torch.tensor([0.5 / width / camera.fx, 0.5 / height / camera.fy])
    assert bool((off <= half_pixel + 1e-5).all())
    known = set(map(tuple, source.reshape(-1, 2).tolist()))
    assert set(map(tuple, picture.reshape(-1, 2).tolist())) <= known


@given(sizes, sizes, sizes, sizes)
@settings(deadline=None, max_examples=60)
def test_every_size_fits_every_size(height: int, width: int, new_height: int, new_width: int) -> None:
    image = torch.rand(height, width, 3, generator=torch.Generator().manual_seed(0))
    picture, _ = fit(image, Camera(fx=1.0, fy=1.0), height=new_height, width=new_width)
    assert picture.shape == (new_height, new_width, 3)
    assert picture.min() >= image.min() and picture.max() <= image.max()


def test_fitting_to_the_same_size_changes_nothing() -> None:
    image, camera = torch.rand(7, 5, 3), Camera(fx=1.2, fy=0.7, cx=0.3, cy=0.6)
    picture, same = fit(image, camera, height=7, width=5)
    assert torch.equal(picture, image)
    assert same == camera


def test_square_pixels_stay_square() -> None:
    camera = Camera.from_fov(60.0, width=960, height=540)
    _, fitted = fit(torch.rand(540, 960, 3), camera, height=384, width=512)
    fx_px, fy_px = fitted.focal_px(width=512, height=384)
    assert fx_px == pytest.approx(fy_px, rel=1 / 540)
    assert (fitted.cx, fitted.cy) == pytest.approx((0.5, 0.5))


def test_shrinking_averages_rather_than_picks() -> None:
    stripes = (torch.arange(64) % 2).float().expand(64, 64)[..., None].repeat(1, 1, 3)
    small, _ = fit(stripes, Camera(fx=1.0, fy=1.0), height=8, width=8)
    torch.testing.assert_close(small, torch.full((8, 8, 3), 0.5), rtol=0, atol=0.05)


def test_depth_and_mask_follow_the_picture() -> None:
    camera = Camera.from_fov(60.0, width=40, height=20)
    depth_m = torch.arange(1.0, 801.0).reshape(20, 40)
    mask, fitted_camera = fit_mask(depth_m > 400, camera, height=10, width=10)
    fitted = DepthMap(depth_m=fit_values(depth_m, height=10, width=10), valid=mask, camera=fitted_camera)
    assert torch.equal(fitted.valid, fitted.depth_m > 400)
    u = fitted.camera.project(fitted.points)[0]
    torch.testing.assert_close(u, pixel_centres(10, 10))


def test_a_size_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="0 x 5"):
        fit(torch.rand(3, 3, 3), Camera(fx=1.0, fy=1.0), height=0, width=5)


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.integers(2_000, 600_000), st.sampled_from([8, 16]))
@settings(deadline=None)
def test_working_size_is_valid_for_every_picture(height: int, width: int, pixels: int, multiple: int) -> None:
    rows, columns = working_size(height, width, pixels=pixels, multiple=multiple)
    assert rows % multiple == columns % multiple == 0
    assert rows >= multiple and columns >= multiple
    assert 0.4 * pixels <= rows * columns <= 2.5 * pixels


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(720, 960, (384, 512)), (960, 720, (512, 384)), (368, 512, (368, 512)), (200, 12000, (224, 896))],
)
def test_working_size_keeps_the_shape(height: int, width: int, expected: tuple[int, int]) -> None:
    assert working_size(height, width, pixels=384 * 512) == expected


def test_working_size_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="positive"):
        working_size(0, 10, pixels=100)


@given(sizes, sizes, sizes, sizes, st.lists(st.floats(0, 1), min_size=3, max_size=3), st.floats(0.2, 1))
def test_a_window_lies_in_the_picture_and_has_the_asked_shape(  # noqa: PLR0917
    height: int, width: int, rows: int, columns: int, draws: list[float], tightest: float
) -> None:
    down, across = window((height, width), (rows, columns), draws, min_scale=tightest)
    assert 0 <= down.start < down.stop <= height
    assert 0 <= across.start < across.stop <= width
    spans = (down.stop - down.start, across.stop - across.start)
    scale = min(height / rows, width / columns)
    # Both sides are the shape's, at one scale between the tightest and the largest, to within a pixel.
    scales = [(max(tightest * scale * side, 0), scale * side) for side in (rows, columns)]
    assert all(low - 1 <= span <= max(high, 0) + 1 for span, (low, high) in zip(spans, scales, strict=True))


def test_the_largest_window_in_the_middle_is_the_one_that_fits() -> None:
    assert window((90, 120), (2, 4), (1.0, 0.5, 0.5), min_scale=0.3) == (slice(15, 75), slice(0, 120))
