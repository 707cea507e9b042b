"""LPIPS (Zhang et al., arXiv 1801.03924) by its authors' package, whole and masked as DyCheck does (mLPIPS).

The adapter follows the published interface of `lpips`. It was tested with a stand-in of that interface: the
package needs torchvision and the weights of AlexNet, which were not at hand, so it has not been run with
them.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from more4d.foundation.errors import WeightsError
from more4d.foundation.optional import require

Video = Float[Tensor, "frames height width 3"]


class Lpips:
    """Perceptual distance of pictures: 0 for equal ones."""

    def __init__(self, model: Any) -> None:
        """`model` is called as `lpips.LPIPS(spatial=True)` is: two batches in [-1, 1] to [b, 1, h, w]."""
        self._model = model

    @classmethod
    def open(cls) -> "Lpips":
        """The version with AlexNet; torchvision keeps its weights, and fetches them where it has none.

        Raises:
            MissingPackageError: lpips is not installed.
            WeightsError: AlexNet's weights cannot be had.
        """
        module = require("lpips", extra="evaluate")
        try:
            return cls(module.LPIPS(net="alex", spatial=True, verbose=False).eval())
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"cannot load the weights that LPIPS needs ({reason})") from error

    @torch.inference_mode()
    def distance(
        self, video: Video, truth: Video, mask: Bool[Tensor, "frames height width"] | None = None
    ) -> float:
        """Mean over the frames, of the pixels of `mask` only, outside which both are black."""
        kept = torch.ones(video.shape[:3]) if mask is None else mask.float()
        first, second = (each.permute(0, 3, 1, 2) * kept[:, None] * 2 - 1 for each in (video, truth))
        distance = self._model(first, second)[:, 0].cpu()
        return float((distance * kept).sum() / kept.sum())
