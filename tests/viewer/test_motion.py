"""Clicks in any view are strokes on the photo."""

import pytest
import torch

from more4d.foundation.errors import InputError
from more4d.geometry.poses import rigid_inverse
from more4d.viewer.motion import StrokeDrawing, on_plane
from tests.browser.conftest import CAMERA, HEIGHT, WIDTH, sideways

CORNER, THERE = (50.5, 44.5), (80.0, 30.0)
"""Pixels of the photo: on the square, and elsewhere."""


def ray(pixel: tuple[float, float]) -> tuple[torch.Tensor, torch.Tensor]:
    """From the photo's camera."""
    place = torch.tensor([pixel[0] / WIDTH, pixel[1] / HEIGHT])
    return torch.zeros(3), CAMERA.unproject(place, torch.tensor(1.0))


def test_clicks_from_the_photo_are_pixels_of_it(item):
    drawn = StrokeDrawing(item)
    drawn.click(*ray(CORNER))
    drawn.click(*ray(THERE), 0.5)
    (stroke,) = drawn.on_photo()
    assert torch.allclose(torch.tensor(stroke.points), torch.tensor([CORNER, THERE]), atol=1e-3)
    assert stroke.depths == pytest.approx((1.0, 0.5))


def test_clicks_from_elsewhere_that_meet_the_same_places_are_the_same_stroke(item):
    front, aside = StrokeDrawing(item), StrokeDrawing(item)
    for pixel in (CORNER, THERE):
        front.click(*ray(pixel))
    pose = rigid_inverse(sideways().world_to_camera[8])
    for place in torch.tensor(front.strokes[0]):
        aside.click(pose[:3, 3], place - pose[:3, 3])
    found, expected = (torch.tensor(each.on_photo()[0].points) for each in (aside, front))
    assert torch.allclose(found, expected, atol=1e-2)


def test_a_click_beside_everything_is_refused(item):
    drawn = StrokeDrawing(item)
    with pytest.raises(InputError, match="nothing of the photo here"):
        drawn.click(torch.zeros(3), torch.tensor([0.0, -1.0, 0.1]))
    with pytest.raises(InputError, match="two points at least"):
        drawn.on_photo()
    drawn.click(*ray(CORNER))
    with pytest.raises(InputError, match="more from the front"):
        drawn.click(torch.zeros(3), torch.tensor([1.0, 0.0, 0.0]))
    with pytest.raises(InputError, match="two points at least"):
        drawn.on_photo()


def test_undo_takes_back_click_by_click(item):
    drawn = StrokeDrawing(item)
    for pixel in (CORNER, THERE, (10.0, 10.0)):
        drawn.click(*ray(pixel))
    drawn.finish()
    drawn.click(*ray((20.0, 80.0)))
    counts = []
    for _ in range(5):
        counts.append([len(points) for points in drawn.strokes])
        drawn.undo()
    assert counts == [[3, 1], [3], [2], [1], []]


def test_a_ray_meets_a_plane_before_it_only():
    origin = torch.tensor([0.0, 0.0, 1.0])
    assert on_plane(origin, torch.tensor([0.5, 0.0, 1.0]), 3.0).tolist() == [1.0, 0.0, 3.0]
    assert on_plane(origin, torch.tensor([0.5, 0.0, -1.0]), 3.0) is None
