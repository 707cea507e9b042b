"""From light to a photograph: smooth edges, exposure, tone, softness, noise, blocks."""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from more4d.foundation.seeding import numpy_generator
from more4d.scenes.scene import Finish


def postprocess(
    light: Float[ndarray, "height width 3"],
    owner: Int[ndarray, "height width"],
    finish: Finish | None,
    frame: int,
) -> Float[ndarray, "height width 3"]:
    """Linear light to display RGB in [0, 1]; without a finish only the edges between parts are smoothed."""
    light = smooth_edges(light, owner)
    if finish is None:
        return np.clip(light, 0, 1) ** np.float32(1 / 2.2)
    height, width = owner.shape
    light = light * (np.float32(finish.tint) * np.float32(finish.exposure))
    if finish.vignette:
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, width, dtype=np.float32)[None]
        light *= (1 - np.float32(finish.vignette) * 0.5 * (x * x + y * y))[..., None]
    radius = finish.blur_widths * width
    for _ in range(min(round(2 * radius * radius), 4)):
        light = _blur(light)
    tone = _blocks(np.clip(light, 0, 1) ** np.float32(1 / 2.2), finish.compression)
    tone = 0.5 + (tone - 0.5) * np.float32(finish.contrast)
    if finish.noise:
        noise = numpy_generator("noise", finish.seed, frame).standard_normal((height, width, 3), np.float32)
        tone = tone + noise * np.float32(finish.noise)
    return np.clip(tone, 0, 1)


def smooth_edges(
    light: Float[ndarray, "height width 3"], owner: Int[ndarray, "height width"]
) -> Float[ndarray, "height width 3"]:
    """Blend pixels where two parts meet, in place of casting several rays there."""
    edge = np.zeros(owner.shape, bool)
    across = owner[:, 1:] != owner[:, :-1]
    down = owner[1:] != owner[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return np.where(edge[..., None], _blur(np.minimum(light, 1)), light)


def _blur(image: ndarray) -> ndarray:
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) * np.float32(0.25)
    return (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) * np.float32(0.25)


def _blocks(image: ndarray, strength: float) -> ndarray:
    """Pull 8 x 8 blocks of colour differences toward their means, as coarse compression does."""
    if not strength:
        return image
    height, width = image.shape[0] // 8 * 8, image.shape[1] // 8 * 8
    blocks = image[:height, :width].reshape(height // 8, 8, width // 8, 8, 3)
    grey = blocks.mean(-1, keepdims=True)
    chroma = blocks - grey
    chroma += (chroma.mean((1, 3), keepdims=True) - chroma) * np.float32(strength)
    result = image.copy()
    result[:height, :width] = (grey + chroma).reshape(height, width, 3)
    return result
