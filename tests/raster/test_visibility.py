"""Visibility is being the nearest surface at one's own pixel, inside the picture."""

import pytest
import torch

from more4d.geometry.camera import Camera
from more4d.raster.render import visible_points
from tests.raster.scenes import camera_at, still_path, tracks_of

CAMERA = Camera(fx=1.0, fy=1.0)


@pytest.mark.parametrize("seed", range(3))
def test_the_photos_own_camera_sees_every_point(seed: int) -> None:
    depth_m = 1 + torch.rand(30, 30, generator=torch.Generator().manual_seed(seed)) * 9
    tracks = tracks_of(depth_m, CAMERA)
    seen = visible_points(
        tracks.positions.flatten(1, 2), tracks.footprint_m.flatten(), still_path(CAMERA), 30, 30, 0.01
    )
    assert seen.all()


def test_a_thing_in_front_hides_exactly_what_is_behind_it() -> None:
    wall = tracks_of(torch.full((32, 32), 4.0), CAMERA)
    thing = wall.positions.flatten(1, 2).clone()[:, :64] * 0  # an 8 x 8 grid, moving from the side into view
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    thing = torch.stack([(columns - 3.5) / 16, (rows - 3.5) / 16, torch.full((8, 8), 2.0)], -1).reshape(
        1, 64, 3
    )
    aside = thing + torch.tensor([9.0, 0.0, 0.0])
    behind = wall.positions.flatten(1, 2)
    positions = torch.cat([torch.cat([behind, aside], 1), torch.cat([behind, thing], 1)])
    footprint_m = torch.cat([wall.footprint_m.flatten(), torch.full((64,), 2 / 32)])
    path = still_path(CAMERA, torch.eye(4), torch.eye(4))
    seen = visible_points(positions, footprint_m, path, 32, 32, 0.02)
    wall_seen, thing_seen = seen[:, : 32 * 32].reshape(2, 32, 32), seen[:, 32 * 32 :]
    assert wall_seen[0].all()
    assert not thing_seen[0].any()
    assert thing_seen[1].all()
    hidden = torch.zeros(32, 32, dtype=torch.bool)
    hidden[12:20, 12:20] = True
    assert torch.equal(~wall_seen[1], hidden)


def test_points_behind_the_camera_or_outside_are_not_visible() -> None:
    positions = torch.tensor([[[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [2.0, 0.0, 1.0]]])
    seen = visible_points(positions, torch.zeros(3), still_path(CAMERA), 9, 9)
    assert seen.tolist() == [[True, False, False]]
    turned = visible_points(positions, torch.zeros(3), still_path(CAMERA, camera_at((0, 0, 2.0))), 9, 9)
    assert not turned.any()


def test_the_tolerance_is_relative_depth() -> None:
    positions = torch.tensor([[[0.0, 0.0, 1.0], [0.0, 0.0, 1.05]]])
    path = still_path(CAMERA)
    assert visible_points(positions, torch.zeros(2), path, 3, 3, 0.1).tolist() == [[True, True]]
    assert visible_points(positions, torch.zeros(2), path, 3, 3, 0.01).tolist() == [[True, False]]
    with pytest.raises(ValueError, match="negative"):
        visible_points(positions, torch.zeros(2), path, 3, 3, -0.1)
