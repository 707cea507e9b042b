"""UniDepthV2 (arXiv 2502.20110) behind the depth interface: metric depth and intrinsics (CC BY-NC 4.0).

It takes 8-bit pixels from 0 to 255 and normalises them itself; anything else is mistaken for such pixels.
Without a given camera, its depth belongs to the intrinsics it estimates: neither is mixed with others.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.foundation.errors import WeightsError
from more4d.foundation.optional import require
from more4d.geometry.camera import Camera, DepthMap, check_image

DEFAULT_WEIGHTS = "lpiccinelli/unidepth-v2-vitl14"


class UniDepthEstimator:
    """A UniDepthV2 model behind `DepthEstimator`."""

    def __init__(self, model: Any) -> None:
        """`model` has UniDepthV2's `infer(rgb, camera)`."""
        self._model = model

    @classmethod
    def open(cls, weights: Path | None, *, device: str | torch.device) -> "UniDepthEstimator":
        """Load the published weights, or those of the folder or identifier `weights`.

        Raises:
            MissingPackageError: unidepth is not installed.
            WeightsError: the weights cannot be loaded.
        """
        models = require("unidepth.models", extra="unidepth")
        name = str(weights or DEFAULT_WEIGHTS)
        try:
            model = models.UniDepthV2.from_pretrained(name)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"cannot load UniDepthV2 from '{name}' ({reason}); fetch it again") from error
        return cls(model.to(device).eval())

    @torch.no_grad()
    def estimate(self, image: Float[Tensor, "height width 3"], camera: Camera | None = None) -> DepthMap:
        """See `DepthEstimator.estimate`."""
        check_image(image)
        height, width = image.shape[:2]
        pixels = (image.permute(2, 0, 1) * 255).round().to(torch.uint8)
        matrix = None if camera is None else intrinsics_px(camera, height=height, width=width)
        prediction = self._model.infer(pixels, matrix)
        if camera is None:
            k = prediction["intrinsics"][0].float().cpu()
            fx, fy, cx, cy = (float(k[place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2)))
            camera = Camera.from_pixels(fx, fy, cx, cy, width=width, height=height)
        return DepthMap.from_raw(prediction["depth"][0, 0].float().cpu(), camera)


def intrinsics_px(camera: Camera, *, height: int, width: int) -> Float[Tensor, "3 3"]:
    """The 3 x 3 matrix of focal lengths and principal point in pixels."""
    fx, fy = camera.focal_px(width=width, height=height)
    return torch.tensor([[fx, 0, camera.cx * width], [0, fy, camera.cy * height], [0, 0, 1.0]])
