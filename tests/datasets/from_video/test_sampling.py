"""Clips take equally spaced frames of one shot, at the nearest rate the video has."""

import pytest
import torch

from more4d.datasets.from_video.clip_maker import find_windows, frames_per_second, nearest_divisor


def even(frames: int, rate: float) -> torch.Tensor:
    return torch.arange(frames) / rate


@pytest.mark.parametrize(
    ("rate", "wanted", "every"),
    [
        (60, 12, 5),
        (30, 12, 3),
        (29.97, 12, 3),
        (25, 12, 2),
        (24, 12, 2),
        (10, 12, 1),
        (12, 12, 1),
        (8, 24, 1),
    ],
)
def test_the_rate_is_the_nearest_the_video_has(rate, wanted, every):
    assert nearest_divisor(float(rate), float(wanted)) == every
    windows = find_windows(even(200, rate), [range(200)], fps=float(wanted), frames=9, step=9)
    assert windows[0].fps == pytest.approx(rate / every, rel=1e-4)
    assert windows[0].frame_indices == tuple(range(0, 9 * every, every))


@pytest.mark.parametrize("step", [3, 9, 20])
def test_clips_stay_in_their_shot_and_start_a_step_apart(step):
    shots = [range(0, 40), range(40, 58), range(70, 131)]
    windows = find_windows(even(131, 24), shots, fps=12.0, frames=9, step=step)
    starts = [first for shot in shots for first in range(shot.start, shot.stop - 16, 2 * step)]
    assert [window.frame_indices[0] for window in windows] == starts
    for window in windows:
        shot = next(shot for shot in shots if window.frame_indices[0] in shot)
        assert set(window.frame_indices) <= set(shot) and len(window.frame_indices) == 9


def test_a_shot_of_exactly_one_clip_gives_it():
    assert len(find_windows(even(17, 24), [range(17)], fps=12.0, frames=9, step=9)) == 1
    assert find_windows(even(16, 24), [range(16)], fps=12.0, frames=9, step=9) == []


def test_uneven_times_are_followed_in_time_not_in_number():
    times = torch.cat([even(24, 24), 1 + even(40, 48)])  # the rate doubles after a second
    window = find_windows(times, [range(len(times))], fps=24.0, frames=33, step=33)[0]
    moments = times[list(window.frame_indices)]
    assert torch.allclose(moments.diff(), torch.full((32,), float(moments.diff().median())), atol=0.022)
    assert window.frame_indices[-1] - window.frame_indices[0] > 32


def test_a_clip_that_would_show_a_frame_twice_is_left_out():
    times = torch.cat([even(30, 10), 5 + even(30, 10)])  # nothing for two seconds
    for window in find_windows(times, [range(60)], fps=10.0, frames=9, step=9):
        assert len(set(window.frame_indices)) == 9


@pytest.mark.parametrize("times", [torch.zeros(0), torch.zeros(1), torch.zeros(9)])
def test_a_video_without_a_rate_gives_no_clip(times):
    assert frames_per_second(times) == 0
    assert find_windows(times, [range(len(times))], fps=12.0, frames=5, step=5) == []
