"""How good filled holes are: closeness to the truth inside them, and whether they flicker."""

from jaxtyping import Bool, Float
from torch import Tensor


def hole_psnr_db(
    video: Float[Tensor, "frames height width 3"],
    truth: Float[Tensor, "frames height width 3"],
    hole_mask: Bool[Tensor, "frames height width"],
) -> float:
    """Peak signal to noise ratio over the pixels of the holes, in decibels; NaN where there is no hole."""
    return float(-10 * (video - truth)[hole_mask].square().mean().log10())


def hole_flicker(
    video: Float[Tensor, "frames height width 3"], hole_mask: Bool[Tensor, "frames height width"]
) -> float:
    """Mean change from frame to frame of pixels that are holes in both; NaN where there is none.

    In the change of the truth there it tells flicker: 1 is as lively, 1.2 a fifth more.
    """
    both = hole_mask[1:] & hole_mask[:-1]
    return float(video.diff(dim=0).abs()[both].mean())
