"""The focal length that a camera wrote into the file of its photo."""

import logging
import math
from pathlib import Path

import pytest
from PIL import Image

from more4d.files.image import focal_in_diagonals
from more4d.foundation.errors import InputError
from more4d.pipelines.depth import read_photo


def save(
    path: Path, width: int, height: int, film_mm: int | None, recorded: tuple[int, int] | None = None
) -> Path:
    image, exif = Image.new("RGB", (width, height), (90, 120, 30)), Image.Exif()
    tags = exif.get_ifd(0x8769)
    if film_mm is not None:
        tags[0xA405] = film_mm
    if recorded is not None:
        tags[0xA002], tags[0xA003] = recorded
    image.save(path, exif=exif)
    return path


@pytest.mark.parametrize(("width", "height"), [(64, 48), (48, 64), (96, 64)])
def test_equivalence_is_by_the_diagonal(tmp_path: Path, width: int, height: int) -> None:
    camera = read_photo(save(tmp_path / "p.jpg", width, height, 26)).camera
    diagonal = 26 / 43.27 * math.hypot(width, height)
    assert camera.fx * width == pytest.approx(diagonal) and camera.fy * height == pytest.approx(diagonal)


def test_a_photo_without_the_tag_and_an_unknown_length_give_none(tmp_path: Path) -> None:
    assert read_photo(save(tmp_path / "p.jpg", 64, 48, None)).camera is None
    assert read_photo(save(tmp_path / "p.jpg", 64, 48, 0)).camera is None


def test_a_reduced_photo_keeps_it_and_a_cropped_one_does_not(tmp_path: Path, caplog) -> None:
    reduced = save(tmp_path / "p.jpg", 64, 48, 26, recorded=(4000, 3000))
    assert focal_in_diagonals(reduced, height=48, width=64) == pytest.approx(26 / 43.27)
    with caplog.at_level(logging.WARNING, "more4d"):
        assert read_photo(save(tmp_path / "p.jpg", 64, 64, 26, recorded=(4000, 3000))).camera is None
        assert "was cropped" in caplog.text and "--fov" in caplog.text
        assert read_photo(save(tmp_path / "p.jpg", 120, 48, 26)).camera is None


def test_what_the_user_says_counts_more(tmp_path: Path) -> None:
    path = save(tmp_path / "p.jpg", 64, 48, 26)
    assert read_photo(path, fov=90.0).camera.fx == pytest.approx(0.5)
    assert read_photo(path, intrinsics=(64.0, 64.0, 32.0, 24.0)).camera.fx == 1
    with pytest.raises(InputError, match="leave one of the two out"):
        read_photo(path, fov=90.0, intrinsics=(1.0, 1.3, 0.5, 0.5))
