from pathlib import Path

import numpy as np
import pytest
import torch

from more4d.files.image import save_image
from more4d.files.video import write_video
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.geometry.intrinsics import camera_from_intrinsics
from more4d.pipelines.depth import depth_map_from_file, read_photo


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    save_image(tmp_path / "photo.png", torch.rand(48, 64, 3))
    return tmp_path / "photo.png"


def test_pixels_and_normalised_numbers_are_the_same_camera():
    expected = Camera(fx=1.25, fy=1.5, cx=0.5, cy=0.25)
    assert camera_from_intrinsics((800.0, 720.0, 320.0, 120.0), height=480, width=640) == expected
    assert camera_from_intrinsics((1.25, 1.5, 0.5, 0.25), height=480, width=640) == expected


@pytest.mark.parametrize(
    "numbers",
    ["0,1,0.5,0.5", "-1,1,0.5,0.5", "nan,1,0.5,0.5", "500,1,0.5,0.5", "1,1,2,0.5", "0.01,0.01,0.5,0.5"],
)
def test_impossible_cameras_are_refused(numbers):
    fx, fy, cx, cy = map(float, numbers.split(","))
    with pytest.raises(InputError, match="intrinsics"):
        camera_from_intrinsics((fx, fy, cx, cy), height=480, width=640)


def test_of_a_video_the_first_frame_is_taken(tmp_path):
    frames = torch.stack([torch.full((48, 64, 3), value) for value in (0.2, 0.9)])
    write_video(tmp_path / "clip.mp4", frames, fps=5)
    image = read_photo(tmp_path / "clip.mp4").image
    assert image.shape == (48, 64, 3) and float(image.mean()) == pytest.approx(0.2, abs=0.03)


def test_depth_and_camera_come_with_the_photo(photo, tmp_path):
    np.save(tmp_path / "depth.npy", np.full((48, 64), 2.0))
    loaded = read_photo(photo, depth=tmp_path / "depth.npy", intrinsics=(64.0, 64.0, 32.0, 24.0))
    assert bool((loaded.depth == 2).all()) and loaded.camera == Camera(fx=1.0, fy=64 / 48)
    assert read_photo(photo).depth is None


def test_unknown_depth_is_put_far_away():
    raw = torch.full((10, 10), 2.0)
    raw[0] = 7.0
    raw[5] = torch.nan
    depth = depth_map_from_file(raw, Camera(fx=1.0, fy=1.0))
    assert not bool(depth.valid[5].any()) and bool((depth.depth_m[5] >= 2).all())


@pytest.mark.parametrize("number", range(1, 9))
def test_every_orientation_of_a_photo_is_upright(shared, number):
    folder = shared / "data/exif-orientations"
    upright = read_photo(folder / "Landscape_1.jpg").image
    turned = read_photo(folder / f"Landscape_{number}.jpg").image
    assert turned.shape == upright.shape
    assert float((turned - upright).abs().mean()) < 0.05
