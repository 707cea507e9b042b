"""Points as round gaussians, and what the gaussian rasterisers' sums mean: shared by their backends."""

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.foundation.errors import InputError
from more4d.raster.interface import Rendering

# Neighbours one footprint apart then overlap at one sigma: no gaps, little blur.
SIGMA_PER_FOOTPRINT = 0.5
# A point without extent must not give a singular covariance.
MIN_SIGMA_M = 1e-7
# One step of an 8-bit image: below it a pixel is empty.
MIN_ALPHA = 1 / 255


def require_gpu(name: str, device: torch.device) -> None:
    """Refuse a device on which a CUDA rasteriser cannot run.

    Raises:
        InputError: the device is not a CUDA GPU, or there is none.
    """
    if device.type != "cuda":
        raise InputError(f"rasteriser '{name}' runs on a CUDA GPU, not on '{device}'; choose 'auto'")
    if not torch.cuda.is_available():
        raise InputError(f"rasteriser '{name}' needs a CUDA GPU and torch sees none; choose 'auto'")


def isotropic_scales(footprint_m: Float[Tensor, " points"]) -> Float[Tensor, "points 3"]:
    """Standard deviations in metres: neighbouring gaussians of a surface overlap at one sigma."""
    return (footprint_m * SIGMA_PER_FOOTPRINT).clamp(min=MIN_SIGMA_M)[:, None].expand(-1, 3).contiguous()


def normalise_by_alpha(
    colour_sum: Float[Tensor, "height width 3"],
    depth_sum: Float[Tensor, "height width"],
    alpha: Float[Tensor, "height width"],
) -> Rendering:
    """One frame from alpha-weighted sums over black: divide by alpha, and nothing where it is near 0."""
    alpha = alpha.clamp(0, 1)
    there = alpha > MIN_ALPHA
    # sums are alpha-weighted: dividing by alpha gives colour and depth of what is there
    weight = torch.where(there, alpha, 1)
    return Rendering(
        colour=torch.where(there[..., None], colour_sum / weight[..., None], 0).clamp(0, 1)[None],
        depth_m=torch.where(there, depth_sum / weight, torch.inf)[None],
        coverage=torch.where(there, alpha, 0)[None],
    )


def empty_frames(frames: int, size: tuple[int, int], device: torch.device) -> Rendering:
    """What a camera sees of no points at all."""
    return Rendering(
        colour=torch.zeros(frames, *size, 3, device=device),
        depth_m=torch.full((frames, *size), torch.inf, device=device),
        coverage=torch.zeros(frames, *size, device=device),
    )
