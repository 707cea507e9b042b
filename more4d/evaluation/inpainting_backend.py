"""OpenCV's inpainting (Telea 2004) frame by frame: what a hole filler must beat."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from more4d.foundation.optional import require

RADIUS_PX = 3


def opencv_inpainting(
    known: Float[Tensor, "frames height width 3"], coverage: Float[Tensor, "frames height width"]
) -> Float[Tensor, "frames height width 3"]:
    """Each frame's holes grown over from their borders, at 8 bits per colour.

    Raises:
        MissingPackageError: OpenCV is not installed.
    """
    cv2 = require("cv2", extra="train")
    filled = []
    for picture, covered in zip(known, coverage, strict=True):
        pixels = (picture * 255).round().clamp(0, 255).byte().numpy()
        holes = (covered <= 0.5).byte().numpy()
        grown = cv2.inpaint(np.ascontiguousarray(pixels), holes, RADIUS_PX, cv2.INPAINT_TELEA)
        filled.append(torch.from_numpy(grown).float() / 255)
    return torch.stack(filled)
