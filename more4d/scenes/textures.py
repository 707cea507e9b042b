"""Procedural textures: tileable tables with mip levels, made once per process, coloured per material."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from more4d.foundation.seeding import numpy_generator
from more4d.scenes.patterns import PATTERNS, SIZE

LEVELS = SIZE.bit_length()
Colour = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a surface looks like.

    Attributes:
        pattern: name of the texture table, a key of `patterns.PATTERNS`.
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


@lru_cache(maxsize=64)
def _table(name: str) -> Float[ndarray, "texels 2"]:
    """All mip levels of one texture, finest first, one after the other."""
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
