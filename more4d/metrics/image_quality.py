"""How alike two pictures are: PSNR, and SSIM (Wang et al. 2004, "Image quality assessment: from error
visibility to structural similarity").

SSIM as the authors' own program computes it: a Gaussian window of 11 x 11 with a sigma of 1.5, K1 = 0.01 and
K2 = 0.03, variances of the whole population, and no window that leaves the picture, so that a border of 5
pixels has no value of its own. Colours are compared channel by channel. That program also halves large
pictures first; here the caller does.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


def psnr_db(
    first: Float[Tensor, "*batch height width channels"],
    second: Float[Tensor, "*batch height width channels"],
) -> Float[Tensor, "*batch"]:
    """Peak signal to noise ratio in decibels of pictures in [0, 1]; infinite for equal ones.

    Raises:
        ValueError: the pictures are not alike in shape.
    """
    check_same_shape(first, second, min_side=1)
    return -10 * torch.log10((first - second).square().mean((-3, -2, -1)))


def ssim(
    first: Float[Tensor, "*batch height width channels"],
    second: Float[Tensor, "*batch height width channels"],
) -> Float[Tensor, "*batch"]:
    """Mean structural similarity of pictures in [0, 1]: 1 for equal ones, about 0 for unrelated ones.

    Raises:
        ValueError: the pictures are not alike in shape, or smaller than the window of 11 x 11 pixels.
    """
    check_same_shape(first, second, min_side=WINDOW)
    mean_a, mean_b = _windowed(first), _windowed(second)
    variances = _windowed(first.square()) - mean_a.square() + _windowed(second.square()) - mean_b.square()
    covariance = _windowed(first * second) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a.square() + mean_b.square() + C1)
    structure = (2 * covariance + C2) / (variances + C2)
    return (luminance * structure).mean((-3, -2, -1))


def _windowed(values: Tensor) -> Tensor:
    """Weighted means over all windows that lie inside: [*batch, channels, height - 10, width - 10]."""
    place = torch.arange(WINDOW, dtype=values.dtype, device=values.device) - WINDOW // 2
    weights = torch.exp(-place.square() / (2 * SIGMA**2))
    weights = weights / weights.sum()
    planes = values.movedim(-1, -3)
    flat = planes.reshape(-1, 1, *planes.shape[-2:])
    flat = conv2d(conv2d(flat, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return flat.reshape(*planes.shape[:-2], *flat.shape[-2:])


def check_same_shape(first: Tensor, second: Tensor, *, min_side: int) -> None:
    """Refuse pictures that cannot be compared, or have less than `min_side` pixels to a side.

    Raises:
        ValueError: they are not alike in shape, or too small.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"pictures must be alike in shape, got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    if min(first.shape[-3:-1]) < min_side:
        raise ValueError(
            f"pictures must have at least {min_side} x {min_side} pixels, got {tuple(first.shape)}"
        )
