"""Make rendered pictures vary as photos do, so that a network trained on them reads form and not paint.

Every function takes an image `3 height width` in [0, 1] and a generator, and returns an image in [0, 1].
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

Image = Float[Tensor, "3 height width"]
LUMA = (0.299, 0.587, 0.114)


def augment_photo(image: Image, generator: torch.Generator) -> Image:
    """Another exposure, colour cast, light, focus and sensor, drawn at random; no pixel moves."""
    image = colour_jitter(image, generator)
    if _chance(0.35, generator):
        image = uneven_lighting(image, generator)
    if _chance(0.25, generator):
        image = gaussian_blur(image, _uniform(0.4, 1.2, generator))
    if _chance(0.5, generator):
        noise = torch.randn(image.shape, generator=generator)
        image = image + noise * _uniform(0.005, 0.05, generator)
    return image.clamp(0, 1)


def colour_jitter(image: Image, generator: torch.Generator) -> Image:
    """Random gamma, contrast, brightness, white balance and saturation; sometimes grey, or other channels."""
    image = image.clamp(1e-4, 1) ** math.exp(_uniform(-0.45, 0.45, generator))
    if _chance(0.1, generator):
        image = image[torch.randperm(3, generator=generator)]
    grey = torch.tensordot(torch.tensor(LUMA), image, 1)
    saturation = 0.0 if _chance(0.08, generator) else _uniform(0.3, 1.5, generator)
    image = grey + (image - grey) * saturation
    balance = torch.exp(torch.randn(3, 1, 1, generator=generator) * 0.1)
    mean = image.mean()
    image = (image - mean) * _uniform(0.65, 1.4, generator) + mean + _uniform(-0.12, 0.12, generator)
    return (image * balance).clamp(0, 1)


def uneven_lighting(image: Image, generator: torch.Generator) -> Image:
    """Soft patches of light and shade, from a few waves to many: brightness that says nothing of depth."""
    rows = int(torch.randint(2, 13, (1,), generator=generator))
    height, width = image.shape[-2:]
    grid = torch.randn(1, 1, rows, max(2, rows * width // height), generator=generator)
    light = F.interpolate(grid, (height, width), mode="bicubic", align_corners=False)[0]
    return (image * torch.exp(light * _uniform(0.05, 0.3, generator))).clamp(0, 1)


def gaussian_blur(image: Image, deviation_px: float) -> Image:
    """A Gaussian blur of 5 x 5 pixels."""
    kernel = torch.exp(-0.5 * (torch.arange(-2.0, 3.0) / deviation_px) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, 5)
    padded = F.pad(image[None], (2, 2, 2, 2), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)[0]


def recolour_objects(
    image: Image, object_ids: Int[Tensor, "height width"], generator: torch.Generator
) -> Image:
    """Give every object a random tint; sometimes the colour of its surroundings, which hides it."""
    count = int(object_ids.max()) + 1
    tints = torch.exp(torch.randn(count, 3, generator=generator) * 0.4)
    if _chance(0.3, generator):
        surroundings = object_ids == 0
        if bool(surroundings.any()) and count > 1:
            wanted = image[:, surroundings].mean(1)
            for object_id in range(1, count):
                mask = object_ids == object_id
                if bool(mask.any()):
                    tints[object_id] = (wanted / image[:, mask].mean(1).clamp_min(0.02)).clamp(0.2, 5)
    return (image * tints[object_ids.long()].permute(2, 0, 1)).clamp(0, 1)


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _chance(probability: float, generator: torch.Generator) -> bool:
    return float(torch.rand((), generator=generator)) < probability
