"""The interface of depth estimators; `registry` opens one by name."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from more4d.geometry.camera import Camera, DepthMap


@runtime_checkable
class DepthEstimator(Protocol):
    """One photo to a depth map in metres and the camera that took it."""

    def estimate(self, image: Float[Tensor, "height width 3"], camera: Camera | None = None) -> DepthMap:
        """Depth of every pixel of an image in [0, 1], at the image's own size, on the CPU.

        A given `camera` is honoured: the result carries exactly that camera and its depth is scaled for it.
        Otherwise the field of view is estimated too.

        Raises:
            ValueError: the image is not height x width x 3, has no pixel, or leaves [0, 1].
        """
        ...
