"""Environments: ground, rooms, landscapes, light, atmosphere and camera finish."""

import math
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from more4d.geometry.camera import Camera
from more4d.scenes.modelling import Model, shift, stretch, turn_y, turn_z
from more4d.scenes.primitives import PLANE, SPHERE
from more4d.scenes.scene import Atmosphere, Body, Finish
from more4d.scenes.textures import NAMED_COLOURS, Colour, Random, gamma_to_linear, scale_colour, shades

DOME_M = (60.0, 100.0)


@dataclass(frozen=True, kw_only=True)
class Terrain:
    """A tilted ground plane.

    Attributes:
        phrase: the place in a caption, or "".
        place: field, rocks, forest, street, room, studio or void.
        slope_x: metres of fall per metre to the right.
        slope_z: metres of fall per metre away from the camera.
        scenery: ground, walls, hills as one body.
    """

    phrase: str
    place: str
    slope_x: float
    slope_z: float
    scenery: Body

    def ground_y(self, x: float, z: float) -> float:
        """The ground's y (down) at a position of the scene."""
        return self.slope_x * x + self.slope_z * z


# (phrase, pattern, place, darkest and lightest display colour, tile in metres)
GROUNDS: tuple[tuple[str, str, str, Colour, Colour, float], ...] = (
    ("on the grass", "grass", "field", (0.13, 0.22, 0.05), (0.42, 0.5, 0.17), 2.0),
    ("in the meadow", "foliage", "field", (0.14, 0.22, 0.06), (0.5, 0.55, 0.2), 1.6),
    ("across rocky terrain", "gravel", "rocks", (0.3, 0.27, 0.24), (0.62, 0.58, 0.52), 1.8),
    ("across rocky ground", "rock", "rocks", (0.25, 0.22, 0.2), (0.6, 0.55, 0.48), 2.5),
    ("on the sand", "ripples", "field", (0.62, 0.5, 0.34), (0.85, 0.73, 0.54), 4.0),
    ("in the yard", "earth", "field", (0.6, 0.52, 0.42), (0.82, 0.75, 0.65), 3.0),
    ("on bare earth", "earth", "rocks", (0.25, 0.17, 0.11), (0.5, 0.39, 0.27), 2.5),
    ("in the forest", "leaf litter", "forest", (0.2, 0.14, 0.08), (0.55, 0.38, 0.2), 1.5),
    ("on the road", "earth", "street", (0.25, 0.25, 0.26), (0.42, 0.42, 0.42), 1.2),
    ("on the pavement", "stones", "street", (0.3, 0.28, 0.27), (0.62, 0.6, 0.57), 2.0),
    ("in the snow", "plain", "field", (0.78, 0.82, 0.88), (0.92, 0.93, 0.95), 3.0),
    ("on the wooden floor", "planks", "room", (0.36, 0.22, 0.12), (0.66, 0.46, 0.28), 1.2),
    ("on the tiles", "tiles", "room", (0.45, 0.44, 0.42), (0.85, 0.83, 0.78), 1.6),
    ("on the carpet", "fur", "room", (0.35, 0.16, 0.16), (0.62, 0.4, 0.32), 0.8),
    ("on the table", "wood", "room", (0.33, 0.2, 0.11), (0.6, 0.42, 0.26), 0.9),
    ("", "plain", "studio", (0.85, 0.85, 0.85), (0.92, 0.92, 0.92), 3.0),
    ("", "plain", "void", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1.0),
)
GROUND_WEIGHTS = np.array([7, 5, 6, 5, 5, 5, 5, 5, 5, 5, 3, 5, 4, 4, 3, 2.5, 2.5])


def build_terrain(rng: Random, subject_m: float) -> Terrain:
    """An environment for a subject `subject_m` metres from the camera."""
    chosen = rng.choice(len(GROUNDS), p=GROUND_WEIGHTS / GROUND_WEIGHTS.sum())
    phrase, pattern, place, low, high, tile = GROUNDS[chosen]
    slope_x = slope_z = 0.0
    if place in ("field", "rocks", "forest", "street") and rng.random() < 0.45:
        slope_x, slope_z = rng.normal(0, 0.06), rng.normal(-0.03, 0.05)
    model = Model()
    tint = rng.normal(1, 0.12)
    darkest, lightest = (rng.jitter(scale_colour(end, tint), 0.04) for end in (low, high))
    if place == "studio":
        darkest = rng.colour("white", "grey", "beige", "turquoise", "pink", "black")
        lightest = scale_colour(darkest, 1.1)
    turned = pattern not in ("ripples", "planks", "tiles") or rng.random() < 0.3
    cover = rng.material(pattern, darkest, lightest, tile_m=tile, grain=0.45, wrap="ground", turned=turned)
    lay = np.eye(4)
    lay[1, 0], lay[1, 2] = slope_x, slope_z
    if place == "void":
        cover = replace(cover, colours=((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)))
        lay[1, 3] = 40.0  # an object on a plain background: the ground is out of view, far below
    model.add(PLANE, lay @ stretch((150.0, 1.0, 150.0)), cover, casts=False)
    if place == "room":
        add_room(model, rng, subject_m)
    elif place == "studio":
        wall = replace(cover, wrap="box")
        model.box((0, 0, subject_m * rng.uniform(1.5, 2.5) + 0.3), (80.0, 80.0, 0.3), wall)
    elif place != "void":
        add_landscape(model, rng, subject_m, place)
    return Terrain(phrase=phrase, place=place, slope_x=slope_x, slope_z=slope_z, scenery=model.body())


def build_atmosphere(rng: Random, terrain: Terrain) -> Atmosphere:
    """Random light from above, sky and haze."""
    if terrain.place == "void":
        return _dark_atmosphere(rng)
    indoors = terrain.place in ("room", "studio")
    azimuth, elevation = rng.uniform(0, 2 * np.pi), math.radians(rng.uniform(25, 75))
    flat = math.cos(elevation)
    overcast = float(rng.random() ** 1.5)
    warm = rng.uniform(0, 1) * (1 - elevation / 1.6)
    strength = (1.0 - 0.75 * overcast) * rng.uniform(0.75, 1.15)
    sky = rng.uniform(0.35, 0.55) + 0.25 * overcast
    blue = rng.jitter((0.35, 0.55, 0.88), 0.06)
    grey = (0.72, 0.74, 0.77)
    haze = (0.9, 0.88 - 0.08 * warm, 0.86 - 0.25 * warm)
    zenith = tuple(b + (g - b) * overcast for b, g in zip(blue, grey, strict=True))
    horizon = tuple(0.35 * z + 0.65 * h for z, h in zip(zenith, haze, strict=True))
    return Atmosphere(
        to_sun=(flat * math.cos(azimuth), -math.sin(elevation), flat * math.sin(azimuth)),
        sun=(strength, strength * (1 - 0.25 * warm), strength * (1 - 0.5 * warm)),
        ambient=(sky * (0.8 + 0.2 * overcast), sky * 0.95, sky * 1.1),
        bounce=(sky * 0.45, sky * 0.42, sky * 0.36),
        zenith=gamma_to_linear(zenith),
        horizon=gamma_to_linear(horizon),
        clouds=rng.random(),
        cloud_shift=(rng.random(), rng.random()),
        fog_m=rng.choose((1e4, 300.0, 150.0, 80.0)) if not indoors else 1e4,
        dome_m=rng.uniform(*DOME_M),
        softness=rng.uniform(0.002, 0.012),
    )


def _dark_atmosphere(rng: Random) -> Atmosphere:
    """Light for an object on a black or plain background, like a cut-out photo."""
    name = rng.choose(("black", "black", "white", "grey"))
    plain = gamma_to_linear(rng.jitter(NAMED_COLOURS[name], 0.03))
    if rng.random() < 0.5:
        plain = (0.0, 0.0, 0.0)
    side, strength = rng.uniform(-0.7, 0.7), rng.uniform(0.6, 1.0)
    return Atmosphere(
        to_sun=(side * 0.8, -0.6, -math.sqrt(0.64 - 0.64 * side * side)),
        sun=(strength, strength, strength),
        ambient=(0.5, 0.5, 0.52),
        bounce=(0.25, 0.25, 0.25),
        zenith=plain,
        horizon=plain,
        dome_m=rng.uniform(*DOME_M),
        softness=0.004,
    )


def build_camera(rng: Random, fov_deg: tuple[float, float], aspect: float) -> Camera:
    """A camera with a random field of view along the longer side of an image of this aspect ratio.

    Raises:
        ValueError: the aspect is not a positive number.
    """
    if not (math.isfinite(aspect) and aspect > 0):
        raise ValueError(f"aspect must be positive, got {aspect}")
    longer = 0.5 / math.tan(math.radians(rng.uniform(*fov_deg)) / 2)
    return Camera(fx=longer * max(1, 1 / aspect), fy=longer * max(aspect, 1))


def build_finish(rng: Random, seed: int) -> Finish:
    """A camera of random quality."""
    return Finish(
        seed=seed,
        exposure=float(np.exp(rng.normal(0, 0.18))),
        contrast=rng.uniform(0.9, 1.12),
        tint=(rng.normal(1, 0.03), 1.0, rng.normal(1, 0.03)),
        vignette=rng.uniform(0, 0.35),
        blur_widths=rng.choose((0.0, 0.0, 0.0, 0.003, 0.005)),
        noise=rng.choose((0.0, 0.004, 0.008, 0.018)),
        compression=rng.choose((0.0, 0.0, 0.5, 1.0)),
    )


WALLS = ("bricks", "stones", "planks", "slats", "rock", "foliage", "foliage", "tiles", "rust", "plain")


def add_room(model: Model, rng: Random, subject_m: float) -> None:
    """Add three walls, with a window, a painting or a shelf on the far one."""
    depth, half, tall = subject_m * rng.uniform(1.4, 2.6), subject_m * rng.uniform(1.0, 2.0), 8.0
    colour = rng.colour("white", "beige", "grey", "turquoise", "yellow", "pink", "blue", "green")
    paper = rng.choose(("plain", "plain", "bricks", "stripes", "tiles", "planks"))
    coat = rng.material(paper, *shades(colour, 0.9, 1.1), tile_m=2.0, grain=0.15)
    model.box((0, -tall, depth + 0.5), (half * 3, tall * 1.2, 0.5), coat)
    for side in (-1, 1):
        model.box((side * (half + 0.5), -tall, depth / 2), (0.5, tall * 1.2, depth * 2), coat)
    for _ in range(rng.integers(0, 4)):
        frame = rng.colour("white", "brown", "black", "red", "blue")
        pattern = rng.choose(("plain", "marble", "clouds", "patches", "wood"))
        art = rng.material(pattern, frame, rng.colour(), tile_m=subject_m * 0.3)
        wide, high = subject_m * rng.uniform(0.06, 0.25, 2)
        x, y = rng.uniform(-0.7, 0.7) * half, -subject_m * rng.uniform(0.15, 0.6)
        model.box((x, y, depth), (wide, high, 0.03 * subject_m), art)


def add_landscape(model: Model, rng: Random, subject_m: float, place: str) -> None:
    """Add outdoor scenery behind and beside the subject."""
    if place == "forest" or rng.random() < 0.25:
        _add_forest(model, rng, subject_m)
    if rng.random() < 0.5:
        _add_backdrop(model, rng, subject_m)
    elif place == "street" and rng.random() < 0.7:
        _add_houses(model, rng, subject_m)
    if rng.random() < 0.6:
        _add_hills(model, rng)
    _add_rocks(model, rng, subject_m, (3, 12) if place == "rocks" else (0, 6))


def _add_backdrop(model: Model, rng: Random, subject_m: float) -> None:
    """A wall, fence, rock face or hedge behind the subject."""
    distance, tall = subject_m * rng.uniform(1.4, 3.0), subject_m * rng.uniform(0.2, 1.2)
    for _ in range(rng.integers(1, 3)):
        pattern = rng.choose(WALLS)
        names = ("green",) if pattern == "foliage" else ("brown", "grey", "beige", "white")
        base = rng.colour(*names)
        coat = rng.material(pattern, *shades(base, 0.4, 1.1), tile_m=tall * 0.8 + 0.5, grain=0.6)
        half = subject_m * rng.uniform(0.8, 6.0)
        yaw = rng.uniform(-0.3, 0.3) * min(1.0, subject_m / half)
        centre = (rng.normal(0, 0.6) * subject_m, -tall * 0.3, distance)
        model.box(centre, (half, tall, 0.2), coat, yaw=yaw)
        distance += subject_m * rng.uniform(0.3, 1.0)
        tall *= rng.uniform(1.1, 2.0)


def _add_houses(model: Model, rng: Random, subject_m: float) -> None:
    """A row of plain houses with windows."""
    distance, x = subject_m * rng.uniform(1.8, 3.0), -subject_m * 2.5
    glass = rng.material("plain", (0.15, 0.2, 0.25), (0.3, 0.36, 0.42), tile_m=1.0, gloss=0.6)
    while x < subject_m * 2.5 and len(model.parts) < 24:
        half, tall = subject_m * rng.uniform(0.35, 0.7), subject_m * rng.uniform(0.4, 1.1)
        base = rng.colour("beige", "white", "grey", "red", "yellow", "brown")
        pattern = rng.choose(("bricks", "plain", "stones"))
        coat = rng.material(pattern, *shades(base, 0.65, 1.0), tile_m=tall * 0.5, grain=0.3)
        model.box((x + half, -tall * 0.9, distance + half), (half, tall, half), coat)
        for column, level in product((-0.45, 0.45), (0.45, 1.1)):
            middle = (x + half + column * half, -level * tall * 0.9, distance)
            model.box(middle, (half * 0.2, tall * 0.17, 0.05), glass)
        x += 2 * half + subject_m * rng.choose((0.0, 0.1, 0.5))


def _add_forest(model: Model, rng: Random, subject_m: float) -> None:
    """Trunks with crowns that merge above."""
    bark = rng.colour("brown", "grey")
    leaf = rng.colour("green", "green", "green", "orange")
    wood = rng.material("wood", *shades(bark, 0.35, 1.0), tile_m=0.7, wrap="round", grain=0.6)
    leaves = rng.material("foliage", *shades(leaf, 0.3, 1.0), tile_m=1.8, grain=0.8, wrap="round")
    for _ in range(rng.integers(5, 14)):
        z = subject_m * rng.uniform(1.5, 4.0)
        x, tall = z * rng.uniform(-0.9, 0.9), subject_m * rng.uniform(0.6, 1.6)
        thick = tall * rng.uniform(0.025, 0.06)
        model.cone((x, 0.2, z), (x + tall * rng.normal(0, 0.04), -tall, z), thick, thick * 0.7, wood)
        if rng.random() < 0.7:
            size = tall * rng.uniform(0.25, 0.5)
            model.ball((x, -tall, z), (size, size * 0.75, size), leaves)


def _add_hills(model: Model, rng: Random) -> None:
    """Half-buried ellipsoids far away."""
    for _ in range(rng.integers(1, 5)):
        distance, wide, tall = rng.uniforms((28.0, 55.0), (8.0, 25.0), (1.5, 9.0))
        base = rng.colour("green", "brown", "grey")
        pattern = rng.choose(("foliage", "earth", "grass", "rock"))
        coat = rng.material(pattern, *shades(base, 0.5, 1.1), tile_m=9.0, grain=0.5, wrap="ground")
        model.ball((rng.uniform(-1, 1) * distance, 0.5, distance), (wide, tall, wide * 0.4), coat)


def _add_rocks(model: Model, rng: Random, subject_m: float, counts: tuple[int, int]) -> None:
    """Rocks and bushes beside and behind the subject, sometimes one close to the camera."""
    for _ in range(rng.integers(*counts)):
        z = subject_m * rng.uniform(*((1.0, 3.0) if rng.random() < 0.85 else (0.45, 0.7)))
        x = rng.choose((-1, 1)) * z * rng.uniform(0.3, 0.8)
        size = min(subject_m, z) * rng.uniform(0.03, 0.2)
        green = rng.random() < 0.35
        base = rng.colour(*(("green",) if green else ("grey", "brown", "beige")))
        pattern = "foliage" if green else rng.choose(("rock", "earth", "stones"))
        shade = shades(base, 0.35, 1.2)
        coat = rng.material(pattern, *shade, tile_m=size * 2.5, grain=0.6, wrap="round")
        for _ in range(rng.integers(1, 4)):
            half = size * rng.uniform(0.5, 1.2, 3)
            at = shift((x + rng.normal(0, 0.5) * size, -half[1] * 0.3, z + rng.normal(0, 0.4) * size))
            rest = at @ turn_y(rng.uniform(0, 6)) @ turn_z(rng.normal(0, 0.3)) @ stretch(tuple(half))
            model.add(SPHERE, rest, coat)
