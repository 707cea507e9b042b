"""Intrinsics in pixels or normalised, four numbers or a matrix, of this resolution or another."""

import logging

import numpy as np
import pytest

from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.geometry.intrinsics import (
    camera_from_intrinsics,
    camera_of_unknown_size,
    check_fov,
    parse_intrinsics,
)

PIXELS = (800.0, 720.0, 320.0, 240.0)
EXPECTED = Camera(fx=1.25, fy=1.5, cx=0.5, cy=0.5)


@pytest.mark.parametrize(
    "value",
    [
        PIXELS,
        "800,720,320,240",
        "800; 720; 320; 240",
        "800,0,320,0,720,240,0,0,1",
        [[800, 0, 320], [0, 720, 240], [0, 0, 1]],
        np.array([[800.0, 0, 320], [0, 720, 240], [0, 0, 1]]),
        (1.25, 1.5, 0.5, 0.5),
    ],
)
def test_all_ways_of_writing_are_one_camera(value) -> None:
    assert camera_from_intrinsics(value, height=480, width=640) == EXPECTED


@pytest.mark.parametrize(
    "value", ["1,2,3", "a,b,c,d", "", [1, 2], [[1, 5, 2], [0, 1, 2], [0, 0, 1]], {"fx": 1}, [True] * 4]
)
def test_other_things_are_refused(value) -> None:
    with pytest.raises(InputError, match="fx,fy,cx,cy"):
        parse_intrinsics(value)


def test_pixels_of_another_resolution_are_scaled_and_that_is_said(caplog) -> None:
    with caplog.at_level(logging.WARNING, "more4d"):
        for size in ((240, 320), (960, 1280)):
            assert camera_from_intrinsics(PIXELS, height=size[0], width=size[1]) == EXPECTED
            assert f"the middle of a picture of 640 x 480, not of {size[1]} x {size[0]}" in caplog.text


def test_a_principal_point_far_from_the_middle_is_said(caplog) -> None:
    with caplog.at_level(logging.WARNING, "more4d"):
        camera_from_intrinsics((800.0, 720.0, 320.0, 100.0), height=480, width=640)
    assert "far from the middle of the 640 x 480 picture" in caplog.text


def test_a_very_wide_view_is_refused_in_pixels_and_said_otherwise(caplog) -> None:
    with pytest.raises(InputError, match="view of 127 degrees"):
        camera_from_intrinsics((160.0, 160.0, 320.0, 240.0), height=480, width=640)
    with caplog.at_level(logging.WARNING, "more4d"):
        camera_from_intrinsics((0.25, 0.33, 0.5, 0.5), height=480, width=640)
    assert "127 degrees" in caplog.text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((500.0, 500.0, 0.5, 0.5), "the principal point is not"),
        ((35.0, 35.0, 0.0, 0.0), "the principal point is not"),
        ((0.8, 1.1, 320.0, 240.0), "outside of the 640 x 480 picture"),
        ((2000.0, 2000.0, 960.0, 540.0), "outside of the 640 x 480 picture"),
    ],
)
def test_numbers_of_two_kinds_or_of_another_picture_are_refused(value, words) -> None:
    with pytest.raises(InputError, match=words):
        camera_from_intrinsics(value, height=480, width=640)


def test_focal_lengths_that_are_both_in_widths_are_said(caplog) -> None:
    with caplog.at_level(logging.WARNING, "more4d"):
        camera_from_intrinsics(PIXELS, height=480, width=640)
        assert not caplog.text
        camera_from_intrinsics((0.8, 0.8, 0.5, 0.5), height=480, width=640)
    assert "0.75 times as wide as tall" in caplog.text


def test_without_a_size_pixels_are_those_of_the_middle() -> None:
    assert camera_of_unknown_size(PIXELS) == EXPECTED
    assert camera_of_unknown_size((1.25, 1.5, 0.5, 0.5)) == EXPECTED
    with pytest.raises(InputError, match="no known size"):
        camera_of_unknown_size((800.0, 720.0, 0.5, 0.5))


def test_a_view_that_may_be_in_radians_is_said(caplog) -> None:
    check_fov(60.0)
    assert not caplog.records
    check_fov(1.05)
    assert "1.05 degrees" in caplog.text and "radians" in caplog.text


@pytest.mark.parametrize("fov", [0.0, -3.0, 170.0, float("nan")])
def test_impossible_views_are_refused(fov: float) -> None:
    with pytest.raises(InputError, match="between 1 and 169 degrees"):
        check_fov(fov)
