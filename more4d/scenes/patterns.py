"""The texture tables: each a tileable (pattern, detail) pair drawn once from noise, cells and grids."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

SIZE = 256
Random = np.random.Generator
Table = Float[ndarray, "size size"]
Pair = tuple[ndarray, ndarray]


def fractal_noise(rng: Random, roughness: float, *, stretch: float = 1.0, lowest: float = 2.0) -> Table:
    """Tileable noise of spectrum 1 / frequency^roughness, uniform in [0, 1].

    A `stretch` below 1 draws it out along y, one above 1 along x.
    Frequencies below `lowest` are held back, so that a tile does not show its repetition.
    """
    frequency = np.fft.fftfreq(SIZE) * SIZE
    fy, fx = np.meshgrid(frequency / stretch, frequency, indexing="ij")
    distance = np.hypot(fx, fy)
    magnitude = np.maximum(distance, lowest) ** -roughness * np.minimum(distance / lowest, 1)
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((SIZE, SIZE))) * magnitude).real
    return flatten_histogram(noise)


def flatten_histogram(values: ndarray) -> ndarray:
    """Replace values by their ranks, spread evenly over [0, 1]."""
    ranks = np.empty(values.size)
    ranks[np.argsort(values, axis=None)] = np.linspace(0, 1, values.size)
    return ranks.reshape(values.shape)


def cells(rng: Random, count: int) -> tuple[ndarray, ndarray, ndarray]:
    """Tileable Voronoi cells: distances to the nearest and second nearest seed in tiles, a value per cell."""
    grid = (np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE
    first = np.full((SIZE, SIZE), 9.0, np.float32)
    second, owner = first.copy(), np.zeros((SIZE, SIZE), np.int32)
    for index, (x, y) in enumerate(rng.random((count, 2)).astype(np.float32)):
        dx, dy = np.abs(grid - x), np.abs(grid - y)
        distance = np.hypot(np.minimum(dx, 1 - dx)[None], np.minimum(dy, 1 - dy)[:, None])
        closer = distance < first
        second = np.where(closer, first, np.minimum(second, distance))
        owner = np.where(closer, index, owner)
        first = np.where(closer, distance, first)
    return first, second, rng.random(count)[owner]


def blocks(rng: Random, columns: int, rows: int, joint: float, offset: float) -> ndarray:
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


def _fine(rng: Random) -> ndarray:
    return fractal_noise(rng, 0.9, lowest=4.0)


def _plain(rng: Random) -> Pair:
    return 0.4 * fractal_noise(rng, 1.6), _fine(rng)


def _clouds(rng: Random) -> Pair:
    return fractal_noise(rng, 2.2, lowest=1.0), _fine(rng)


def _earth(rng: Random) -> Pair:
    return fractal_noise(rng, 1.5), fractal_noise(rng, 0.6, lowest=8.0)


def _grass(rng: Random) -> Pair:
    blades = fractal_noise(rng, 0.7, stretch=2.0, lowest=6.0)
    return 0.5 * fractal_noise(rng, 1.5, lowest=3.0) + 0.5 * blades, blades


def _fur(rng: Random) -> Pair:
    return 0.5 * fractal_noise(rng, 1.5) + 0.5 * _fine(rng), fractal_noise(rng, 0.9, stretch=0.3, lowest=10.0)


def _checks(rng: Random) -> Pair:
    x, y = _grid()
    return (np.floor(x * 4) + np.floor(y * 4)) % 2, _fine(rng)


def _stripes(rng: Random) -> Pair:
    return _step(np.abs((_grid()[1] * 4) % 1 - 0.5), 0.25, 0.06), _fine(rng)


def _spots(rng: Random) -> Pair:
    return _step(cells(rng, 30)[0], 0.07, 0.015), _fine(rng)


def _patches(rng: Random) -> Pair:
    return _step(fractal_noise(rng, 2.4), 0.55, 0.08), _fine(rng)


def _zebra(rng: Random) -> Pair:
    x, _ = _grid()
    return _step(np.sin(2 * np.pi * (x * 6 + 0.8 * fractal_noise(rng, 2.6))), 0.0, 0.4), _fine(rng)


def _mesh(rng: Random) -> Pair:
    first, second, _ = cells(rng, 40)
    return _step(second - first, 0.03, 0.02), _fine(rng)


def _marble(rng: Random) -> Pair:
    rough = fractal_noise(rng, 1.7)
    return 0.5 + 0.5 * np.sin(2 * np.pi * (_grid()[0] * 2 + 2.0 * rough)), rough


def _wood(rng: Random) -> Pair:
    rings = fractal_noise(rng, 1.9, stretch=0.12)
    grain = fractal_noise(rng, 0.9, stretch=0.08, lowest=6.0)
    return 0.5 + 0.5 * np.sin(2 * np.pi * 5 * rings), grain


def _planks(rng: Random) -> Pair:
    grain = fractal_noise(rng, 1.1, stretch=0.06)
    return 0.65 * blocks(rng, 6, 1, 0.006, 0.0) + 0.35 * grain, fractal_noise(rng, 0.9, stretch=0.1)


def _bricks(rng: Random) -> Pair:
    return blocks(rng, 4, 10, 0.009, 0.5), _fine(rng)


def _tiles(rng: Random) -> Pair:
    return blocks(rng, 4, 4, 0.006, 0.0), fractal_noise(rng, 1.4)


def _stones(rng: Random) -> Pair:
    first, second, value = cells(rng, 60)
    detail = 0.5 * _fine(rng) + 0.5 * fractal_noise(rng, 1.7)
    return np.clip((second - first) * 30, 0, 1) * (0.35 + 0.65 * value), detail


def _gravel(rng: Random) -> Pair:
    first, second, value = cells(rng, 500)
    return np.clip((second - first) * 60, 0, 1) * value, _fine(rng)


def _foliage(rng: Random) -> Pair:
    first, second, value = cells(rng, 450)
    rough = fractal_noise(rng, 1.3)
    return 0.5 * value + 0.5 * rough, np.clip((second - first) * 45, 0, 1) * (0.35 + 0.65 * value)


def _leaf_litter(rng: Random) -> Pair:
    first, second, value = cells(rng, 300)
    return np.where(value > 0.45, value, 0.3 * fractal_noise(rng, 1.2)), np.clip((second - first) * 40, 0, 1)


def _plaid(rng: Random) -> Pair:
    x, y = _grid()
    bands = [np.abs((axis * 3) % 1 - 0.5) < 0.2 for axis in (x, y)]
    return 0.5 * bands[0] + 0.5 * bands[1], _fine(rng)


def _ripples(rng: Random) -> Pair:
    rough = fractal_noise(rng, 2.0)
    return 0.35 + 0.3 * rough + 0.2 * np.sin(2 * np.pi * (_grid()[1] * 9 + 1.2 * rough)), _fine(rng)


def _rust(rng: Random) -> Pair:
    return _step(fractal_noise(rng, 1.6), 0.75, 0.25), fractal_noise(rng, 1.5)


def _rock(rng: Random) -> Pair:
    cracks = np.abs(fractal_noise(rng, 1.6) - 0.5)
    return np.clip(cracks * 6, 0, 1) * (0.4 + 0.6 * fractal_noise(rng, 1.8)), fractal_noise(rng, 0.9)


def _slats(rng: Random) -> Pair:
    x, _ = _grid()
    gaps = np.abs((x * 8) % 1 - 0.5) < 0.42
    return gaps * (0.5 + 0.5 * fractal_noise(rng, 1.2, stretch=0.06)), fractal_noise(rng, 0.9, stretch=0.1)


PATTERNS: dict[str, Callable[[Random], Pair]] = {
    "plain": _plain,
    "clouds": _clouds,
    "earth": _earth,
    "grass": _grass,
    "fur": _fur,
    "checks": _checks,
    "stripes": _stripes,
    "spots": _spots,
    "patches": _patches,
    "zebra": _zebra,
    "mesh": _mesh,
    "marble": _marble,
    "wood": _wood,
    "planks": _planks,
    "bricks": _bricks,
    "tiles": _tiles,
    "stones": _stones,
    "gravel": _gravel,
    "foliage": _foliage,
    "leaf litter": _leaf_litter,
    "plaid": _plaid,
    "ripples": _ripples,
    "rust": _rust,
    "rock": _rock,
    "slats": _slats,
}
