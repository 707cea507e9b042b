"""The interface of point trackers; `registry` opens one by name."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.geometry.camera import Camera
from more4d.geometry.tracks import PointTracks

Video = Float[Tensor, "frames height width 3"]
Depths = Float[Tensor, "frames height width"]


@runtime_checkable
class PointTracker(Protocol):
    """A video with its depth to one 3-D path per pixel of the first frame."""

    def track(self, video: Video, depth_m: Depths, camera: Camera) -> PointTracks:
        """Paths of all pixels of frame 0 of a video in [0, 1], on the CPU.

        Each frame's positions are in metres in *that frame's own camera*: a camera that moves is not taken
        out (`camera_motion` does that). Visibility marks where a point is really seen; elsewhere its position
        is a guess, but always finite.

        Raises:
            ValueError: video and depth do not fit each other.
        """
        ...


def check_video(video: Float[Tensor, "..."], depth_m: Float[Tensor, "..."]) -> None:
    """Refuse what no tracker can use: anything but a video and the depth of its every pixel.

    Raises:
        ValueError: the shapes differ, there is no pixel, colours leave [0, 1], or depth is not finite and
            positive.
    """
    if video.ndim != 4 or video.shape[-1] != 3 or tuple(depth_m.shape) != tuple(video.shape[:3]):
        raise ValueError(
            f"need a video frames x height x width x 3 and its depth, got {tuple(video.shape)} "
            f"and {tuple(depth_m.shape)}"
        )
    if not video.numel() or not (float(video.min()) >= 0 and float(video.max()) <= 1):
        raise ValueError("a video has at least one pixel, and its values lie in [0, 1]")
    if not bool((torch.isfinite(depth_m) & (depth_m > 0)).all()):
        raise ValueError("depth must be finite and positive everywhere; DepthMap.from_raw fills gaps")
