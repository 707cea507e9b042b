"""Damaged pictures and videos are read as far as they go, or refused in one line; none takes others along."""

from pathlib import Path

import pytest

from tests.files.damaged_media import Reading, read_apart, write_damaged, write_originals

FAST, ALL = 120, 2000


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_originals(tmp_path_factory.mktemp("originals"))


@pytest.fixture
def field_files(shared: Path) -> list[Path]:
    """Of formats that nothing here can write, and of cameras."""
    cases, data = shared / "data" / "field-cases", shared / "data"
    return [
        cases / "photo-heic" / "IMG_0001.HEIC",
        cases / "hdr-video" / "pq.mp4",
        cases / "hdr-video" / "hlg.mov",
        *(data / "odd-images-a" / name for name in ("12in16bit.tif", "pil_sample_cmyk.jpg", "hopper.webp")),
        data / "video-a" / "l4gm" / "blooming_rose_fg.mp4",
    ]


def failures(readings: list[Reading]) -> list[str]:
    """What is neither read nor refused in one line that names the file."""
    return [
        f"{each.path}: {each.outcome}"
        for each in readings
        if each.outcome not in ("read", "refused")
        or (each.outcome == "refused" and (str(each.path) not in each.message or "\n" in each.message))
    ]


def check(originals: list[Path], folder: Path, count: int, seed: int) -> list[Reading]:
    readings = list(read_apart(write_damaged(folder, originals, count, seed)))
    assert len(readings) == count
    assert failures(readings) == []
    outcomes = {each.outcome for each in readings}
    assert outcomes == {"read", "refused"}
    return readings


def test_whole_files_are_read(originals: list[Path]) -> None:
    assert [each.outcome for each in read_apart(originals)] == ["read"] * len(originals)


@pytest.mark.fuzz
def test_some_damaged_files_leave_no_traceback(originals: list[Path], tmp_path: Path) -> None:
    check(originals, tmp_path / "damaged", FAST, seed=1)


@pytest.mark.fuzz
def test_damaged_files_of_phones_and_cameras_leave_no_traceback(
    field_files: list[Path], tmp_path: Path
) -> None:
    check(field_files, tmp_path / "damaged", FAST // 4, seed=2)


@pytest.mark.fuzz
@pytest.mark.slow
def test_two_thousand_damaged_files_leave_no_traceback(originals: list[Path], tmp_path: Path) -> None:
    check(originals, tmp_path / "damaged", ALL, seed=0)
