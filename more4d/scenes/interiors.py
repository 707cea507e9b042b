"""Static interior scenes for depth training: walls, ceiling, furniture and clutter.

The scenes of `scenes.scene_sampling` have a subject in front of the camera; these have none. The camera is
anywhere in the room and looks across it, or down at nearby objects, as in typical indoor photos.
"""

import math
from dataclasses import replace
from itertools import product

import numpy as np

from more4d.foundation.config import numpy_generator
from more4d.scenes.environment import build_camera, build_finish
from more4d.scenes.modelling import Model, shift, stretch, turn_x, turn_y, turn_z
from more4d.scenes.motions import Vector
from more4d.scenes.primitives import BOX, PLANE
from more4d.scenes.rigid_objects import ball, barrel, box, chair, crate, flower, lamp, vase
from more4d.scenes.scene import Atmosphere, Body, Scene
from more4d.scenes.textures import Material, Random, shades

WALLS = (0, 1, -1)
"""The far wall, the right one, the left one."""
CLUTTER = (vase, flower, ball, box, crate, barrel, lamp, chair)
CLUTTER_M = {"chair": (0.75, 1.0), "lamp": (0.4, 1.7), "barrel": (0.3, 0.7), "crate": (0.2, 0.6)}
SMALL_M = (0.08, 0.4)
PLAIN = ("white", "beige", "grey", "white", "turquoise", "yellow", "pink", "blue", "green")


def sample_interior(seed: int, *, aspect: float = 4 / 3) -> Scene:
    """A random interior, a pure function of its arguments; `aspect` is width / height of the image.

    Raises:
        ValueError: the aspect is not a positive number.
    """
    rng = Random(numpy_generator("interior", seed).bit_generator)
    half, depth, tall = rng.uniforms((1.3, 3.5), (2.0, 6.5), (2.2, 3.3))
    furniture = [_furnish(rng, half, depth) for _ in range(rng.integers(2, 9))]
    furniture += [_clutter(rng, half, depth) for _ in range(rng.integers(0, 6))]
    camera = build_camera(rng, (45.0, 80.0), aspect)
    eye = rng.uniform(0.6, 1.8)
    pitch, roll = math.radians(rng.normal(14, 13)), rng.normal(0, 0.06)
    across, along = rng.uniform(-0.8, 0.8) * half, rng.uniform(-0.05, 0.35) * depth
    # nothing stands at or directly in front of the camera, which looks roughly towards a piece of furniture
    furniture = [body for body in furniture if _distance(body, across, along) >= body.reach_m + 0.35]
    yaw = rng.normal(0, 0.3)
    if furniture:
        place = rng.choose(furniture).placement
        yaw -= math.atan2(place[0, 3] - across, place[2, 3] - along)
    return Scene(
        camera=camera,
        bodies=(
            _shell(rng, half, depth, tall),
            *(replace(body, object_id=index) for index, body in enumerate(furniture, start=1)),
        ),
        scene_to_camera=turn_z(roll) @ turn_x(pitch) @ turn_y(yaw) @ shift((-across, eye, -along)),
        atmosphere=lamplight(rng),
        finish=build_finish(rng, seed),
    )


def _distance(body: Body, across: float, along: float) -> float:
    return math.hypot(body.placement[0, 3] - across, body.placement[2, 3] - along)


def _shell(rng: Random, half: float, depth: float, tall: float) -> Body:
    """Floor, four walls, usually a ceiling; doors, windows and paintings on the walls."""
    model = Model()
    base = rng.colour("brown", "beige", "grey", "white", "brown")
    pattern = rng.choose(("planks", "tiles", "fur", "wood", "plain", "marble", "plaid"))
    cover = rng.material(pattern, *shades(base, 0.6, 1.1), tile_m=1.2, grain=0.4, wrap="ground")
    model.add(PLANE, stretch((30.0, 1.0, 30.0)), cover, casts=False)
    paint = rng.colour(*PLAIN)
    paper = rng.choose(("plain", "plain", "plain", "stripes", "bricks", "tiles", "clouds", "planks"))
    back = depth * rng.uniform(0.1, 0.5)
    middle, length = (depth - back) / 2, (depth + back) / 2
    walls = [((0.0, -tall / 2, z), (half + 0.2, tall / 2, 0.1)) for z in (depth + 0.1, -back - 0.1)]
    walls += [((x, -tall / 2, middle), (0.1, tall / 2, length + 0.2)) for x in (-half - 0.1, half + 0.1)]
    for centre, size in walls:
        coat = rng.material(paper, *shades(paint, 0.9, 1.0), tile_m=1.5, grain=0.12)
        _surface(model, centre, size, coat)
    if rng.random() < 0.85:
        white = rng.jitter((0.85, 0.85, 0.83), 0.03)
        coat = rng.material("plain", *shades(white, 0.95, 1.0), tile_m=2.0, grain=0.08)
        _surface(model, (0.0, -tall - 0.05, middle), (half + 0.2, 0.05, length + 0.2), coat)
    for _ in range(rng.integers(1, 7)):
        _hang(model, rng, half, depth, tall)
    return model.body()


def _surface(model: Model, centre: Vector, half: Vector, coat: Material) -> None:
    """Add a block that casts no shadow, because the light is inside the room."""
    model.add(BOX, shift(centre) @ stretch(half), coat, casts=False)


def _hang(model: Model, rng: Random, half: float, depth: float, tall: float) -> None:
    """Add a door, window, painting or board on one of the visible walls."""
    wide, high = rng.uniform(0.15, 0.8), rng.uniform(0.15, 0.6)
    level = -rng.uniform(0.5, 0.75) * tall
    pattern = rng.choose(("plain", "plain", "marble", "clouds", "patches", "wood", "stripes", "spots"))
    if rng.random() < 0.35:
        wide, high, level = rng.uniform(0.35, 0.5), 1.0, -1.0
        pattern = rng.choose(("plain", "wood", "planks"))
    first, second = rng.colour(), rng.colour()
    coat = rng.material(pattern, first, second, tile_m=high, gloss=rng.choose((0.0, 0.5)))
    place, thin = rng.uniform(-0.8, 0.8), rng.uniform(0.01, 0.06)
    side = rng.choose(WALLS)
    if side == 0:
        _surface(model, (place * half, level, depth), (wide, high, thin), coat)
    else:
        _surface(model, (side * half, level, depth * (0.5 + place / 2)), (thin, high, wide), coat)


def _printed(rng: Random, tile_m: float, *patterns: str) -> Material:
    """One of the patterns in any two colours."""
    pattern = rng.choose(patterns)
    return rng.material(pattern, rng.colour(), rng.colour(), tile_m=tile_m)


def _furnish(rng: Random, half: float, depth: float) -> Body:
    """A table, shelf, cupboard, bed or sofa, mostly along a wall."""
    model = Model()
    colour = rng.colour("brown", "white", "beige", "grey", "black", "brown", "red", "blue")
    pattern = rng.choose(("wood", "plain", "planks", "plain"))
    coat = rng.material(pattern, *shades(colour, 0.75, 1.0), tile_m=0.8, gloss=rng.choose((0.0, 0.3)))
    width, thick = rng.choose((_table, _shelf, _cupboard, _bed, _sofa))(model, rng, coat)
    if rng.random() < 0.75:
        side = rng.choose(WALLS)
        if side == 0:
            x, z, turn = rng.uniform(-0.9, 0.9) * max(half - width, 0.1), depth - thick, 0.0
        else:
            x, z, turn = side * (half - thick), rng.uniform(0.1, 1.0) * depth, side * math.pi / 2
    else:
        x, z = rng.uniform(-0.7, 0.7) * half, rng.uniform(0.25, 0.9) * depth
        turn = rng.uniform(0, 2 * math.pi)
    return model.body(placement=shift((x, 0.0, z)) @ turn_y(turn + rng.normal(0, 0.04)))


def _table(model: Model, rng: Random, coat: Material) -> tuple[float, float]:
    """A table or desk with objects; returns half its width and half its depth, like the functions below."""
    wide, thick, high = rng.uniforms((0.3, 1.0), (0.25, 0.5), (0.4, 0.8))
    model.box((0, -high, 0), (wide, 0.02, thick), coat)
    for x, z in product((-1, 1), (-1, 1)):
        model.box((x * wide * 0.92, -high / 2, z * thick * 0.9), (0.025, high / 2, 0.025), coat)
    _litter(model, rng, (wide, thick), high, counts=(0, 6))
    return wide, thick


def _shelf(model: Model, rng: Random, coat: Material) -> tuple[float, float]:
    """Boards between two sides, with books and boxes."""
    wide, thick, high = rng.uniforms((0.3, 0.9), (0.12, 0.22), (0.8, 2.1))
    for x in (-1, 1):
        model.box((x * wide, -high / 2, 0), (0.015, high / 2, thick), coat)
    model.box((0, -high / 2, thick * 0.95), (wide, high / 2, 0.01), coat)
    boards = rng.integers(2, 6)
    for board in range(boards + 1):
        level = high * board / boards
        model.box((0, -level, 0), (wide, 0.012, thick), coat)
        if board < boards and rng.random() < 0.8:
            half, room_m = (wide * 0.9, thick * 0.6), high / boards * 0.8
            _litter(model, rng, half, level, counts=(1, 4), most_m=room_m)
    return wide, thick


def _cupboard(model: Model, rng: Random, coat: Material) -> tuple[float, float]:
    """Add a closed block with protruding doors, sometimes with an object on top."""
    wide, thick, high = rng.uniforms((0.25, 0.9), (0.2, 0.35), (0.4, 2.0))
    model.box((0, -high / 2, 0), (wide, high / 2, thick), coat)
    doors = rng.integers(1, 4)
    for door in range(doors):
        x = wide * (2 * (door + 0.5) / doors - 1)
        model.box((x, -high / 2, -thick), (wide / doors * 0.92, high * 0.46, 0.012), coat)
    if high < 1.3:
        _litter(model, rng, (wide, thick), high, counts=(0, 4))
    return wide, thick


def _bed(model: Model, rng: Random, coat: Material) -> tuple[float, float]:
    """A frame, a blanket, pillows."""
    wide, long, high = rng.uniforms((0.45, 0.9), (0.9, 1.05), (0.3, 0.6))
    model.box((0, -high * 0.4, 0), (wide, high * 0.4, long), coat)
    cloth = _printed(rng, 0.7, "plain", "stripes", "checks", "spots")
    model.box((0, -high, -0.1), (wide * 1.02, high * 0.25, long * 0.9), cloth)
    white = rng.material("plain", (0.8, 0.8, 0.8), (0.9, 0.9, 0.9), tile_m=0.5)
    model.ball((0, -high * 1.3, long * 0.75), (wide * 0.7, 0.1, 0.2), white)
    model.box((0, -high * 0.9, long), (wide, high * 0.9, 0.03), coat)
    return wide, long


def _sofa(model: Model, rng: Random, coat: Material) -> tuple[float, float]:
    """A seat, a back, two arms, cushions."""
    wide, thick, high = rng.uniforms((0.4, 1.1), (0.35, 0.5), (0.35, 0.45))
    cloth = _printed(rng, 0.5, "plain", "plain", "stripes", "plaid")
    model.box((0, -high / 2, 0), (wide, high / 2, thick), cloth)
    model.box((0, -high * 0.9, thick * 0.8), (wide, high * 0.9, thick * 0.2), cloth)
    for x in (-1, 1):
        model.box((x * wide, -high * 0.7, 0), (0.1, high * 0.7, thick), cloth)
    for _ in range(rng.integers(0, 3)):
        x = rng.uniform(-0.7, 0.7) * wide
        model.ball((x, -high - 0.15, thick * 0.45), (0.2, 0.18, 0.1), coat, tilt=rng.normal(0, 0.3))
    return wide, thick


def _litter(
    model: Model,
    rng: Random,
    half: tuple[float, float],
    level: float,
    *,
    counts: tuple[int, int],
    most_m: float = 0.45,
) -> None:
    """Books, boxes, cans, a screen, on a board of these half sides, `level` metres above the floor."""
    wide, thick = half
    for _ in range(rng.integers(*counts)):
        coat = _printed(rng, 0.3, "plain", "plain", "stripes", "checks", "wood")
        x, z = rng.uniform(-0.8, 0.8) * wide, rng.uniform(-0.6, 0.6) * thick
        tall = min(rng.uniform(0.04, 0.4), most_m)
        if rng.random() < 0.7:
            size = (rng.uniform(0.03, 0.25), tall / 2, rng.uniform(0.02, 0.15))
            model.box((x, -level - tall / 2, z), size, coat, yaw=rng.normal(0, 0.4))
        else:
            radius = rng.uniform(0.03, 0.1)
            model.cone((x, -level, z), (x, -level - tall, z), radius, radius * rng.uniform(0.5, 1.3), coat)


def _clutter(rng: Random, half: float, depth: float) -> Body:
    """One object on the floor, scaled to indoor size."""
    spec = rng.choose(CLUTTER)(rng)
    size = rng.uniform(*CLUTTER_M.get(spec.noun, SMALL_M)) / spec.height_m * spec.size
    x, z = rng.uniform(-0.8, 0.8) * half, rng.uniform(0.2, 1.0) * depth
    placement = shift((x, 0.0, z)) @ turn_y(rng.uniform(0, 2 * math.pi)) @ stretch((size, size, size))
    return spec.model.body(placement=placement)


def lamplight(rng: Random) -> Atmosphere:
    """Soft light from a ceiling or a window; the sky is plain and bright if there is no ceiling."""
    azimuth, elevation = rng.uniform(0, 2 * np.pi), math.radians(rng.uniform(35, 85))
    strength, fill = rng.uniform(0.15, 0.6), rng.uniform(0.3, 0.7)
    warm = rng.uniform(0, 0.3)
    flat = math.cos(elevation)
    return Atmosphere(
        to_sun=(flat * math.cos(azimuth), -math.sin(elevation), flat * math.sin(azimuth)),
        sun=(strength, strength * (1 - warm / 3), strength * (1 - warm)),
        ambient=(fill, fill * (1 - warm / 3), fill * (1 - warm)),
        bounce=(fill * 0.7, fill * 0.68, fill * 0.62),
        zenith=(0.7, 0.7, 0.7),
        horizon=(0.6, 0.6, 0.6),
        dome_m=60.0,
        softness=rng.uniform(0.004, 0.02),
    )
