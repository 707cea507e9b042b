"""The drawing rule: a photo comes back from its own camera, and surfaces have no cracks."""

import pytest
import torch

from more4d.geometry.camera import Camera
from more4d.raster.interface import Rendering
from more4d.raster.registry import open_rasteriser
from tests.raster.scenes import camera_at, plane_depth, still_path, tracks_of

HEIGHT, WIDTH = 36, 48
CAMERA = Camera(fx=0.9, fy=1.2)


def draw(depth_m: torch.Tensor, *world_to_camera: torch.Tensor, camera: Camera = CAMERA) -> Rendering:
    tracks = tracks_of(depth_m, camera)
    return open_rasteriser("numba").render(
        tracks.positions.flatten(1, 2),
        tracks.colours.flatten(0, 1),
        tracks.footprint_m.flatten(),
        still_path(camera, *world_to_camera),
        *depth_m.shape,
    )


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("height", "width"), [(36, 48), (48, 36), (1, 1), (5, 200)])
def test_the_photos_own_camera_gives_the_photo_back(seed: int, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    depth_m = 10 ** (torch.rand(height, width, generator=generator) * 4 - 2)
    camera = Camera(fx=0.6 + seed / 10, fy=(0.6 + seed / 10) * width / height, cx=0.45, cy=0.6)
    drawn = draw(depth_m, camera=camera)
    assert torch.equal(drawn.colour[0], tracks_of(depth_m, camera).colours)
    assert torch.allclose(drawn.depth_m[0], depth_m)
    assert not drawn.hole_mask.any()


@pytest.mark.parametrize("shift_px", [0.25, 0.5, 0.75, 1.5])
def test_a_surface_shifted_by_a_part_of_a_pixel_has_no_cracks(shift_px: float) -> None:
    step_m = shift_px * 2.0 / (0.9 * WIDTH)
    drawn = draw(torch.full((HEIGHT, WIDTH), 2.0), camera_at((step_m, step_m, 0)))
    assert not drawn.hole_mask[0, :-2, :-2].any()


@pytest.mark.parametrize("nearer_m", [0.1, 0.7, 1.3, 1.7])
def test_a_surface_seen_from_closer_has_no_cracks(nearer_m: float) -> None:
    drawn = draw(torch.full((HEIGHT, WIDTH), 2.0), camera_at((0.01, -0.02, nearer_m)))
    assert not drawn.hole_mask.any()
    assert torch.allclose(drawn.depth_m, torch.tensor(2.0 - nearer_m))


def test_a_surface_in_front_hides_what_is_behind_without_cracks() -> None:
    depth_m = torch.full((HEIGHT, WIDTH), 4.0)
    depth_m[8:28, 12:36] = 2.0
    drawn = draw(depth_m, camera_at((0.013, 0.017, 0.9)))
    seen = drawn.depth_m[0, 6:30, 10:38]
    assert torch.allclose(seen, torch.tensor(1.1))


def test_a_margin_never_overrides_the_core_of_its_own_surface() -> None:
    depth_m = plane_depth(CAMERA, HEIGHT, WIDTH, (1.2, 0.4), 2.0)
    assert torch.equal(draw(depth_m).colour[0], tracks_of(depth_m, CAMERA).colours)


def test_a_point_almost_at_the_camera_does_not_hide_the_scene() -> None:
    drawn = open_rasteriser("numba").render(
        torch.tensor([[[0.0, 0.0, 0.002]]]), torch.ones(1, 3), torch.ones(1), still_path(CAMERA), 64, 64
    )
    assert 64 <= int((~drawn.hole_mask).sum()) <= 13**2


def test_black_points_are_not_holes() -> None:
    drawn = open_rasteriser("numba").render(
        torch.tensor([[[0.0, 0.0, 1.0]]]), torch.zeros(1, 3), torch.zeros(1), still_path(CAMERA), 3, 3
    )
    assert not drawn.hole_mask[0, 1, 1]
    assert int(drawn.hole_mask.sum()) == 8


def test_what_lies_behind_an_object_is_a_hole_from_the_side() -> None:
    depth_m = torch.full((HEIGHT, WIDTH), 4.0)
    depth_m[:, :24] = 2.0
    drawn = draw(depth_m, camera_at((0.4, 0, 0)))
    gap_px = 0.4 * 0.9 * WIDTH * (1 / 2 - 1 / 4)
    widths = drawn.hole_mask[0, :, : WIDTH - 6].sum(1)
    assert ((widths - gap_px).abs() <= 1.5).all()  # the margins of both sides, and rounding
