"""How alike two images or two sets of images are: PSNR, SSIM, both masked, in holes, and Frechet distances.

SSIM (Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity") as its
authors compute it: a Gaussian window of 11 x 11 with a sigma of 1.5, K1 = 0.01 and K2 = 0.03, population
variances, and no window that leaves the image, so a border of 5 pixels has no value of its own. Colours are
compared channel by channel. The authors' program also halves large images first; here the caller does.

mPSNR and mSSIM follow DyCheck (Gao et al., arXiv 2210.13445), which compares only covisible pixels: SSIM is
masked by partial convolution (Liu et al., arXiv 1804.07723), one axis after the other. A window takes the
pixels it is allowed, scaled up by how many are missing.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import conv2d

Images = Float[Tensor, "*batch height width channels"]
Masks = Bool[Tensor, "*batch height width"]
Video = Float[Tensor, "frames height width 3"]
Holes = Bool[Tensor, "frames height width"]

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


def psnr_db(first: Images, second: Images) -> Float[Tensor, "*batch"]:
    """Peak signal to noise ratio in decibels of images in [0, 1]; infinite for equal ones.

    Raises:
        ValueError: the images are not alike in shape.
    """
    check_same_shape(first, second, min_side=1)
    return -10 * torch.log10((first - second).square().mean((-3, -2, -1)))


def ssim(first: Images, second: Images) -> Float[Tensor, "*batch"]:
    """Mean structural similarity of images in [0, 1]: 1 for equal ones, about 0 for unrelated ones.

    Raises:
        ValueError: the images are not alike in shape, or smaller than the window of 11 x 11 pixels.
    """
    check_same_shape(first, second, min_side=WINDOW)
    mean_a, mean_b = _windowed(first), _windowed(second)
    variances = _windowed(first.square()) - mean_a.square() + _windowed(second.square()) - mean_b.square()
    covariance = _windowed(first * second) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a.square() + mean_b.square() + C1)
    structure = (2 * covariance + C2) / (variances + C2)
    return (luminance * structure).mean((-3, -2, -1))


def _gaussian(like: Tensor) -> Float[Tensor, " window"]:
    """The weights of a window along one axis."""
    place = torch.arange(WINDOW, dtype=like.dtype, device=like.device) - WINDOW // 2
    weights = torch.exp(-place.square() / (2 * SIGMA**2))
    return weights / weights.sum()


def _windowed(values: Tensor) -> Tensor:
    """Weighted means over all windows that lie inside: [*batch, channels, height - 10, width - 10]."""
    weights = _gaussian(values)
    planes = values.movedim(-1, -3)
    flat = planes.reshape(-1, 1, *planes.shape[-2:])
    flat = conv2d(conv2d(flat, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return flat.reshape(*planes.shape[:-2], *flat.shape[-2:])


def check_same_shape(first: Tensor, second: Tensor, *, min_side: int) -> None:
    """Refuse images that cannot be compared, or have less than `min_side` pixels to a side.

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


def masked_psnr_db(first: Images, second: Images, mask: Masks) -> Float[Tensor, "*batch"]:
    """Peak signal to noise ratio over the pixels of `mask` of images in [0, 1]; NaN where there is none.

    Raises:
        ValueError: the images are not alike in shape.
    """
    check_same_shape(first, second, min_side=1)
    error = (first - second).square().mean(-1)
    return -10 * ((error * mask).sum((-2, -1)) / mask.sum((-2, -1))).log10()


def masked_ssim(first: Images, second: Images, mask: Masks) -> Float[Tensor, "*batch"]:
    """Mean structural similarity over all windows, each of which sees the pixels of `mask` only.

    Raises:
        ValueError: the images are not alike in shape, or smaller than the window of 11 x 11 pixels.
    """
    check_same_shape(first, second, min_side=WINDOW)
    weight = mask.to(first.dtype)
    mean_a, mean_b = _masked_windowed(first, weight), _masked_windowed(second, weight)
    variance_a = (_masked_windowed(first.square(), weight) - mean_a.square()).clamp(min=0)
    variance_b = (_masked_windowed(second.square(), weight) - mean_b.square()).clamp(min=0)
    covariance = _masked_windowed(first * second, weight) - mean_a * mean_b
    covariance = covariance.sign() * torch.minimum(covariance.abs(), (variance_a * variance_b).sqrt())
    luminance = (2 * mean_a * mean_b + C1) / (mean_a.square() + mean_b.square() + C1)
    structure = (2 * covariance + C2) / (variance_a + variance_b + C2)
    return (luminance * structure).mean((-3, -2, -1))


def _masked_windowed(values: Tensor, mask: Tensor) -> Tensor:
    """Partial convolution along rows, then along columns: [*batch, channels, height - 10, width - 10]."""
    weights = _gaussian(values)
    ones = torch.ones_like(weights)
    planes = values.movedim(-1, -3)
    flat = planes.reshape(-1, 1, *planes.shape[-2:])
    allowed = mask[..., None, :, :].expand(planes.shape).reshape(flat.shape)
    for shape in ((1, 1, 1, -1), (1, 1, -1, 1)):
        total = conv2d(flat * allowed, weights.view(shape))
        count = conv2d(allowed, ones.view(shape))
        flat = torch.where(count > 0.5, total * WINDOW / count.clamp(min=1), 0)
        allowed = (count > 0.5).to(flat.dtype)
    return flat.reshape(*planes.shape[:-2], *flat.shape[-2:])


def hole_psnr_db(video: Video, truth: Video, hole_mask: Holes) -> float:
    """Peak signal to noise ratio over the pixels of the holes, in decibels; NaN where there is no hole."""
    return float(-10 * (video - truth)[hole_mask].square().mean().log10())


def hole_flicker(video: Video, hole_mask: Holes) -> float:
    """Mean change from frame to frame of pixels that are holes in both; NaN where there is none.

    Divided by the same number of the truth it measures flicker: 1 changes as much, 1.2 a fifth more.
    """
    both = hole_mask[1:] & hole_mask[:-1]
    return float(video.diff(dim=0).abs()[both].mean())


def frechet_distance(first: Float[Tensor, "n dim"], second: Float[Tensor, "m dim"]) -> float:
    """|mu1 - mu2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)): the Frechet distance of the normal distributions that
    have the means and covariances of both sets (Dowson and Landau 1982).

    It is biased for few samples: compare only sets of equal size.

    Raises:
        ValueError: a set has fewer than 2 samples.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError(f"a covariance needs at least 2 samples, got {len(first)} and {len(second)}")
    first, second = first.double(), second.double()
    means = (first.mean(0) - second.mean(0)).square().sum()
    one, two = (torch.cov(each.T).reshape(each.shape[1], each.shape[1]) for each in (first, second))
    # tr((C1 C2)^(1/2)) is the sum of the singular values of A^T B for C1 = A A^T and C2 = B B^T
    roots = [_root(covariance) for covariance in (one, two)]
    cross = torch.linalg.svdvals(roots[0].T @ roots[1]).sum()
    return float(means + one.trace() + two.trace() - 2 * cross)


def _root(covariance: Float[Tensor, "dim dim"]) -> Float[Tensor, "dim dim"]:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt()
