"""Colours with names, and materials made of them."""

import numpy as np

from more4d.scenes.textures import Colour, Material

NAMED_COLOURS: dict[str, Colour] = {
    "red": (0.75, 0.09, 0.08),
    "orange": (0.9, 0.45, 0.08),
    "yellow": (0.92, 0.78, 0.12),
    "green": (0.16, 0.5, 0.18),
    "blue": (0.12, 0.27, 0.7),
    "purple": (0.45, 0.18, 0.55),
    "pink": (0.9, 0.5, 0.62),
    "brown": (0.42, 0.27, 0.16),
    "black": (0.09, 0.09, 0.1),
    "white": (0.88, 0.87, 0.85),
    "grey": (0.5, 0.5, 0.5),
    "turquoise": (0.15, 0.62, 0.62),
    "beige": (0.78, 0.68, 0.52),
}


def gamma_to_linear(colour: Colour) -> Colour:
    """Display RGB to linear light."""
    red, green, blue = (float(max(channel, 0.0) ** 2.2) for channel in colour)
    return (red, green, blue)


def jitter_colour(rng: np.random.Generator, colour: Colour, amount: float = 0.05) -> Colour:
    """A display colour close to another one."""
    shift = rng.normal(0, amount / 2) + rng.normal(0, amount, 3)
    red, green, blue = (
        float(np.clip(value + delta, 0.02, 0.95)) for value, delta in zip(colour, shift, strict=True)
    )
    return (red, green, blue)


def scale_colour(colour: Colour, factor: float) -> Colour:
    """A lighter or darker display colour."""
    red, green, blue = (float(np.clip(channel * factor, 0.01, 0.97)) for channel in colour)
    return (red, green, blue)


def material(
    rng: np.random.Generator,
    pattern: str,
    first: Colour,
    second: Colour,
    *,
    tile_m: float,
    grain: float = 0.35,
    gloss: float = 0.0,
    wrap: str = "box",
    turned: bool = False,
) -> Material:
    """A material between two display colours, its pattern placed at random."""
    return Material(
        pattern=pattern,
        colours=(gamma_to_linear(first), gamma_to_linear(second)),
        tile_m=tile_m * float(rng.uniform(0.75, 1.35)),
        turn=float(rng.uniform(0, 2 * np.pi)) if turned else 0.0,
        shift=(float(rng.random()), float(rng.random())),
        grain=grain * float(rng.uniform(0.6, 1.4)),
        gloss=gloss,
        wrap=wrap,
    )
