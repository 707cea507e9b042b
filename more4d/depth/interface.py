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


def check_image(image: Float[Tensor, "height width 3"]) -> None:
    """Refuse what no estimator can use.

    Raises:
        ValueError: the image is not height x width x 3, has no pixel, or leaves [0, 1].
    """
    if image.ndim != 3 or image.shape[-1] != 3 or image.numel() == 0:
        raise ValueError(f"an image is height x width x 3 with at least one pixel, got {tuple(image.shape)}")
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):  # also refuses NaN
        raise ValueError(f"an image's values lie in [0, 1], got {low} to {high}")
