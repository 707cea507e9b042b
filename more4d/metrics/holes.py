"""How good filled holes are: closeness to the truth inside them, and whether they flicker."""

from jaxtyping import Bool, Float
from torch import Tensor


def hole_psnr_db(
    video: Float[Tensor, "frames height width 3"],
    truth: Float[Tensor, "frames height width 3"],
    holes: Bool[Tensor, "frames height width"],
) -> float:
    """Peak signal to noise ratio over the pixels of the holes, in decibels; NaN where there is no hole."""
    return float(-10 * (video - truth)[holes].square().mean().log10())


def flicker(
    video: Float[Tensor, "frames height width 3"],
    truth: Float[Tensor, "frames height width 3"],
    holes: Bool[Tensor, "frames height width"],
) -> float:
    """Mean change from frame to frame of pixels that are holes in both, as a share of the truth's change
    there.

    1: as lively as the truth; 1.2: a fifth more; NaN where no pixel is a hole twice running.
    """
    both = holes[1:] & holes[:-1]
    changes = [each.diff(dim=0).abs()[both].mean() for each in (video, truth)]
    return float(changes[0] / changes[1])
