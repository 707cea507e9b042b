"""PSNR and SSIM of a part of a picture, as DyCheck reports them (Gao et al., arXiv 2210.13445): mPSNR and
mSSIM.

A new view of a moving scene shows what its input never saw; DyCheck compares only the pixels that were
covisible. SSIM is masked by partial convolution (Liu et al., arXiv 1804.07723), one axis after the other: a
window takes the pixels it is allowed, scaled up by how many are missing.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import conv2d

from more4d.metrics.image_quality import C1, C2, SIGMA, WINDOW, check_same_shape


def masked_psnr_db(
    first: Float[Tensor, "*batch height width channels"],
    second: Float[Tensor, "*batch height width channels"],
    mask: Bool[Tensor, "*batch height width"],
) -> Float[Tensor, "*batch"]:
    """Peak signal to noise ratio over the pixels of `mask` of pictures in [0, 1]; NaN where there is none.

    Raises:
        ValueError: the pictures are not alike in shape.
    """
    check_same_shape(first, second, min_side=1)
    error = (first - second).square().mean(-1)
    return -10 * ((error * mask).sum((-2, -1)) / mask.sum((-2, -1))).log10()


def masked_ssim(
    first: Float[Tensor, "*batch height width channels"],
    second: Float[Tensor, "*batch height width channels"],
    mask: Bool[Tensor, "*batch height width"],
) -> Float[Tensor, "*batch"]:
    """Mean structural similarity over all windows, each of which sees the pixels of `mask` only.

    Raises:
        ValueError: the pictures are not alike in shape, or smaller than the window of 11 x 11 pixels.
    """
    check_same_shape(first, second, min_side=WINDOW)
    weight = mask.to(first.dtype)
    mean_a, mean_b = _windowed(first, weight), _windowed(second, weight)
    variance_a = (_windowed(first.square(), weight) - mean_a.square()).clamp(min=0)
    variance_b = (_windowed(second.square(), weight) - mean_b.square()).clamp(min=0)
    covariance = _windowed(first * second, weight) - mean_a * mean_b
    covariance = covariance.sign() * torch.minimum(covariance.abs(), (variance_a * variance_b).sqrt())
    luminance = (2 * mean_a * mean_b + C1) / (mean_a.square() + mean_b.square() + C1)
    structure = (2 * covariance + C2) / (variance_a + variance_b + C2)
    return (luminance * structure).mean((-3, -2, -1))


def _windowed(values: Tensor, mask: Tensor) -> Tensor:
    """Partial convolution along rows, then along columns: [*batch, channels, height - 10, width - 10]."""
    place = torch.arange(WINDOW, dtype=values.dtype, device=values.device) - WINDOW // 2
    weights = torch.exp(-place.square() / (2 * SIGMA**2))
    weights, ones = weights / weights.sum(), torch.ones_like(weights)
    planes = values.movedim(-1, -3)
    flat = planes.reshape(-1, 1, *planes.shape[-2:])
    allowed = mask[..., None, :, :].expand(planes.shape).reshape(flat.shape)
    for shape in ((1, 1, 1, -1), (1, 1, -1, 1)):
        total = conv2d(flat * allowed, weights.view(shape))
        count = conv2d(allowed, ones.view(shape))
        flat = torch.where(count > 0.5, total * WINDOW / count.clamp(min=1), 0)
        allowed = (count > 0.5).to(flat.dtype)
    return flat.reshape(*planes.shape[:-2], *flat.shape[-2:])
