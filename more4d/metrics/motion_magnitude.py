"""How much moves in an orbital video: the motion magnitude m(V) of Diffusion4D (Liang et al., arXiv
2405.16645).

A video along an orbit changes because the camera moves and because the thing does. The same orbit about the
thing standing still has only the first, so the difference of the two is motion: m(V) is the mean over the
frames of the squared difference to the static orbit. Here it is divided by the number of values of a
picture as well, so that it does not depend on the size.
"""

from jaxtyping import Float
from torch import Tensor


def motion_magnitude(
    moving: Float[Tensor, "frames height width channels"],
    static: Float[Tensor, "frames height width channels"],
) -> float:
    """Mean squared difference of two videos in [0, 1] that were filmed along one path: 0 if nothing moves.

    Raises:
        ValueError: the videos differ in shape.
    """
    if moving.shape != static.shape:
        raise ValueError(
            f"videos must have one shape, got {tuple(moving.shape)} and {tuple(static.shape)}; film both "
            "along one path"
        )
    return float((moving - static).square().mean())
