"""Which frames of a video become which clip."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Window:
    """The frames of one clip.

    Attributes:
        frame_indices: in the video, rising.
        start_s: moment of the first one.
        fps: frames per second of the clip.
    """

    frame_indices: tuple[int, ...]
    start_s: float
    fps: float


def frames_per_second(times_s: Float[Tensor, " frames"]) -> float:
    """The usual rate of a video: one over the median time between two frames; 0 for a single frame."""
    if len(times_s) < 2:
        return 0.0
    between = float(times_s.double().diff().median())
    return round(1 / between, 3) if between > 0 else 0.0  # moments are known to about a millisecond


def find_windows(
    times_s: Float[Tensor, " frames"], shots: list[range], *, fps: float, frames: int, step: int
) -> list[Window]:
    """Clips of `frames` frames inside the shots, one after the other.

    A clip takes every n-th frame, with the n that brings its rate nearest to `fps`: all its frames are then
    equally far apart in time, which a rate of 12 taken from 30 frames per second could not give. Where a
    video's frames come at uneven times the nearest in time is taken, and a clip that would show one frame
    twice is left out.

    Args:
        times_s: when each frame of the video begins.
        shots: spans of frames that a clip must stay in.
        fps: rate wanted; a slower video keeps its own.
        frames: of each clip.
        step: frames of a clip from the start of one to the start of the next.
    """
    rate = frames_per_second(times_s)
    if not rate:
        return []
    every = nearest_divisor(rate, fps)
    windows = []
    for shot in shots:
        moments = times_s[shot.start : shot.stop].double()
        count = int((moments[-1] - moments[0]) * rate / every + 0.1) + 1
        for first in range(0, count - frames + 1, step):
            wanted = moments[0] + (first + torch.arange(frames)).double() * every / rate
            picked = (moments[None] - wanted[:, None]).abs().argmin(1)
            if int(picked.diff().min()) > 0:
                indices = tuple(shot.start + int(index) for index in picked)
                windows.append(
                    Window(
                        frame_indices=indices, start_s=float(times_s[indices[0]]), fps=round(rate / every, 3)
                    )
                )
    return windows


def nearest_divisor(rate: float, wanted: float) -> int:
    """The whole number n >= 1 for which `rate / n` is, by ratio, nearest to `wanted`."""
    low = max(1, int(rate / wanted))
    return min((low, low + 1), key=lambda n: max(rate / n / wanted, wanted * n / rate))
