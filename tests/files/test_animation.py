"""Animations have the film's size, length and colours, whatever the program that shows them."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from more4d.files import animation
from more4d.files.animation import COLOURS, MAX_BYTES, MAX_SIDE, MIN_SIDE, save_animation, schedule

KINDS = [".gif", ".webp"]


def a_film(frames: int = 9, height: int = 60, width: int = 80) -> torch.Tensor:
    """A ramp of many colours, before which a square moves."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    film = torch.stack([x, y, 1 - x], -1).repeat(frames, 1, 1, 1)
    for frame in range(frames):
        left = frame * (width - 10) // max(frames - 1, 1)
        film[frame, height // 4 : height // 2, left : left + 10] = 1
    return (film * 255).round().byte()


def noise(frames: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (frames, height, width, 3), generator=generator, dtype=torch.uint8)


def shown(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """Frames as a program shows them, and the milliseconds of each."""
    with Image.open(path) as opened:
        pages = [
            (np.asarray(page.convert("RGB")), page.info["duration"])
            for page in ImageSequence.Iterator(opened)
        ]
    return [page for page, _ in pages], [duration for _, duration in pages]


@pytest.mark.parametrize("kind", KINDS)
def test_frames_come_back_in_time_and_for_ever(tmp_path, kind):
    film = a_film()
    save_animation(tmp_path / f"a{kind}", film, fps=12)
    pages, durations_ms = shown(tmp_path / f"a{kind}")
    assert len(pages) == 9 and sum(durations_ms) == 750
    assert pages[0].shape == (60, 80, 3)
    for page, frame in zip(pages, film.numpy(), strict=True):
        assert np.abs(page.astype(int) - frame).mean() < 8
    with Image.open(tmp_path / f"a{kind}") as opened:
        assert opened.info["loop"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_film_is_the_same_file(tmp_path, kind):
    for name in ("one", "two"):
        save_animation(tmp_path / f"{name}{kind}", iter(a_film()), fps=12)
    assert (tmp_path / f"one{kind}").read_bytes() == (tmp_path / f"two{kind}").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("size", "small"), [((300, 960), (150, 480)), ((960, 720), (480, 360)), ((1, 1), (1, 1))]
)
def test_the_longer_side_is_limited(tmp_path, kind, size, small):
    save_animation(tmp_path / f"a{kind}", a_film(2, *size), fps=12)
    assert shown(tmp_path / f"a{kind}")[0][0].shape[:2] == small and max(small) <= MAX_SIDE


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_file_is_made_smaller(tmp_path, kind, monkeypatch):
    film = noise(6, 240, 200)
    save_animation(tmp_path / f"large{kind}", film, fps=12)
    monkeypatch.setattr(animation, "MAX_BYTES", (tmp_path / f"large{kind}").stat().st_size // 2)
    save_animation(tmp_path / f"a{kind}", film, fps=12)
    assert (tmp_path / f"a{kind}").stat().st_size <= animation.MAX_BYTES
    side = max(shown(tmp_path / f"a{kind}")[0][0].shape)
    assert MIN_SIDE < side < 240


def test_the_longest_film_fits_at_the_smallest_side(tmp_path):
    """Ten frames of noise, in GIF, which nothing compresses, as a share of 400."""
    save_animation(tmp_path / "a.gif", noise(10, MIN_SIDE, MIN_SIDE), fps=12)
    assert (tmp_path / "a.gif").stat().st_size * 400 / 10 < 1.1 * MAX_BYTES


@pytest.mark.parametrize("tick_ms", [1, 10])
@pytest.mark.parametrize("fps", [0.1, 7.3, 12, 23.976, 30, 50, 60, 240])
@pytest.mark.parametrize("frames", [1, 2, 49, 400])
def test_times_add_up_to_the_film(fps, frames, tick_ms):
    times, durations_ms = schedule(frames, fps, tick_ms)
    assert len(times) == len(durations_ms) and times[0] == 0
    assert abs(sum(durations_ms) - 1000 * frames / fps) <= tick_ms / 2 or frames / fps < 0.01
    assert all(duration % tick_ms == 0 and duration >= tick_ms for duration in durations_ms)
    starts = np.cumsum([0, *durations_ms[:-1]])
    assert np.abs(starts - 1000 * np.array(times) / fps).max() <= tick_ms / 2
    if frames / fps > 0.02:
        assert min(durations_ms) >= 20 - tick_ms  # browsers show shorter ones for 100 ms


def test_a_gif_has_one_palette_for_all_frames(tmp_path):
    save_animation(tmp_path / "a.gif", a_film(), fps=12)
    data = (tmp_path / "a.gif").read_bytes()
    assert data[10] & 0x87 == 0x87  # a global palette of 256 colours
    place, images, own_palettes = 13 + 3 * 256, 0, 0
    while data[place] != 0x3B:
        if data[place] == 0x2C:
            images += 1
            own_palettes += data[place + 9] >> 7
            place += 11  # to the blocks of pixels
        else:
            place += 2  # an extension: to its blocks
        while data[place]:
            place += data[place] + 1
        place += 1
    assert (images, own_palettes) == (9, 0)


def test_dithering_stays_where_it_is(tmp_path):
    """What does not move has the same colours in every frame."""
    save_animation(tmp_path / "a.gif", a_film(), fps=12)
    pages = shown(tmp_path / "a.gif")[0]
    for page in pages[1:]:
        assert np.array_equal(page[35:], pages[0][35:])


def test_dithering_keeps_the_mean_colour(tmp_path):
    film = a_film()
    save_animation(tmp_path / "a.gif", film, fps=12)
    page = shown(tmp_path / "a.gif")[0][4].astype(float)
    blocks = (page - film[4].numpy())[32:56].reshape(3, 8, 10, 8, 3).mean((1, 3))
    assert np.abs(blocks).mean() < 3 and len(np.unique(page.reshape(-1, 3), axis=0)) <= COLOURS


def test_few_colours_are_not_dithered(tmp_path):
    film = torch.zeros(2, 40, 40, 3, dtype=torch.uint8)
    film[0, :, 20:] = torch.tensor([200, 30, 90], dtype=torch.uint8)
    film[1, :, :20] = torch.tensor([20, 130, 190], dtype=torch.uint8)
    save_animation(tmp_path / "a.gif", film, fps=12)
    for page, frame in zip(shown(tmp_path / "a.gif")[0], film.numpy(), strict=True):
        assert np.array_equal(page, frame)


@pytest.mark.parametrize("kind", KINDS)
def test_a_film_that_stands_still_takes_its_time(tmp_path, kind):
    save_animation(tmp_path / f"a{kind}", a_film(1).repeat(12, 1, 1, 1), fps=12)
    with Image.open(io.BytesIO((tmp_path / f"a{kind}").read_bytes())) as opened:
        assert opened.size == (80, 60)


def test_what_is_no_animation_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.gif or \.webp"):
        save_animation(tmp_path / "a.png", a_film(), fps=12)
    with pytest.raises(ValueError, match="at least one frame"):
        save_animation(tmp_path / "a.gif", [], fps=12)
    assert not list(tmp_path.iterdir())
