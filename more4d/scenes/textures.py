"""Procedural textures: tileable tables with mip levels, made once per process, coloured per material."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from more4d.foundation.seeding import numpy_generator

SIZE = 256
LEVELS = 9
Colour = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a surface looks like.

    Attributes:
        pattern: name of the texture table (see `PATTERNS`).
        colours: the two linear RGB colours the pattern runs between.
        tile_m: side of one repetition of the table, in metres.
        turn: rotation of the pattern on the surface, in radians.
        shift: where the pattern starts, in tiles.
        grain: how strongly the fine detail channel lightens and darkens the surface.
        gloss: strength of the highlight, 0 for chalk.
        wrap: "box" maps each face flat, "round" wraps around the part's y axis, "ground" looks from above.
    """

    pattern: str
    colours: tuple[Colour, Colour]
    tile_m: float = 1.0
    turn: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    grain: float = 0.5
    gloss: float = 0.0
    wrap: str = "box"


def fractal_noise(
    generator: np.random.Generator, roughness: float, *, stretch: float = 1.0, lowest: float = 2.0
) -> Float[ndarray, "size size"]:
    """Tileable noise with spectrum 1 / frequency^roughness, uniform in [0, 1]; `stretch` > 1 draws it out along y."""
    frequency = np.fft.fftfreq(SIZE) * SIZE
    fy, fx = np.meshgrid(frequency * stretch, frequency, indexing="ij")
    magnitude = np.maximum(np.hypot(fx, fy), lowest) ** -roughness
    magnitude[0, 0] = 0
    noise = np.fft.ifft2(np.fft.fft2(generator.standard_normal((SIZE, SIZE))) * magnitude).real
    return flatten_histogram(noise)


def flatten_histogram(values: ndarray) -> ndarray:
    """Replace values by their ranks, spread evenly over [0, 1]."""
    ranks = np.empty(values.size)
    ranks[np.argsort(values, axis=None)] = np.linspace(0, 1, values.size)
    return ranks.reshape(values.shape)


def cells(generator: np.random.Generator, count: int) -> tuple[ndarray, ndarray, ndarray]:
    """Tileable Voronoi cells: distance to the nearest and second nearest seed (in tiles) and a random value per cell."""
    seeds = generator.random((count, 2)).astype(np.float32)
    grid = (np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE
    first = np.full((SIZE, SIZE), 9.0, np.float32)
    second = first.copy()
    owner = np.zeros((SIZE, SIZE), np.int32)
    for index, (x, y) in enumerate(seeds):
        dx = np.abs(grid - x)
        dy = np.abs(grid - y)
        distance = np.hypot(np.minimum(dx, 1 - dx)[None], np.minimum(dy, 1 - dy)[:, None])
        closer = distance < first
        second = np.where(closer, first, np.minimum(second, distance))
        owner = np.where(closer, index, owner)
        first = np.where(closer, distance, first)
    return first, second, generator.random(count).astype(np.float32)[owner]


def _grid() -> tuple[ndarray, ndarray]:
    axis = (np.arange(SIZE) + 0.5) / SIZE
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return x, y


def _blocks(generator: np.random.Generator, columns: int, rows: int, joint: float, offset: float) -> ndarray:
    """Bricks, planks or tiles: a value per block, dark joints."""
    x, y = _grid()
    row = np.floor(y * rows).astype(int)
    column_x = x * columns + offset * (row % 2)
    value = generator.random((rows, columns))[row % rows, np.floor(column_x).astype(int) % columns]
    edge_x = np.minimum(column_x % 1, 1 - column_x % 1) / columns
    edge_y = np.minimum((y * rows) % 1, 1 - (y * rows) % 1) / rows
    return np.where(np.minimum(edge_x, edge_y) < joint, 0.0, 0.35 + 0.65 * value)


def _soft_step(values: ndarray, at: float, width: float) -> ndarray:
    return np.clip((values - at) / width + 0.5, 0, 1)


def _pattern(name: str, rng: np.random.Generator) -> tuple[ndarray, ndarray]:
    """(pattern, detail) of one table, both in [0, 1]."""
    x, y = _grid()
    fine = fractal_noise(rng, 0.9, lowest=4)
    rough = fractal_noise(rng, 1.7)
    if name == "plain":
        return 0.25 * rough, fine
    if name == "clouds":
        return fractal_noise(rng, 2.2, lowest=1), fine
    if name == "earth":
        return rough, fractal_noise(rng, 0.6, lowest=8)
    if name == "grass":
        blades = fractal_noise(rng, 0.8, stretch=0.35, lowest=6)
        return 0.6 * rough + 0.4 * blades, blades
    if name == "fur":
        return 0.5 * rough + 0.5 * fine, fractal_noise(rng, 1.0, stretch=0.25, lowest=8)
    if name == "checks":
        return ((np.floor(x * 4) + np.floor(y * 4)) % 2), fine
    if name == "stripes":
        return _soft_step(np.abs((y * 4) % 1 - 0.5), 0.25, 0.06), fine
    if name == "spots":
        first, _, _ = cells(rng, 30)
        return _soft_step(first, 0.07, 0.015), fine
    if name == "patches":
        return _soft_step(fractal_noise(rng, 2.4), 0.55, 0.08), fine
    if name == "zebra":
        return _soft_step(np.sin(2 * np.pi * (y * 6 + 1.3 * fractal_noise(rng, 2.6))), 0.0, 0.3), fine
    if name == "marble":
        return 0.5 + 0.5 * np.sin(2 * np.pi * (x * 2 + 2.0 * rough)), rough
    if name == "wood":
        rings = fractal_noise(rng, 1.9, stretch=0.1)
        return 0.5 + 0.5 * np.sin(2 * np.pi * 5 * rings), fractal_noise(rng, 0.9, stretch=0.08, lowest=6)
    if name == "planks":
        boards = _blocks(rng, 6, 1, 0.006, 0.0)
        return 0.7 * boards + 0.3 * fractal_noise(rng, 1.3, stretch=0.1), fractal_noise(rng, 0.9, stretch=0.1)
    if name == "bricks":
        return _blocks(rng, 4, 10, 0.009, 0.5), fine
    if name == "tiles":
        return _blocks(rng, 4, 4, 0.006, 0.0), rough
    if name == "stones":
        first, second, value = cells(rng, 60)
        return np.clip((second - first) * 30, 0, 1) * (0.35 + 0.65 * value), 0.5 * fine + 0.5 * rough
    if name == "gravel":
        first, second, value = cells(rng, 500)
        return np.clip((second - first) * 60, 0, 1) * value, fine
    if name == "foliage":
        first, second, value = cells(rng, 350)
        return 0.55 * value + 0.45 * rough, np.clip((second - first) * 45, 0, 1) * (0.4 + 0.6 * rough)
    if name == "plaid":
        return 0.5 * (np.abs((y * 3) % 1 - 0.5) < 0.2) + 0.5 * (np.abs((x * 3) % 1 - 0.5) < 0.2), fine
    if name == "ripples":
        return 0.5 + 0.5 * np.sin(2 * np.pi * (y * 12 + 1.5 * rough)), fine
    if name == "rust":
        return _soft_step(fractal_noise(rng, 1.6), 0.7, 0.2), rough
    raise ValueError(f"no texture is called '{name}'")


PATTERNS = (
    *("plain", "clouds", "earth", "grass", "fur", "checks", "stripes", "spots", "patches", "zebra", "marble"),
    *("wood", "planks", "bricks", "tiles", "stones", "gravel", "foliage", "plaid", "ripples", "rust"),
)


@lru_cache(maxsize=64)
def _table(name: str) -> Float[ndarray, "texels 2"]:
    """All mip levels of one texture, finest first, one after the other."""
    level = np.stack(_pattern(name, numpy_generator("texture", name)), -1).astype(np.float32)
    levels = [level.reshape(-1, 2)]
    while level.shape[0] > 1:
        half = level.shape[0] // 2
        level = level.reshape(half, 2, half, 2, 2).mean((1, 3))
        levels.append(level.reshape(-1, 2))
    return np.concatenate(levels)


_LEVEL_SIZE = np.array([SIZE >> level for level in range(LEVELS)], np.int32)
_LEVEL_START = np.concatenate([[0], np.cumsum(_LEVEL_SIZE**2)[:-1]]).astype(np.int32)


def sample(
    name: str, u: Float[ndarray, " n"], v: Float[ndarray, " n"], footprint: Float[ndarray, " n"]
) -> tuple[Float[ndarray, " n"], Float[ndarray, " n"]]:
    """(pattern, detail) at texture coordinates in tiles, from the mip level that fits a pixel of `footprint` tiles."""
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
