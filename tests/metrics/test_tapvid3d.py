"""Laws of the measures of TAPVid-3D, against values that can be written down."""

import pytest
import torch

from more4d.geometry.camera import Camera
from more4d.geometry.tracks import PointTracks
from more4d.metrics.tracks import tapvid3d

CAMERA = Camera(fx=0.5, fy=2.0)
"""A geometric mean of 1: 256 px, and a pixel is depth / 256."""


def points(offset_px=0.0, hidden=(), scale=1.0):
    """2 x 2 points at 4 m over three frames, off by `offset_px` pixels to the right in the later ones."""
    start = CAMERA.unproject_depth(torch.full((2, 2), 4.0))
    positions = start.expand(3, 2, 2, 3).clone()
    positions[1:, ..., 0] += offset_px * 4.0 / 256
    visibility = torch.ones(3, 2, 2, dtype=torch.bool)
    for frame, row, column in hidden:
        visibility[frame, row, column] = False
    return PointTracks(
        positions=positions * scale, colours=torch.zeros(2, 2, 3), visibility=visibility, camera=CAMERA
    )


def test_the_truth_has_every_point():
    result = tapvid3d(points(), points(hidden=[]))
    assert (result["average_jaccard"], result["average_within"], result["occlusion_accuracy"]) == (1, 1, 1)


@pytest.mark.parametrize(("offset", "share"), [(0.9, 1.0), (1.1, 0.8), (3.0, 0.6), (9.0, 0.2), (17.0, 0.0)])
def test_an_offset_is_within_the_thresholds_above_it(offset, share):
    result = tapvid3d(points(offset), points(), scaling="none")
    assert result["average_within"] == pytest.approx(share)
    near = share  # per threshold all points are right or all are wrong: the Jaccard index is 1 or 0
    assert result["average_jaccard"] == pytest.approx(near)


def test_scale_is_forgiven_if_asked_for():
    assert tapvid3d(points(scale=3.0), points())["average_within"] == 1
    assert tapvid3d(points(scale=3.0), points(), scaling="none")["average_within"] == 0


def test_wrong_visibility_costs_accuracy_and_jaccard():
    truth = points(hidden=[(1, 0, 0), (2, 0, 0)])  # 6 of 8 are seen
    result = tapvid3d(points(hidden=[(1, 1, 1)]), truth)
    assert result["occlusion_accuracy"] == pytest.approx(5 / 8)
    assert result["average_jaccard"] == pytest.approx(5 / (6 + 2))  # five hits, two seen wrongly, one missed
    assert result["average_within"] == 1


def test_the_first_frame_does_not_count():
    assert tapvid3d(points(hidden=[(0, 0, 0)]), points())["occlusion_accuracy"] == 1


def test_a_single_frame_is_refused():
    one = points()
    one = PointTracks(
        positions=one.positions[:1], colours=one.colours, visibility=one.visibility[:1], camera=CAMERA
    )
    with pytest.raises(ValueError, match="at least 2 frames"):
        tapvid3d(one, one)
