"""Where things happen: ground, walls, hills, light and air."""

import math
from dataclasses import dataclass

import numpy as np

from more4d.scenes.modelling import Model, shift, stretch, turn_y, turn_z
from more4d.scenes.palette import NAMED, linear, material, scale, vary
from more4d.scenes.primitives import SPHERE
from more4d.scenes.scene import Atmosphere, Body, Finish, Part
from more4d.scenes.textures import Colour, Material

Random = np.random.Generator
DOME_M = (60.0, 100.0)


@dataclass(frozen=True, kw_only=True)
class Terrain:
    """A tilted plane to stand on.

    Attributes:
        words: what a caption may say of the place, or "".
        slope_x: metres of fall per metre to the right.
        slope_z: metres of fall per metre away from the camera.
        scenery: ground, walls, hills as one body.
    """

    words: str
    slope_x: float
    slope_z: float
    scenery: Body

    def level(self, x: float, z: float) -> float:
        """The ground's y (downward) at a place of the stage."""
        return self.slope_x * x + self.slope_z * z


GROUNDS: tuple[tuple[str, str, str, Colour, Colour, float], ...] = (
    ("on the grass", "grass", "field", (0.16, 0.26, 0.07), (0.42, 0.5, 0.17), 2.0),
    ("across rocky terrain", "gravel", "rock", (0.3, 0.27, 0.24), (0.62, 0.58, 0.52), 1.8),
    ("on the sand", "ripples", "field", (0.7, 0.58, 0.4), (0.82, 0.71, 0.53), 4.0),
    ("on bare earth", "earth", "field", (0.3, 0.21, 0.13), (0.5, 0.39, 0.27), 2.5),
    ("on the road", "plain", "street", (0.3, 0.3, 0.31), (0.42, 0.42, 0.42), 1.5),
    ("on the pavement", "stones", "street", (0.36, 0.34, 0.32), (0.62, 0.6, 0.57), 2.0),
    ("in the snow", "plain", "field", (0.8, 0.83, 0.88), (0.92, 0.93, 0.95), 3.0),
    ("on the wooden floor", "planks", "room", (0.36, 0.22, 0.12), (0.66, 0.46, 0.28), 1.2),
    ("on the tiles", "tiles", "room", (0.45, 0.44, 0.42), (0.85, 0.83, 0.78), 1.6),
    ("on the carpet", "plaid", "room", (0.45, 0.2, 0.2), (0.6, 0.4, 0.3), 1.6),
)
WALLS = ("bricks", "stones", "planks", "plain", "foliage", "tiles", "rust", "earth")


def build_terrain(rng: Random, subject_m: float) -> Terrain:
    """A place whose subject stands `subject_m` metres from the camera."""
    words, pattern, place, low, high, tile = GROUNDS[int(rng.integers(len(GROUNDS)))]
    slope_x, slope_z = 0.0, 0.0
    if place != "room" and rng.random() < 0.4:
        slope_x, slope_z = float(rng.normal(0, 0.06)), float(rng.normal(-0.02, 0.04))
    model = Model()
    cover = material(
        rng,
        pattern,
        vary(rng, low),
        vary(rng, high),
        tile_m=tile,
        grain=0.45,
        wrap="ground",
        turned=pattern != "ripples",
    )
    lay = np.eye(4)
    lay[1, 0], lay[1, 2] = slope_x, slope_z
    model.floor(lay @ stretch((150.0, 1.0, 150.0)), cover)
    if place == "room":
        _add_room(model, rng, subject_m)
    else:
        if rng.random() < 0.5:
            _add_backdrop(model, rng, subject_m)
        if rng.random() < 0.6:
            _add_hills(model, rng, subject_m)
    scenery = model.body(0, "", "", np.eye(4))
    return Terrain(words=words, slope_x=slope_x, slope_z=slope_z, scenery=scenery)


def _add_room(model: Model, rng: Random, subject_m: float) -> None:
    depth, half, tall = (
        subject_m * float(rng.uniform(1.5, 2.8)),
        subject_m * float(rng.uniform(1.0, 2.0)),
        8.0,
    )
    colour = vary(rng, NAMED[str(rng.choice(("white", "beige", "grey", "turquoise", "yellow", "pink")))])
    paper = str(rng.choice(("plain", "plain", "bricks", "stripes", "tiles")))
    coat = material(rng, paper, colour, scale(colour, 0.85), tile_m=2.0, grain=0.15)
    model.box((0, -tall, depth + 0.5), (half * 3, tall * 1.2, 0.5), coat)
    for side in (-1, 1):
        model.box((side * (half + 0.5), -tall, depth / 2), (0.5, tall * 1.2, depth * 2), coat)


def _add_backdrop(model: Model, rng: Random, subject_m: float) -> None:
    """A wall, fence, rock face or hedge behind the subject."""
    distance, tall = subject_m * float(rng.uniform(1.5, 3.5)), subject_m * float(rng.uniform(0.3, 1.2))
    pattern = str(rng.choice(WALLS))
    base = vary(
        rng, NAMED["green" if pattern == "foliage" else str(rng.choice(("brown", "grey", "beige", "white")))]
    )
    coat = material(rng, pattern, scale(base, 0.5), scale(base, 1.1), tile_m=tall * 0.8 + 0.5, grain=0.6)
    yaw, half = float(rng.normal(0, 0.2)), subject_m * float(rng.uniform(0.8, 6.0))
    model.box(
        (float(rng.normal(0, 0.4)) * subject_m, -tall * 0.5, distance), (half, tall, 0.3), coat, yaw=yaw
    )


def _add_hills(model: Model, rng: Random, subject_m: float) -> None:
    """Half-buried ellipsoids: hills in the distance, rocks and bushes nearer by."""
    for _ in range(int(rng.integers(1, 5))):
        distance = float(rng.uniform(25, 55))
        wide, tall = float(rng.uniform(8, 25)), float(rng.uniform(1.5, 9))
        base = vary(rng, NAMED[str(rng.choice(("green", "brown", "grey")))])
        pattern = str(rng.choice(("foliage", "earth", "grass", "stones")))
        coat = material(
            rng, pattern, scale(base, 0.6), scale(base, 1.1), tile_m=10.0, grain=0.5, wrap="ground"
        )
        model.ball((float(rng.uniform(-1, 1)) * distance, 0.5, distance), (wide, tall, wide * 0.4), coat)
    for _ in range(int(rng.integers(0, 7))):
        z = subject_m * float(rng.uniform(1.1, 3.0))
        x = float(rng.choice((-1, 1))) * z * float(rng.uniform(0.15, 0.8))
        size = subject_m * float(rng.uniform(0.03, 0.16))
        base, pattern = (NAMED["green"], "foliage") if rng.random() < 0.4 else (NAMED["grey"], "earth")
        base = vary(rng, base)
        coat = material(
            rng, pattern, scale(base, 0.5), scale(base, 1.2), tile_m=size * 2.5, grain=0.6, wrap="round"
        )
        half = size * rng.uniform(0.6, 1.3, 3)
        model.parts.append(_rock(half, x, z, float(rng.uniform(0, 6)), coat))


def _rock(half: np.ndarray, x: float, z: float, yaw: float, coat: Material) -> Part:
    rest = (
        shift((x, -float(half[1]) * 0.35, z)) @ turn_y(yaw) @ turn_z(0.2) @ stretch(tuple(map(float, half)))
    )
    return Part(kind=SPHERE, rest=rest, material=coat)


def build_atmosphere(rng: Random, indoors: bool) -> Atmosphere:
    """Light from somewhere above, a sky of some weather, some haze."""
    azimuth, elevation = float(rng.uniform(0, 2 * np.pi)), math.radians(float(rng.uniform(25, 75)))
    flat = math.cos(elevation)
    overcast = float(rng.random() ** 1.5)
    warm = float(rng.uniform(0, 1)) * (1 - elevation / 1.6)
    strength = (1.0 - 0.75 * overcast) * float(rng.uniform(0.75, 1.15))
    sky = float(rng.uniform(0.35, 0.55)) + 0.25 * overcast
    blue = vary(rng, (0.35, 0.55, 0.88), 0.06)
    grey = (0.72, 0.74, 0.77)
    zenith = tuple(b + (g - b) * overcast for b, g in zip(blue, grey, strict=True))
    horizon = tuple(
        0.35 * z + 0.65 * w
        for z, w in zip(zenith, (0.9, 0.88 - 0.08 * warm, 0.86 - 0.25 * warm), strict=True)
    )
    return Atmosphere(
        to_sun=(flat * math.cos(azimuth), -math.sin(elevation), flat * math.sin(azimuth)),
        sun=(strength, strength * (1 - 0.25 * warm), strength * (1 - 0.5 * warm)),
        ambient=(sky * (0.8 + 0.2 * overcast), sky * 0.95, sky * 1.1),
        bounce=(sky * 0.45, sky * 0.42, sky * 0.36),
        zenith=linear(zenith),
        horizon=linear(horizon),
        clouds=float(rng.random()),
        cloud_shift=(float(rng.random()), float(rng.random())),
        fog_m=float(rng.choice((1e4, 300.0, 150.0, 80.0))) if not indoors else 1e4,
        dome_m=float(rng.uniform(*DOME_M)),
        softness=float(rng.uniform(0.002, 0.012)),
    )


def build_finish(rng: Random, seed: int) -> Finish:
    """A camera of some quality."""
    return Finish(
        seed=seed,
        exposure=float(np.exp(rng.normal(0, 0.18))),
        contrast=float(rng.uniform(0.9, 1.12)),
        tint=(float(rng.normal(1, 0.03)), 1.0, float(rng.normal(1, 0.03))),
        vignette=float(rng.uniform(0, 0.35)),
        blur_widths=float(rng.choice((0.0, 0.0, 0.004, 0.007))),
        noise=float(rng.choice((0.0, 0.006, 0.012, 0.025))),
        compression=float(rng.choice((0.0, 0.0, 0.5, 1.0))),
    )
