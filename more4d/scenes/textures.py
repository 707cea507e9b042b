"""Procedural textures (tileable tables with mip levels, computed once per process), named colours and
materials.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from more4d.foundation.config import numpy_generator

SIZE = 256
Generator = np.random.Generator
Choice = TypeVar("Choice")
Table = Float[ndarray, "size size"]
Pair = tuple[ndarray, ndarray]


def fractal_noise(rng: Generator, roughness: float, *, stretch: float = 1.0, lowest: float = 2.0) -> Table:
    """Tileable noise of spectrum 1 / frequency^roughness, uniform in [0, 1].

    A `stretch` below 1 draws it out along y, one above 1 along x.
    Frequencies below `lowest` are attenuated, so that tiling is not visible.
    """
    frequency = np.fft.fftfreq(SIZE) * SIZE
    fy, fx = np.meshgrid(frequency / stretch, frequency, indexing="ij")
    distance = np.hypot(fx, fy)
    magnitude = np.maximum(distance, lowest) ** -roughness * np.minimum(distance / lowest, 1)
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((SIZE, SIZE))) * magnitude).real
    ranks = np.empty(noise.size)  # instead of the values: spread evenly over [0, 1]
    ranks[np.argsort(noise, axis=None)] = np.linspace(0, 1, noise.size)
    return ranks.reshape(noise.shape)


def cells(rng: Generator, count: int) -> tuple[ndarray, ndarray, ndarray]:
    """Tileable Voronoi cells: distances to the nearest and second nearest seed in tiles, a value per cell."""
    grid = (np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE
    first = np.full((SIZE, SIZE), 9.0, np.float32)
    second, owner = first.copy(), np.zeros((SIZE, SIZE), np.int32)
    for index, (x, y) in enumerate(rng.random((count, 2)).astype(np.float32)):
        dx, dy = np.abs(grid - x), np.abs(grid - y)
        distance = np.hypot(np.minimum(dx, 1 - dx)[None], np.minimum(dy, 1 - dy)[:, None])
        nearer = distance < first
        second = np.where(nearer, first, np.minimum(second, distance))
        owner = np.where(nearer, index, owner)
        first = np.where(nearer, distance, first)
    return first, second, rng.random(count)[owner]


def blocks(rng: Generator, columns: int, rows: int, joint: float, offset: float) -> ndarray:
    """Bricks, boards or tiles: a value per block, zero in the joints."""
    x, y = _grid()
    row = np.floor(y * rows).astype(int)
    across = x * columns + offset * (row % 2)
    value = rng.random((rows, columns))[row % rows, np.floor(across).astype(int) % columns]
    edge_x = np.minimum(across % 1, 1 - across % 1) / columns
    edge_y = np.minimum((y * rows) % 1, 1 - (y * rows) % 1) / rows
    return np.where(np.minimum(edge_x, edge_y) < joint, 0.0, 0.35 + 0.65 * value)


def _grid() -> Pair:
    axis = (np.arange(SIZE) + 0.5) / SIZE
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return x, y


def _step(values: ndarray, at: float, width: float) -> ndarray:
    return np.clip((values - at) / width + 0.5, 0, 1)


def _fine(rng: Generator) -> ndarray:
    return fractal_noise(rng, 0.9, lowest=4.0)


def _grass(rng: Generator) -> Pair:
    blades = fractal_noise(rng, 0.7, stretch=2.0, lowest=6.0)
    return 0.5 * fractal_noise(rng, 1.5, lowest=3.0) + 0.5 * blades, blades


def _checks(rng: Generator) -> Pair:
    x, y = _grid()
    return (np.floor(x * 4) + np.floor(y * 4)) % 2, _fine(rng)


def _mesh(rng: Generator) -> Pair:
    first, second, _ = cells(rng, 40)
    return _step(second - first, 0.03, 0.02), _fine(rng)


def _marble(rng: Generator) -> Pair:
    rough = fractal_noise(rng, 1.7)
    return 0.5 + 0.5 * np.sin(2 * np.pi * (_grid()[0] * 2 + 2.0 * rough)), rough


def _wood(rng: Generator) -> Pair:
    rings = fractal_noise(rng, 1.9, stretch=0.12)
    return 0.5 + 0.5 * np.sin(2 * np.pi * 5 * rings), fractal_noise(rng, 0.9, stretch=0.08, lowest=6.0)


def _planks(rng: Generator) -> Pair:
    grain = fractal_noise(rng, 1.1, stretch=0.06)
    return 0.65 * blocks(rng, 6, 1, 0.006, 0.0) + 0.35 * grain, fractal_noise(rng, 0.9, stretch=0.1)


def _stones(rng: Generator) -> Pair:
    first, second, value = cells(rng, 60)
    detail = 0.5 * _fine(rng) + 0.5 * fractal_noise(rng, 1.7)
    return np.clip((second - first) * 30, 0, 1) * (0.35 + 0.65 * value), detail


def _gravel(rng: Generator) -> Pair:
    first, second, value = cells(rng, 500)
    return np.clip((second - first) * 60, 0, 1) * value, _fine(rng)


def _foliage(rng: Generator) -> Pair:
    first, second, value = cells(rng, 450)
    rough = fractal_noise(rng, 1.3)
    return 0.5 * value + 0.5 * rough, np.clip((second - first) * 45, 0, 1) * (0.35 + 0.65 * value)


def _leaf_litter(rng: Generator) -> Pair:
    first, second, value = cells(rng, 300)
    return np.where(value > 0.45, value, 0.3 * fractal_noise(rng, 1.2)), np.clip((second - first) * 40, 0, 1)


def _plaid(rng: Generator) -> Pair:
    bands = [np.abs((axis * 3) % 1 - 0.5) < 0.2 for axis in _grid()]
    return 0.5 * bands[0] + 0.5 * bands[1], _fine(rng)


def _ripples(rng: Generator) -> Pair:
    rough = fractal_noise(rng, 2.0)
    return 0.35 + 0.3 * rough + 0.2 * np.sin(2 * np.pi * (_grid()[1] * 9 + 1.2 * rough)), _fine(rng)


def _zebra(rng: Generator) -> Pair:
    waves = np.sin(2 * np.pi * (_grid()[0] * 6 + 0.8 * fractal_noise(rng, 2.6)))
    return _step(waves, 0.0, 0.4), _fine(rng)


def _rock(rng: Generator) -> Pair:
    cracks = np.abs(fractal_noise(rng, 1.6) - 0.5)
    return np.clip(cracks * 6, 0, 1) * (0.4 + 0.6 * fractal_noise(rng, 1.8)), fractal_noise(rng, 0.9)


def _slats(rng: Generator) -> Pair:
    gaps = np.abs((_grid()[0] * 8) % 1 - 0.5) < 0.42
    return gaps * (0.5 + 0.5 * fractal_noise(rng, 1.2, stretch=0.06)), fractal_noise(rng, 0.9, stretch=0.1)


PATTERNS: dict[str, Callable[[Generator], Pair]] = {
    "plain": lambda rng: (0.4 * fractal_noise(rng, 1.6), _fine(rng)),
    "clouds": lambda rng: (fractal_noise(rng, 2.2, lowest=1.0), _fine(rng)),
    "earth": lambda rng: (fractal_noise(rng, 1.5), fractal_noise(rng, 0.6, lowest=8.0)),
    "grass": _grass,
    "fur": lambda rng: (
        0.5 * fractal_noise(rng, 1.5) + 0.5 * _fine(rng),
        fractal_noise(rng, 0.9, stretch=0.3, lowest=10.0),
    ),
    "checks": _checks,
    "stripes": lambda rng: (_step(np.abs((_grid()[1] * 4) % 1 - 0.5), 0.25, 0.06), _fine(rng)),
    "spots": lambda rng: (_step(cells(rng, 30)[0], 0.07, 0.015), _fine(rng)),
    "patches": lambda rng: (_step(fractal_noise(rng, 2.4), 0.55, 0.08), _fine(rng)),
    "zebra": _zebra,
    "mesh": _mesh,
    "marble": _marble,
    "wood": _wood,
    "planks": _planks,
    "bricks": lambda rng: (blocks(rng, 4, 10, 0.009, 0.5), _fine(rng)),
    "tiles": lambda rng: (blocks(rng, 4, 4, 0.006, 0.0), fractal_noise(rng, 1.4)),
    "stones": _stones,
    "gravel": _gravel,
    "foliage": _foliage,
    "leaf litter": _leaf_litter,
    "plaid": _plaid,
    "ripples": _ripples,
    "rust": lambda rng: (_step(fractal_noise(rng, 1.6), 0.75, 0.25), fractal_noise(rng, 1.5)),
    "rock": _rock,
    "slats": _slats,
}
"""Base pattern and detail of each texture."""


LEVELS = SIZE.bit_length()
Colour = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Material:
    """Appearance of a surface.

    Attributes:
        pattern: name of the texture table, a key of `PATTERNS`.
        colours: the two linear RGB colours the pattern runs between.
        tile_m: side of one repetition of the table, in metres.
        turn: rotation of the pattern on the surface, in radians.
        shift: offset of the pattern in tiles.
        grain: strength of the detail channel's brightness variation.
        gloss: strength of the highlight, 0 for matte.
        wrap: projection: "box" per face, "round" around the part's y axis, "ground" from above.
    """

    pattern: str
    colours: tuple[Colour, Colour]
    tile_m: float = 1.0
    turn: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    grain: float = 0.5
    gloss: float = 0.0
    wrap: str = "box"


@lru_cache(maxsize=64)
def _table(name: str) -> Float[ndarray, "texels 2"]:
    """All mip levels of one texture, concatenated, finest first."""
    level = np.stack(PATTERNS[name](numpy_generator("texture", name)), -1).astype(np.float32)
    levels = [level.reshape(-1, 2)]
    while level.shape[0] > 1:
        half = level.shape[0] // 2
        level = level.reshape(half, 2, half, 2, 2).mean((1, 3))
        levels.append(level.reshape(-1, 2))
    return np.concatenate(levels)


_LEVEL_SIZE = np.array([SIZE >> level for level in range(LEVELS)], np.int32)
_LEVEL_START = np.concatenate([[0], np.cumsum(_LEVEL_SIZE**2)[:-1]]).astype(np.int32)


def sample_texture(
    name: str, u: Float[ndarray, " n"], v: Float[ndarray, " n"], footprint: Float[ndarray, " n"]
) -> tuple[Float[ndarray, " n"], Float[ndarray, " n"]]:
    """(pattern, detail) at coordinates in tiles, from the mip level for pixels of `footprint` tiles."""
    table = _table(name)
    level = np.clip(np.log2(np.maximum(footprint, 1e-6) * SIZE) + 0.5, 0, LEVELS - 1).astype(np.int32)
    size, start = _LEVEL_SIZE[level], _LEVEL_START[level]
    x, y = u * size - 0.5, v * size - 0.5
    column, row = np.floor(x), np.floor(y)
    fx, fy = (x - column)[:, None].astype(np.float32), (y - row)[:, None].astype(np.float32)
    column, row = column.astype(np.int32), row.astype(np.int32)
    left, right = column & (size - 1), (column + 1) & (size - 1)
    top, bottom = start + (row & (size - 1)) * size, start + ((row + 1) & (size - 1)) * size
    upper = table[top + left] * (1 - fx) + table[top + right] * fx
    lower = table[bottom + left] * (1 - fx) + table[bottom + right] * fx
    value = upper * (1 - fy) + lower * fy
    return value[:, 0], value[:, 1]


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
    return tuple(float(max(channel, 0.0) ** 2.2) for channel in colour)


def scale_colour(colour: Colour, factor: float) -> Colour:
    """A lighter or darker display colour."""
    return tuple(np.clip(np.array(colour) * factor, 0.01, 0.97).tolist())


def shades(colour: Colour, *factors: float) -> list[Colour]:
    """A display colour scaled by each factor."""
    return [scale_colour(colour, factor) for factor in factors]


class Random(np.random.Generator):
    """A random generator that also draws choices, colours and materials."""

    def choose(self, choices: Sequence[Choice]) -> Choice:
        """One of several."""
        return choices[self.integers(len(choices))]

    def uniforms(self, *spans: tuple[float, float]) -> list[float]:
        """A number between the ends of each span."""
        return [self.uniform(*span) for span in spans]

    def jitter(self, colour: Colour, amount: float = 0.05) -> Colour:
        """A display colour close to another one."""
        shift = self.normal(0, amount / 2) + self.normal(0, amount, 3)
        return tuple(np.clip(colour + shift, 0.02, 0.95).tolist())

    def colour(self, *names: str) -> Colour:
        """One of the named colours, slightly varied; any of them if none is given."""
        return self.named_colour(*names)[1]

    def named_colour(self, *names: str) -> tuple[str, Colour]:
        """The same with its name."""
        name = self.choose(names or tuple(NAMED_COLOURS))
        return name, self.jitter(NAMED_COLOURS[name])

    def contrast(self, name: str) -> Colour:
        """A colour other than the named one."""
        return self.colour(*(other for other in NAMED_COLOURS if other != name))

    def material(
        self,
        pattern: str,
        first: Colour,
        second: Colour,
        *,
        tile_m: float,
        grain: float = 0.35,
        turned: bool = False,
        **options: Any,
    ) -> Material:
        """A material between two display colours with a random offset of its pattern, and further fields of
        `Material`.
        """
        return Material(
            pattern=pattern,
            colours=(gamma_to_linear(first), gamma_to_linear(second)),
            tile_m=tile_m * self.uniform(0.75, 1.35),
            turn=self.uniform(0, 2 * np.pi) if turned else 0.0,
            shift=(self.random(), self.random()),
            grain=grain * self.uniform(0.6, 1.4),
            **options,
        )
