"""What phones, cameras and broken disks bring: read as it is meant, or refused in one line that says why."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from more4d.files.image import FORMATS, RAW_SUFFIXES, load_image, load_image_and_alpha, load_mask
from more4d.foundation.errors import InputError


@pytest.fixture
def cases(shared: Path) -> Path:
    return shared / "data" / "field-cases"


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_image(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def swapped_profile() -> bytes:
    """A colour profile in which red and green of sRGB have changed places, under another name."""
    contents = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = int.from_bytes(contents[128:132], "big")
    where = {
        bytes(contents[132 + 12 * tag : 136 + 12 * tag]): 136 + 12 * tag for tag in range(tags)
    }  # signature of a tag to the place of its offset (ICC.1, 7.3)
    red, green = where[b"rXYZ"], where[b"gXYZ"]
    contents[red : red + 4], contents[green : green + 4] = (
        contents[green : green + 4],
        contents[red : red + 4],
    )
    return bytes(contents).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


def test_pictures_of_phones_are_read(cases: Path) -> None:
    image = load_image(cases / "photo-heic" / "IMG_0001.HEIC")
    assert image.shape == (128, 128, 3) and float(image.std()) > 0.02


def test_a_damaged_picture_of_a_phone_is_refused(cases: Path, tmp_path: Path) -> None:
    contents = (cases / "photo-heic" / "IMG_0001.HEIC").read_bytes()
    (tmp_path / "half.heic").write_bytes(contents[: len(contents) // 2])
    assert "cannot be decoded" in refusal(tmp_path / "half.heic")


def test_camera_raw_is_refused_by_name(cases: Path, tmp_path: Path) -> None:
    assert "camera raw" in refusal(cases / "photo-camera-raw" / "IMG_0001.DNG")
    renamed = tmp_path / "photo.tif"
    renamed.write_bytes((cases / "photo-camera-raw" / "IMG_0001.DNG").read_bytes())
    assert "camera raw" in refusal(renamed)
    assert ".cr3" in RAW_SUFFIXES


@pytest.mark.parametrize("name", ["b.tif", "damaged.avif"])
def test_whatever_a_codec_raises_is_one_line(cases: Path, name: str) -> None:
    assert "cannot be decoded" in refusal(cases / "batch-damaged-picture" / name)


def test_no_program_is_started_to_decode_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "photo.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    assert "of no format that can be read" in refusal(tmp_path / "photo.jpg")
    assert not (tmp_path / "started").exists()
    Image.init()
    assert not {"EPS", "WMF", "MIC", "FPX"} & {*FORMATS} and {*FORMATS} <= {*Image.OPEN}


@pytest.mark.parametrize("kind", ["rgb", "opacity", "palette"])
def test_colours_are_brought_to_srgb_by_the_profile_of_the_file(tmp_path: Path, kind: str) -> None:
    image = Image.new("RGB", (8, 6), (255, 0, 0))
    if kind == "opacity":
        image.putalpha(Image.new("L", (8, 6), 255))
        image.putpixel((0, 0), (255, 0, 0, 0))
    if kind == "palette":
        image = image.quantize(4)
    image.save(tmp_path / "photo.png", icc_profile=swapped_profile())
    colours, alpha = load_image_and_alpha(tmp_path / "photo.png")
    assert torch.allclose(colours[1, 1], torch.tensor([0.0, 1.0, 0.0]), atol=0.02)
    assert (alpha is not None) == (kind == "opacity")
    image.save(
        tmp_path / "plain.png", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    )
    assert load_image(tmp_path / "plain.png")[1, 1].tolist() == [1.0, 0.0, 0.0]


def test_a_damaged_profile_is_told_and_left_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGB", (8, 6), (255, 0, 0)).save(tmp_path / "photo.png", icc_profile=b"no profile")
    assert load_image(tmp_path / "photo.png")[0, 0].tolist() == [1.0, 0.0, 0.0]
    assert "colour profile" in caplog.text


def test_numbers_of_a_palette_are_no_colours(tmp_path: Path) -> None:
    numbers = np.zeros((6, 8), np.uint8)
    numbers[2:4] = 3
    mask = Image.fromarray(numbers, "P")
    mask.putpalette([0, 0, 0, 9, 9, 9, 9, 9, 9, 0, 0, 1])
    mask.save(tmp_path / "mask.png", icc_profile=swapped_profile())
    assert load_mask(tmp_path / "mask.png").unique().tolist() == [0, 3]
