"""The specification, checked point by point and pixel by pixel with plain Python numbers."""

import math

import pytest
import torch

from more4d.geometry.camera import Camera
from more4d.raster.registry import open_rasteriser
from tests.raster.scenes import random_path, still_path

SQUARE = Camera(fx=1.0, fy=1.0)


@pytest.mark.parametrize("seed", range(4))
def test_the_nearest_square_over_a_pixel_centre_wins(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    height, width, count = 9, 12, 40
    positions = torch.randn(1, count, 3, generator=generator) + torch.tensor([0.0, 0.0, 2.0])
    colours, footprint_m = (
        torch.rand(count, 3, generator=generator),
        torch.rand(count, generator=generator) * 0.4,
    )
    path = random_path(generator, 1, height, width)
    drawn = open_rasteriser("zbuffer").render(positions, colours, footprint_m, path, height, width)

    points = path.to_camera(0, positions[0].double()).tolist()
    fx, fy, cx, cy = path.intrinsics[0].double().tolist()
    limit = max(height, width) / 16
    for row in range(height):
        for column in range(width):
            best, winner = math.inf, None
            for index, (x, y, z) in enumerate(points):
                if z <= 1e-3:
                    continue
                right, down = (fx * x / z + cx) * width, (fy * y / z + cy) * height
                half_x = min(float(footprint_m[index]) * fx * width / z / 2, limit)
                half_y = min(float(footprint_m[index]) * fy * height / z / 2, limit)
                off_x, off_y = abs(column + 0.5 - right), abs(row + 0.5 - down)
                core = off_x <= max(half_x, 0.5) and off_y <= max(half_y, 0.5)
                margin = off_x <= max(1.5 * half_x, 0.5) and off_y <= max(1.5 * half_y, 0.5)
                depth = z if core else z + 4 * float(footprint_m[index])
                if margin and depth < best:
                    best, winner = depth, index
            assert bool(drawn.hole_mask[0, row, column]) == (winner is None)
            if winner is not None:
                assert torch.equal(drawn.colour[0, row, column], colours[winner])
                assert float(drawn.depth_m[0, row, column]) == pytest.approx(points[winner][2], rel=1e-5)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_lowest_index_wins_among_equal_depths(order: tuple[int, int]) -> None:
    colours = torch.eye(3)[list(order)]
    drawn = open_rasteriser("zbuffer").render(
        torch.tensor([[[0.0, 0.0, 2.0], [0.0, 0.0, 2.0]]]), colours, torch.zeros(2), still_path(SQUARE), 3, 3
    )
    assert torch.equal(drawn.colour[0, 1, 1], colours[0])
    assert drawn.coverage.sum() == 1


def test_points_behind_the_camera_and_beside_the_picture_are_not_drawn() -> None:
    positions = torch.tensor([[[0.0, 0.0, -2.0], [0.0, 0.0, 0.0], [5.0, 0.0, 1.0], [0.0, -5.0, 1.0]]])
    drawn = open_rasteriser("zbuffer").render(
        positions, torch.ones(4, 3), torch.full((4,), 0.1), still_path(SQUARE), 8, 8
    )
    assert drawn.hole_mask.all()
    assert torch.isinf(drawn.depth_m).all()
    assert not drawn.colour.any()


def test_a_picture_of_one_pixel_and_of_no_points() -> None:
    reference = open_rasteriser("zbuffer")
    empty = reference.render(
        torch.zeros(1, 0, 3), torch.zeros(0, 3), torch.zeros(0), still_path(SQUARE), 1, 1
    )
    assert empty.hole_mask.all()
    one = reference.render(
        torch.tensor([[[0.0, 0.0, 1.0]]]), torch.full((1, 3), 0.25), torch.ones(1), still_path(SQUARE), 1, 1
    )
    assert float(one.depth_m) == 1
    assert torch.equal(one.colour, torch.full((1, 1, 1, 3), 0.25))
