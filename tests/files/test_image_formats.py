"""What phones, cameras and broken disks bring: read as it is meant, or refused in one line that says why."""

import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from more4d.files import hdr
from more4d.files.image import FORMATS, RAW_SUFFIXES, load_image, load_image_and_alpha, load_mask
from more4d.foundation.errors import InputError
from tests.files.odd_videos import write as write_film


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


def test_a_mask_may_be_what_is_opaque(tmp_path: Path) -> None:
    pixels = np.full((6, 8, 4), 255, np.uint8)
    pixels[2:, :, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    assert load_mask(tmp_path / "mask.png").sum() == 16


def write_avif(path: Path, signal: np.ndarray, *, primaries: int, transfer: int) -> Path:
    """A still in 10 bits, as cameras and games write HDR."""
    about = {"colorspace": primaries, "color_primaries": primaries, "color_trc": transfer}
    how = {"codec": "libsvtav1", "pixels": "yuv420p10le", "options": {"crf": "8", "preset": "10"}}
    return write_film(path, signal[None], about=about, **how)


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_pictures_are_tone_mapped(tmp_path: Path, transfer: int) -> None:
    """A grey card and white paper, as AVIF and as PNG with a chunk cICP."""
    encode, scale = (hdr.pq_encode, 203.0) if transfer == 16 else (hdr.hlg_encode, hdr.HLG_WHITE)
    light = torch.tensor([0.18, 1.0]).repeat_interleave(48).expand(64, 96)
    signal = encode(light * scale)[..., None].expand(-1, -1, 3).numpy()
    deep, plain = (signal * 65535).round().astype(np.uint16), (signal * 255).round().astype(np.uint8)
    write_avif(tmp_path / "a.avif", deep, primaries=9, transfer=transfer)
    Image.fromarray(plain).save(tmp_path / "a.png", icc_profile=swapped_profile())  # for other programs
    contents = (tmp_path / "a.png").read_bytes()
    chunk = b"cICP" + bytes([9, transfer, 0, 1])
    end = contents.index(b"iCCP") - 4
    (tmp_path / "a.png").write_bytes(
        contents[:end] + b"\0\0\0\4" + chunk + zlib.crc32(chunk).to_bytes(4, "big") + contents[end:]
    )
    for name in ("a.avif", "a.png"):
        grey, white = (load_image(tmp_path / name)[32, [20, 76]].mean(-1) * 255).tolist()
        assert grey == pytest.approx(118, abs=4) and 222 < white < 240, name


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"v/1\x01", "an OpenEXR picture"),
        (b"#?RADIANCE\n", "a Radiance HDR picture"),
    ],
)
def test_formats_that_are_not_read_are_named(tmp_path: Path, head: bytes, name: str) -> None:
    (tmp_path / "photo.jpg").write_bytes(head + bytes(100))
    assert f"is {name}, which is not read; export it" in refusal(tmp_path / "photo.jpg")


def test_an_avif_with_the_brand_of_all_heif_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), (200, 40, 40)).save(tmp_path / "a.avif")
    contents = bytearray((tmp_path / "a.avif").read_bytes())
    assert b"avif" in contents[12:32]
    contents[8:12] = b"mif1"
    (tmp_path / "a.avif").write_bytes(contents)
    assert torch.allclose(
        load_image(tmp_path / "a.avif")[16, 16] * 255, torch.tensor([200.0, 40, 40]), atol=4
    )


def test_a_cmyk_jpeg_of_an_editor_is_not_inverted(tmp_path: Path) -> None:
    """Adobe's mark means that ink is stored as 255 minus its amount."""
    Image.new("CMYK", (32, 32), (0, 200, 200, 0)).save(tmp_path / "a.jpg")
    assert b"Adobe" in (tmp_path / "a.jpg").read_bytes()
    red, green, blue = (load_image(tmp_path / "a.jpg")[16, 16] * 255).tolist()
    assert red > 240 and green < 80 and blue < 80


def test_sixteen_bits_of_colour_are_read(tmp_path: Path) -> None:
    """A PNG of three channels of 16 bits, written by hand: PIL writes none."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    row = b"\0" + b"".join(value.to_bytes(2, "big") for value in (65535, 32896, 0)) * 4
    header = (4).to_bytes(4, "big") * 2 + bytes([16, 2, 0, 0, 0])
    contents = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * 4)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + contents)
    assert torch.allclose(load_image(tmp_path / "a.png")[2, 2], torch.tensor([1.0, 0.502, 0.0]), atol=0.005)
