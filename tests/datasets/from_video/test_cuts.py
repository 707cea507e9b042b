"""Clips end where scenes end, and fast motion, flashes and noise are no end."""

import pytest
import torch

from more4d.datasets.from_video.cuts import find_cuts, find_gradual_changes, find_shots, thumbnail_size
from more4d.files.video import probe_video, stream_video

HEIGHT, WIDTH = 36, 64


def world(seed: int, *, across: int = 8) -> torch.Tensor:
    """A smooth random picture, far wider than a frame."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 9 * across, generator=generator)
    size = (HEIGHT, WIDTH * across)
    return torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1)[0].movedim(0, -1)


def pan(
    seed: int, frames: int, *, speed: float, jerk_at: int | None = None, noise: float = 0.0
) -> torch.Tensor:
    """A camera that turns at `speed` pixels a frame, and once, if asked for, by ten more."""
    picture, generator = world(seed), torch.Generator().manual_seed(seed)
    shots = []
    for frame in range(frames):
        left = round(speed * frame) + (10 if jerk_at is not None and frame >= jerk_at else 0)
        shot = picture[:, left : left + WIDTH]
        shots.append(shot + noise * torch.randn(shot.shape, generator=generator))
    return torch.stack(shots).clamp(0, 1)


def seen(video: torch.Tensor) -> torch.Tensor:
    return (video * 255).round().to(torch.uint8)


def dissolved(first: torch.Tensor, second: torch.Tensor, frames: int) -> torch.Tensor:
    share = torch.linspace(0, 1, frames)[:, None, None, None]
    middle = first[-frames:] * (1 - share) + second[:frames] * share
    return torch.cat([first[:-frames], middle, second[frames:]])


@pytest.mark.parametrize("speed", [0, 1, 4])
@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_shots_are_the_scenes_that_were_joined(speed, noise):
    video = torch.cat([pan(seed, 20 + 5 * seed, speed=speed, noise=noise) for seed in range(4)])
    assert find_shots(seen(video)) == [range(0, 20), range(20, 45), range(45, 75), range(75, 110)]


@pytest.mark.parametrize("speed", [0, 2, 7, 11])
def test_a_moving_camera_is_no_cut(speed):
    assert find_shots(seen(pan(3, 40, speed=speed))) == [range(0, 40)]


def test_a_jerk_of_the_camera_is_no_cut():
    assert find_cuts(seen(pan(1, 40, speed=0.2, jerk_at=20))) == []


def test_a_thing_that_crosses_the_picture_is_no_cut():
    video = pan(2, 30, speed=0)
    for frame in range(10, 27):
        video[frame, 6:30, max(0, 5 * (frame - 14)) : 5 * (frame - 9)] = torch.tensor([0.9, 0.1, 0.1])
    assert find_shots(seen(video)) == [range(0, 30)]


def test_a_flash_is_no_cut():
    video = pan(2, 30, speed=0.5)
    video[14] = 0.2 * video[14] + 0.8
    assert find_cuts(seen(video)) == []


@pytest.mark.parametrize("length", [10, 20, 30])
@pytest.mark.parametrize("black", [False, True])
def test_no_shot_reaches_across_a_fade(length, black):
    first, second = pan(4, 60, speed=0.1), pan(5, 60, speed=0.1)
    dark = torch.zeros_like(first)
    video = dissolved(first, dark if black else second, length)
    shots = find_shots(seen(video))
    begin, end = 60 - length, 60
    assert all(shot.stop <= begin + 3 or shot.start >= end - 3 for shot in shots), shots
    assert max(map(len, shots)) >= 52 - length, "what is not fading is kept"


def test_a_slow_camera_is_no_fade():
    assert find_gradual_changes(seen(pan(6, 80, speed=1.5))) == set()


def test_shots_cover_everything_between_gradual_changes():
    video = seen(torch.cat([pan(0, 12, speed=1), pan(1, 9, speed=1)]))
    covered = [frame for shot in find_shots(video) for frame in shot]
    assert covered == list(range(21))
    assert find_shots(video[:1]) == [range(0, 1)] and find_shots(video[:0]) == []


def test_thumbnails_stand_as_the_video_does():
    assert thumbnail_size(1080, 1920) == (36, 64) and thumbnail_size(1920, 1080) == (64, 36)


def test_real_videos_are_cut_where_they_were_joined(shared):
    folder = shared / "data" / "video-a"
    parts = [
        torch.stack(list(stream_video(folder / name, frame_indices=range(40), size=(HEIGHT, WIDTH))))
        for name in ("camel.mp4", "sheep.mp4", "l4gm/lifting1_fg.mp4", "l4gm/otter-on-surfboard_fg.mp4")
    ]
    assert find_shots(torch.cat(parts)) == [range(start, start + 40) for start in (0, 40, 80, 120)]


@pytest.mark.parametrize("name", ["camel.mp4", "sheep.mp4", "l4gm/lifting1_fg.mp4"])
def test_a_real_shot_is_one(shared, name):
    path = shared / "data" / "video-a" / name
    frames = torch.stack(list(stream_video(path, size=(HEIGHT, WIDTH))))
    assert find_shots(frames) == [range(0, len(probe_video(path).times_s))]
