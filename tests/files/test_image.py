"""Pictures of every kind load upright, in [0, 1]; what is no picture is refused in one line."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from more4d.files import image as image_module
from more4d.files.image import (
    encode_jpeg,
    load_depth_image,
    load_image,
    save_image,
    to_uint8,
)
from more4d.foundation.errors import InputError

ODD = {
    "12in16bit.tif": (100, 100),
    "16_bit_binary.pgm": (100, 20),
    "16bit.cropped.tif": (64, 64),
    "apng/mode_grayscale_alpha.png": (64, 128),
    "exif_imagemagick_orientation.png": (512, 512),
    "hopper.webp": (128, 128),
    "hopper_gray.jpg": (128, 128),
    "horse.png": (328, 400),
    "kodim03.png": (512, 768),
    "pil_sample_cmyk.jpg": (100, 100),
    "transparent.png": (150, 200),
}


def write(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path)
    return path


@pytest.mark.parametrize("name", ODD)
def test_odd_pictures_load(shared: Path, name: str) -> None:
    image = load_image(shared / "data" / "odd-images-a" / name)
    assert tuple(image.shape) == (*ODD[name], 3)
    assert image.dtype == torch.float32
    assert float(image.min()) >= 0 and 0.3 < float(image.max()) <= 1
    assert float(image.std()) > 0.02


@pytest.mark.parametrize("orientation", range(2, 9))
def test_every_exif_orientation_loads_upright(shared: Path, orientation: int) -> None:
    folder = shared / "data" / "exif-orientations"
    upright = load_image(folder / "Landscape_1.jpg")
    image = load_image(folder / f"Landscape_{orientation}.jpg")
    assert image.shape == upright.shape == (1200, 1800, 3)
    # The label in the middle differs, the rest is one photo compressed anew.
    assert float((image - upright).abs().mean()) < 0.02
    assert float((image.flip(1) - upright).abs().mean()) > 0.05


@pytest.mark.parametrize(("height", "width"), [(1, 1), (200, 12000)])
def test_extreme_sizes_load(tmp_path: Path, height: int, width: int) -> None:
    path = write(tmp_path / "odd.png", np.full((height, width, 3), 51, np.uint8))
    torch.testing.assert_close(load_image(path), torch.full((height, width, 3), 0.2))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_every_mode_loads_a_grey_picture_as_grey(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "grey.tif"
    if mode in ("I;16", "I"):
        kind = np.uint16 if mode == "I;16" else np.int32
        Image.fromarray(np.array([[0, 32768], [65535, 65535]], kind)).save(path)
    elif mode == "F":
        Image.fromarray(np.array([[0, 0.5], [1, 1]], np.float32)).save(path)
    else:
        grey = Image.fromarray(np.array([[0, 128], [255, 255]], np.uint8)).convert("RGB")
        (grey.quantize() if mode == "P" else grey.convert(mode)).save(path)
    image = load_image(path)
    expected = torch.tensor([[0.0, 0.5], [1.0, 1.0]])
    if mode == "1":
        image, expected = image[1], expected[1]
    torch.testing.assert_close(image, expected[..., None].expand_as(image), rtol=0, atol=0.02)


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "deep.png", np.array([[1000, 40000, 40001]], np.uint16))
    image = load_image(path)
    torch.testing.assert_close(image[0, :, 0] * 65535, torch.tensor([1000.0, 40000, 40001]), rtol=0, atol=0.1)


def test_twelve_bits_in_sixteen_are_stretched_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "dark.png", np.array([[0, 2000, 4000]], np.uint16))
    with caplog.at_level(logging.WARNING):
        image = load_image(path)
    torch.testing.assert_close(image[0, :, 0], torch.tensor([0.0, 0.5, 1.0]))
    assert "nearly black" in caplog.text


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    path = write(tmp_path / "glass.png", np.array([[[255, 0, 0, 51], [0, 0, 255, 255]]], np.uint8))
    torch.testing.assert_close(load_image(path)[0], torch.tensor([[1.0, 0.8, 0.8], [0.0, 0.0, 1.0]]))


def test_palette_transparency_lies_over_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([255, 0, 0, 0, 0, 255] + [0] * 762)
    image.save(tmp_path / "palette.png", transparency=0)
    torch.testing.assert_close(
        load_image(tmp_path / "palette.png")[0], torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    )


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_of_an_animation_the_first_frame_is_taken(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    path = tmp_path / f"moving.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    with caplog.at_level(logging.WARNING):
        image = load_image(path)
    torch.testing.assert_close(image[4, 4], torch.tensor([1.0, 0.0, 0.0]), rtol=0, atol=0.03)
    assert "holds 3 frames; the first is taken" in caplog.text


def test_large_pictures_are_averaged_down_on_request(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    path = write(tmp_path / "large.png", array)
    small = load_image(path, max_pixels=160)
    assert small.shape == (10, 15, 3)
    expected = load_image(path).reshape(10, 4, 15, 4, 3).mean((1, 3))
    torch.testing.assert_close(small, expected)
    assert load_image(path, max_pixels=2400).shape == (40, 60, 3)


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = {kind: write(folder / f"whole.{kind}", noise).read_bytes() for kind in ("jpg", "png", "webp")}
    cases = {"missing": (folder / "none.png", "No such file"), "folder": (folder, "is a folder")}
    texts = {
        "empty": (b"", "empty"),
        "text": (b"not a picture\n", "not a picture"),
        "header": (whole["png"][:8], ""),
    }
    for name, (data, message) in texts.items():
        (folder / f"{name}.png").write_bytes(data)
        cases[name] = (folder / f"{name}.png", message)
    for kind, data in whole.items():
        path = folder / f"half.{kind}"
        path.write_bytes(data[: len(data) // 2])
        cases[f"half {kind}"] = (path, "truncated" if kind != "webp" else "")
    return cases


@pytest.mark.parametrize(
    "case", ["missing", "folder", "empty", "text", "header", "half jpg", "half png", "half webp"]
)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, case: str) -> None:
    path, message = bad_files(tmp_path)[case]
    with pytest.raises(InputError) as caught:
        load_image(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "large.png", np.zeros((100, 100), np.uint8))
    monkeypatch.setattr(image_module, "MAX_PIXELS", 9_999)
    with pytest.raises(InputError, match="shrink it first"):
        load_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)
    with pytest.raises(InputError, match="shrink it first"):
        load_image(path)


def test_a_claimed_side_is_judged_before_it_is_decoded(tmp_path: Path) -> None:
    contents = bytearray(write(tmp_path / "a.bmp", np.zeros((8, 8, 3), np.uint8)).read_bytes())
    contents[18:26] = (2_000_000).to_bytes(4, "little") + (20).to_bytes(4, "little")
    (tmp_path / "a.bmp").write_bytes(contents)
    with pytest.raises(InputError, match="a side above"):
        load_image(tmp_path / "a.bmp")


def test_save_and_load_round_trip_exactly_in_eight_bits(tmp_path: Path) -> None:
    image = torch.rand(9, 7, 3, generator=torch.Generator().manual_seed(0))
    save_image(tmp_path / "new" / "image.png", image)
    again = load_image(tmp_path / "new" / "image.png")
    assert torch.equal(to_uint8(again), to_uint8(image))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["image.png"]


def test_values_outside_are_clipped_when_saved() -> None:
    assert to_uint8(torch.tensor([-1.0, 0.5, 2.0])).tolist() == [0, 128, 255]


def test_depth_pictures_keep_their_whole_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "depth.png", np.array([[0, 1234, 65535]], np.uint16))
    assert load_depth_image(path).tolist() == [[0, 1234, 65535]]
    eight = write(tmp_path / "eight.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match="16-bit"):
        load_depth_image(eight)


def test_a_jpeg_in_memory_is_the_picture(tmp_path: Path) -> None:
    ramp = torch.linspace(0, 1, 40).expand(32, 40)[..., None].repeat(1, 1, 3)
    (tmp_path / "ramp.jpg").write_bytes(encode_jpeg(ramp, quality=95))
    assert float((load_image(tmp_path / "ramp.jpg") - ramp).abs().max()) < 0.02
