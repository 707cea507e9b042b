"""Scenery around the stage: rooms, walls and hedges, hills, forests, houses, rocks and bushes."""

import numpy as np

from more4d.scenes.modelling import Model, shift, stretch, turn_y, turn_z
from more4d.scenes.palette import NAMED_COLOURS, jitter_colour, material, scale_colour
from more4d.scenes.primitives import SPHERE
from more4d.scenes.textures import Material

Random = np.random.Generator
WALLS = ("bricks", "stones", "planks", "slats", "rock", "foliage", "foliage", "tiles", "rust", "plain")


def _pick(rng: Random, *names: str) -> tuple[float, float, float]:
    return jitter_colour(rng, NAMED_COLOURS[str(rng.choice(names))])


def add_room(model: Model, rng: Random, subject_m: float) -> None:
    """Three walls, with a window, a picture or a shelf on the far one."""
    depth, half, tall = (
        subject_m * float(rng.uniform(1.4, 2.6)),
        subject_m * float(rng.uniform(1.0, 2.0)),
        8.0,
    )
    colour = _pick(rng, "white", "beige", "grey", "turquoise", "yellow", "pink", "blue", "green")
    paper = str(rng.choice(("plain", "plain", "bricks", "stripes", "tiles", "planks")))
    coat = material(rng, paper, scale_colour(colour, 0.9), scale_colour(colour, 1.1), tile_m=2.0, grain=0.15)
    model.box((0, -tall, depth + 0.5), (half * 3, tall * 1.2, 0.5), coat)
    for side in (-1, 1):
        model.box((side * (half + 0.5), -tall, depth / 2), (0.5, tall * 1.2, depth * 2), coat)
    for _ in range(int(rng.integers(0, 4))):
        frame = _pick(rng, "white", "brown", "black", "red", "blue")
        pattern = str(rng.choice(("plain", "marble", "clouds", "patches", "wood")))
        art = material(rng, pattern, frame, _pick(rng, *NAMED_COLOURS), tile_m=subject_m * 0.3)
        size = subject_m * rng.uniform(0.06, 0.25, 2)
        x, y = float(rng.uniform(-0.7, 0.7)) * half, -subject_m * float(rng.uniform(0.15, 0.6))
        model.box((x, y, depth), (float(size[0]), float(size[1]), 0.03 * subject_m), art)


def add_landscape(model: Model, rng: Random, subject_m: float, place: str) -> None:
    """What lies behind and beside the subject outdoors."""
    if place == "forest" or rng.random() < 0.25:
        _add_forest(model, rng, subject_m)
    if rng.random() < 0.5:
        _add_backdrop(model, rng, subject_m)
    elif place == "street" and rng.random() < 0.7:
        _add_houses(model, rng, subject_m)
    if rng.random() < 0.6:
        _add_hills(model, rng)
    _add_rocks(
        model, rng, subject_m, int(rng.integers(3, 12)) if place == "rocks" else int(rng.integers(0, 6))
    )


def _add_backdrop(model: Model, rng: Random, subject_m: float) -> None:
    """A wall, fence, rock face or hedge behind the subject."""
    distance, tall = subject_m * float(rng.uniform(1.4, 3.0)), subject_m * float(rng.uniform(0.2, 1.2))
    for _ in range(int(rng.integers(1, 3))):
        pattern = str(rng.choice(WALLS))
        base = _pick(rng, "green") if pattern == "foliage" else _pick(rng, "brown", "grey", "beige", "white")
        coat = material(
            rng, pattern, scale_colour(base, 0.4), scale_colour(base, 1.1), tile_m=tall * 0.8 + 0.5, grain=0.6
        )
        half = subject_m * float(rng.uniform(0.8, 6.0))
        yaw = float(rng.uniform(-0.3, 0.3)) * min(1.0, subject_m / half)
        centre = (float(rng.normal(0, 0.6)) * subject_m, -tall * 0.3, distance)
        model.box(centre, (half, tall, 0.2), coat, yaw=yaw)
        distance, tall = (
            distance + subject_m * float(rng.uniform(0.3, 1.0)),
            tall * float(rng.uniform(1.1, 2.0)),
        )


def _add_houses(model: Model, rng: Random, subject_m: float) -> None:
    """A row of plain houses with windows."""
    distance, x = subject_m * float(rng.uniform(1.8, 3.0)), -subject_m * 2.5
    glass = material(rng, "plain", (0.15, 0.2, 0.25), (0.3, 0.36, 0.42), tile_m=1.0, gloss=0.6)
    while x < subject_m * 2.5 and len(model.parts) < 24:
        half, tall = subject_m * float(rng.uniform(0.35, 0.7)), subject_m * float(rng.uniform(0.4, 1.1))
        base = _pick(rng, "beige", "white", "grey", "red", "yellow", "brown")
        pattern = str(rng.choice(("bricks", "plain", "stones")))
        coat = material(rng, pattern, scale_colour(base, 0.65), base, tile_m=tall * 0.5, grain=0.3)
        model.box((x + half, -tall * 0.9, distance + half), (half, tall, half), coat)
        for column in (-0.45, 0.45):
            for level in (0.45, 1.1):
                middle = (x + half + column * half, -level * tall * 0.9, distance)
                model.box(middle, (half * 0.2, tall * 0.17, 0.05), glass)
        x += 2 * half + subject_m * float(rng.choice((0.0, 0.1, 0.5)))


def _add_forest(model: Model, rng: Random, subject_m: float) -> None:
    """Trunks with crowns that merge above."""
    bark = _pick(rng, "brown", "grey")
    leaf = _pick(rng, "green", "green", "green", "orange")
    wood = material(rng, "wood", scale_colour(bark, 0.35), bark, tile_m=0.7, wrap="round", grain=0.6)
    leaves = material(rng, "foliage", scale_colour(leaf, 0.3), leaf, tile_m=1.8, grain=0.8, wrap="round")
    for _ in range(int(rng.integers(5, 14))):
        z = subject_m * float(rng.uniform(1.5, 4.0))
        x, tall = z * float(rng.uniform(-0.9, 0.9)), subject_m * float(rng.uniform(0.6, 1.6))
        thick = tall * float(rng.uniform(0.025, 0.06))
        model.cone((x, 0.2, z), (x + tall * float(rng.normal(0, 0.04)), -tall, z), thick, thick * 0.7, wood)
        if rng.random() < 0.7:
            size = tall * float(rng.uniform(0.25, 0.5))
            model.ball((x, -tall, z), (size, size * 0.75, size), leaves)


def _add_hills(model: Model, rng: Random) -> None:
    """Half-buried ellipsoids far away."""
    for _ in range(int(rng.integers(1, 5))):
        distance, wide, tall = (float(rng.uniform(*limits)) for limits in ((28, 55), (8, 25), (1.5, 9)))
        base = _pick(rng, "green", "brown", "grey")
        pattern = str(rng.choice(("foliage", "earth", "grass", "rock")))
        coat = material(
            rng,
            pattern,
            scale_colour(base, 0.5),
            scale_colour(base, 1.1),
            tile_m=9.0,
            grain=0.5,
            wrap="ground",
        )
        model.ball((float(rng.uniform(-1, 1)) * distance, 0.5, distance), (wide, tall, wide * 0.4), coat)


def _add_rocks(model: Model, rng: Random, subject_m: float, count: int) -> None:
    """Rocks and bushes beside and behind the subject, sometimes one close to the camera."""
    for _ in range(count):
        z = subject_m * float(rng.uniform(1.0, 3.0) if rng.random() < 0.85 else rng.uniform(0.45, 0.7))
        x = float(rng.choice((-1, 1))) * z * float(rng.uniform(0.3, 0.8))
        size = min(subject_m, z) * float(rng.uniform(0.03, 0.2))
        green = rng.random() < 0.35
        base = _pick(rng, "green") if green else _pick(rng, "grey", "brown", "beige")
        pattern = "foliage" if green else str(rng.choice(("rock", "earth", "stones")))
        coat = material(
            rng,
            pattern,
            scale_colour(base, 0.35),
            scale_colour(base, 1.2),
            tile_m=size * 2.5,
            grain=0.6,
            wrap="round",
        )
        _add_boulder(model, rng, (x, z), size, coat)


def _add_boulder(model: Model, rng: Random, place: tuple[float, float], size: float, coat: Material) -> None:
    x, z = place
    for _ in range(int(rng.integers(1, 4))):
        half = size * rng.uniform(0.5, 1.2, 3)
        at = (
            x + float(rng.normal(0, 0.5)) * size,
            -float(half[1]) * 0.3,
            z + float(rng.normal(0, 0.4)) * size,
        )
        sizes = (float(half[0]), float(half[1]), float(half[2]))
        rest = (
            shift(at) @ turn_y(float(rng.uniform(0, 6))) @ turn_z(float(rng.normal(0, 0.3))) @ stretch(sizes)
        )
        model.add(SPHERE, rest, coat, -1)
