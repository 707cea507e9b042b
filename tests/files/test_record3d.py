"""Recordings of Record3D: the first frame with its depth and its lens."""

import io
import json
import struct
import zipfile
from pathlib import Path

import lzfse
import numpy as np
import pytest
import torch
from PIL import Image

from more4d.files.depth_and_cameras import load_depth
from more4d.files.record3d import read_recording, unpacked_bytes
from more4d.foundation.errors import InputError
from more4d.pipelines.depth import read_photo

WIDTH, HEIGHT = 60, 80
DEPTH = np.linspace(0.4, 4, 16 * 12, dtype=np.float32).reshape(16, 12)
MATRIX = [50.0, 0, 0, 0, 51, 0, 31, 39, 1]
ABOUT = {"w": WIDTH, "h": HEIGHT, "fps": 60, "K": MATRIX}


def write(path: Path, *, about: dict | None = None, depth: bytes | None = None, first: int = 0) -> Path:
    """A recording of two frames; the second is black, and a metre farther away."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata", json.dumps(ABOUT if about is None else about))
        for frame in (first, first + 10):
            later, picture = frame > first, io.BytesIO()
            Image.new("RGB", (WIDTH, HEIGHT), (0, 0, 0) if later else (250, 120, 30)).save(picture, "JPEG")
            archive.writestr(f"rgbd/{frame}.jpg", picture.getvalue())
            archive.writestr(f"rgbd/{frame}.depth", depth or lzfse.compress((DEPTH + later).tobytes()))
            archive.writestr(f"rgbd/{frame}.conf", b"")
    return path


@pytest.mark.parametrize("about", [ABOUT, ABOUT | {"dw": 12, "dh": 16, "perFrameIntrinsicCoeffs": None}])
def test_depth_is_that_of_the_first_frame_in_metres(tmp_path: Path, about: dict) -> None:
    path = write(tmp_path / "walk.R3D", about=about, first=9)
    assert torch.equal(load_depth(path, height=16, width=12), torch.from_numpy(DEPTH))


def test_a_recording_is_a_photo_with_depth_and_lens(tmp_path: Path) -> None:
    path = write(tmp_path / "walk.r3d")
    photo = read_photo(path)
    assert photo.image.shape == (HEIGHT, WIDTH, 3) and photo.depth.shape == (HEIGHT, WIDTH)
    assert photo.image[40, 30].tolist() == pytest.approx([250 / 255, 120 / 255, 30 / 255], abs=0.02)
    assert (float(photo.depth[0, 0]), float(photo.depth[-1, -1])) == pytest.approx((0.4, 4))
    lens = (50 / WIDTH, 51 / HEIGHT, 31 / WIDTH, 39 / HEIGHT)
    assert (photo.camera.fx, photo.camera.fy, photo.camera.cx, photo.camera.cy) == pytest.approx(lens)
    assert photo.camera_is_given
    picture = np.zeros((HEIGHT * 2, WIDTH * 2, 3), np.uint8)
    assert read_photo(picture, depth=path).camera.fx == pytest.approx(50 / WIDTH)
    assert read_photo(picture, depth=path, fov=90.0).camera.fov_x_deg == pytest.approx(90)


def test_the_lens_of_the_frame_goes_before_that_of_all(tmp_path: Path) -> None:
    about = ABOUT | {"perFrameIntrinsicCoeffs": [[48, 48, 30, 40], [1, 1, 1, 1]]}
    assert read_recording(write(tmp_path / "a.r3d", about=about)).intrinsics == (0.8, 0.6, 0.5, 0.5)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"about": {"w": 60}}, "no 'h'"),
        ({"about": ABOUT | {"w": 0}}, "pictures are 0 x 80"),
        ({"about": ABOUT | {"dw": 13, "dh": 16}}, "192 values, not 13 x 16"),
        ({"about": ABOUT | {"K": [1.0]}}, "no 3x3 matrix"),
        ({"about": ABOUT | {"K": [0.0] * 9}}, "focal length is not above 0"),
        ({"depth": b"bvx2" + bytes(60)}, "not compressed by LZFSE"),
        ({"depth": b"bvx2" + bytes(6)}, "cut off"),
        ({"depth": b"zlib" + bytes(60)}, "not compressed by LZFSE"),
        ({"depth": b"bvxn" + struct.pack("<II", 1 << 28, 4) + bytes(4) + b"bvx$"}, "claims more"),
        ({"depth": lzfse.compress(bytes(8 * WIDTH * HEIGHT))}, "claims more"),
    ],
)
def test_damaged_recordings_are_one_line_with_the_way_out(tmp_path: Path, fault: dict, words: str) -> None:
    with pytest.raises(InputError, match=rf"a\.r3d.*{words}.*export it there as EXR"):
        read_recording(write(tmp_path / "a.r3d", **fault))


def test_films_of_other_cameras_and_parts_of_recordings_are_told(tmp_path: Path) -> None:
    (tmp_path / "red.r3d").write_bytes(b"\0\0\1\0RED2" + bytes(500))
    with pytest.raises(InputError, match="not a recording of Record3D"):
        read_photo(tmp_path / "red.r3d")
    (tmp_path / "0.depth").write_bytes(b"bvx2")
    with pytest.raises(InputError, match=r"give the \.r3d file"):
        load_depth(tmp_path / "0.depth", height=16, width=12)


@pytest.mark.parametrize("count", [10, 3000, 400_000])
def test_what_a_stream_claims_is_what_it_holds(count: int) -> None:
    noise = np.random.default_rng(0).normal(size=count).astype("<f4")
    for values in (noise, np.round(noise), np.zeros_like(noise)):  # stored, compressed, short
        assert unpacked_bytes(lzfse.compress(values.tobytes())) == values.nbytes


def test_the_lens_stays_with_better_depth(tmp_path: Path) -> None:
    photo = read_photo(write(tmp_path / "walk.r3d"), depth=np.full((HEIGHT, WIDTH), 2.0, np.float32))
    assert photo.camera_is_given
    assert photo.camera.fx == pytest.approx(50 / WIDTH)
