"""What every point tracker promises, and how one is opened by name."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from more4d.geometry.camera import Camera
from more4d.geometry.tracks import PointTracks


@runtime_checkable
class PointTracker(Protocol):
    """A video with its depth to one 3-D path per pixel of the first frame."""

    def track(
        self,
        video: Float[Tensor, "frames height width 3"],
        depth_m: Float[Tensor, "frames height width"],
        camera: Camera,
    ) -> PointTracks:
        """Paths of all pixels of frame 0 of a video in [0, 1], on the CPU.

        Each frame's positions are in metres in *that frame's own camera*: a camera that moves is not taken
        out (`camera_motion` does that). Visibility says where a point is really seen; elsewhere its position
        is a guess, but always finite.

        Raises:
            ValueError: video and depth do not fit each other.
        """
        ...
