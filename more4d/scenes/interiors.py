"""Static interior scenes for depth training: walls, ceiling, furniture and clutter.

The scenes of `scenes.scene_sampling` have a subject in front of the camera; these have none. The camera is
anywhere in the room and looks across it, or down at nearby objects, as in typical indoor photos.
"""

import math
from dataclasses import replace

import numpy as np

from more4d.foundation.config import numpy_generator
from more4d.geometry.camera import Camera
from more4d.scenes.environment import build_finish
from more4d.scenes.modelling import Model, shift, stretch, turn_x, turn_y, turn_z
from more4d.scenes.motions import Vector
from more4d.scenes.primitives import BOX
from more4d.scenes.rigid_objects import ball, barrel, box, chair, crate, flower, lamp, vase
from more4d.scenes.scene import Atmosphere, Body, Scene
from more4d.scenes.textures import NAMED_COLOURS, Colour, Material, jitter_colour, material, scale_colour

Random = np.random.Generator
CLUTTER = (vase, flower, ball, box, crate, barrel, lamp, chair)
CLUTTER_M = {"chair": (0.75, 1.0), "lamp": (0.4, 1.7), "barrel": (0.3, 0.7), "crate": (0.2, 0.6)}
SMALL_M = (0.08, 0.4)
PLAIN = ("white", "beige", "grey", "white", "turquoise", "yellow", "pink", "blue", "green")


def sample_interior(seed: int, *, aspect: float = 4 / 3) -> Scene:
    """A random interior, a pure function of its arguments.

    Args:
        seed: random seed.
        aspect: width / height of the image.

    Raises:
        ValueError: the aspect is not a positive number.
    """
    if not (math.isfinite(aspect) and aspect > 0):
        raise ValueError(f"aspect must be positive, got {aspect}")
    rng = numpy_generator("interior", seed)
    half, depth, tall = (
        float(rng.uniform(1.3, 3.5)),
        float(rng.uniform(2.0, 6.5)),
        float(rng.uniform(2.2, 3.3)),
    )
    furniture = [_furnish(rng, half, depth) for _ in range(int(rng.integers(2, 9)))]
    furniture += [_clutter(rng, half, depth) for _ in range(int(rng.integers(0, 6)))]
    fov = math.radians(float(rng.uniform(45, 80)))
    longer = 0.5 / math.tan(fov / 2)
    eye = float(rng.uniform(0.6, 1.8))
    pitch, roll = math.radians(float(rng.normal(14, 13))), float(rng.normal(0, 0.06))
    across, along = float(rng.uniform(-0.8, 0.8)) * half, float(rng.uniform(-0.05, 0.35)) * depth
    furniture = [body for body in furniture if not _blocks(body, across, along)]
    yaw = _facing(rng, furniture, across, along)
    return Scene(
        caption="",
        actions=(),
        camera=Camera(fx=longer * max(1, 1 / aspect), fy=longer * max(aspect, 1)),
        bodies=(
            _shell(rng, half, depth, tall),
            *(replace(body, object_id=index) for index, body in enumerate(furniture, start=1)),
        ),
        scene_to_camera=turn_z(roll) @ turn_x(pitch) @ turn_y(yaw) @ shift((-across, eye, -along)),
        atmosphere=_lamplight(rng),
        finish=build_finish(rng, seed),
        seed=seed,
    )


def _facing(rng: Random, furniture: list[Body], across: float, along: float) -> float:
    """A viewing direction roughly towards a piece of furniture, to avoid views of bare walls."""
    yaw = float(rng.normal(0, 0.3))
    if furniture:
        place = furniture[int(rng.integers(len(furniture)))].placement
        yaw -= math.atan2(place[0, 3] - across, place[2, 3] - along)
    return yaw


def _blocks(body: Body, across: float, along: float) -> bool:
    """Whether a body is at or directly in front of the camera."""
    x, z = body.placement[0, 3] - across, body.placement[2, 3] - along
    return math.hypot(x, z) < body.reach_m + 0.35


def _shell(rng: Random, half: float, depth: float, tall: float) -> Body:
    """Floor, four walls, usually a ceiling; doors, windows and paintings on the walls."""
    model = Model()
    base = jitter_colour(rng, NAMED_COLOURS[str(rng.choice(("brown", "beige", "grey", "white", "brown")))])
    pattern = str(rng.choice(("planks", "tiles", "fur", "wood", "plain", "marble", "plaid")))
    cover = material(
        rng, pattern, scale_colour(base, 0.6), scale_colour(base, 1.1), tile_m=1.2, grain=0.4, wrap="ground"
    )
    model.floor(stretch((30.0, 1.0, 30.0)), cover)
    paint = jitter_colour(rng, NAMED_COLOURS[str(rng.choice(PLAIN))])
    paper = str(rng.choice(("plain", "plain", "plain", "stripes", "bricks", "tiles", "clouds", "planks")))
    back = depth * float(rng.uniform(0.1, 0.5))
    middle, length = (depth - back) / 2, (depth + back) / 2
    walls: tuple[tuple[Vector, Vector], ...] = (
        ((0.0, -tall / 2, depth + 0.1), (half + 0.2, tall / 2, 0.1)),
        ((0.0, -tall / 2, -back - 0.1), (half + 0.2, tall / 2, 0.1)),
        ((-half - 0.1, -tall / 2, middle), (0.1, tall / 2, length + 0.2)),
        ((half + 0.1, -tall / 2, middle), (0.1, tall / 2, length + 0.2)),
    )
    for centre, size in walls:
        coat = material(rng, paper, scale_colour(paint, 0.9), paint, tile_m=1.5, grain=0.12)
        _surface(model, centre, size, coat)
    if rng.random() < 0.85:
        white = jitter_colour(rng, (0.85, 0.85, 0.83), 0.03)
        coat = material(rng, "plain", scale_colour(white, 0.95), white, tile_m=2.0, grain=0.08)
        _surface(model, (0.0, -tall - 0.05, middle), (half + 0.2, 0.05, length + 0.2), coat)
    for _ in range(int(rng.integers(1, 7))):
        _hang(model, rng, half, depth, tall)
    return model.body(0, "", "", np.eye(4))


def _surface(model: Model, centre: Vector, half: Vector, coat: Material) -> None:
    """Add a block that casts no shadow, because the light is inside the room."""
    model.add(BOX, shift(centre) @ stretch(half), coat, -1, casts=False)


def _hang(model: Model, rng: Random, half: float, depth: float, tall: float) -> None:
    """Add a door, window, painting or board on one of the visible walls."""
    wide, high = float(rng.uniform(0.15, 0.8)), float(rng.uniform(0.15, 0.6))
    level = -float(rng.uniform(0.5, 0.75)) * tall
    pattern = str(rng.choice(("plain", "plain", "marble", "clouds", "patches", "wood", "stripes", "spots")))
    if rng.random() < 0.35:
        wide, high, level = float(rng.uniform(0.35, 0.5)), 1.0, -1.0
        pattern = str(rng.choice(("plain", "wood", "planks")))
    first, second = _colour(rng), _colour(rng)
    coat = material(rng, pattern, first, second, tile_m=high, gloss=float(rng.choice((0.0, 0.5))))
    place, thin = float(rng.uniform(-0.8, 0.8)), float(rng.uniform(0.01, 0.06))
    wall = int(rng.integers(3))
    if wall == 0:
        _surface(model, (place * half, level, depth), (wide, high, thin), coat)
    else:
        side = half if wall == 1 else -half
        _surface(model, (side, level, depth * (0.5 + place / 2)), (thin, high, wide), coat)


def _colour(rng: Random) -> Colour:
    return jitter_colour(rng, NAMED_COLOURS[str(rng.choice(tuple(NAMED_COLOURS)))])


def _furnish(rng: Random, half: float, depth: float) -> Body:
    """A table, shelf, cupboard, bed or sofa, mostly along a wall."""
    model = Model()
    colour = jitter_colour(
        rng,
        NAMED_COLOURS[str(rng.choice(("brown", "white", "beige", "grey", "black", "brown", "red", "blue")))],
    )
    pattern = str(rng.choice(("wood", "plain", "planks", "plain")))
    coat = material(
        rng, pattern, scale_colour(colour, 0.75), colour, tile_m=0.8, gloss=float(rng.choice((0.0, 0.3)))
    )
    kind = int(rng.integers(5))
    build = (_table, _shelf, _cupboard, _bed, _sofa)[kind]
    width, thick = build(model, rng, coat)
    if rng.random() < 0.75:
        wall = int(rng.integers(3))
        if wall == 0:
            x, z, turn = float(rng.uniform(-0.9, 0.9)) * max(half - width, 0.1), depth - thick, 0.0
        else:
            side = 1 if wall == 1 else -1
            x, z, turn = side * (half - thick), float(rng.uniform(0.1, 1.0)) * depth, side * math.pi / 2
    else:
        x, z = float(rng.uniform(-0.7, 0.7)) * half, float(rng.uniform(0.25, 0.9)) * depth
        turn = float(rng.uniform(0, 2 * math.pi))
    return model.body(0, "", "", shift((x, 0.0, z)) @ turn_y(turn + float(rng.normal(0, 0.04))))


def _table(model: Model, rng: Random, coat: Material) -> tuple[float, float]:
    """Add a table or desk with objects on it; returns half its width and half its depth, like the functions
    below.
    """
    wide, thick, high = (float(rng.uniform(*span)) for span in ((0.3, 1.0), (0.25, 0.5), (0.4, 0.8)))
    model.box((0, -high, 0), (wide, 0.02, thick), coat)
    for x in (-1, 1):
        for z in (-1, 1):
            model.box((x * wide * 0.92, -high / 2, z * thick * 0.9), (0.025, high / 2, 0.025), coat)
    _litter(model, rng, (wide, thick), high, count=int(rng.integers(0, 6)))
    return wide, thick


def _shelf(model: Model, rng: Random, coat: Material) -> tuple[float, float]:
    """Boards between two sides, with books and boxes."""
    wide, thick, high = (float(rng.uniform(*span)) for span in ((0.3, 0.9), (0.12, 0.22), (0.8, 2.1)))
    for x in (-1, 1):
        model.box((x * wide, -high / 2, 0), (0.015, high / 2, thick), coat)
    model.box((0, -high / 2, thick * 0.95), (wide, high / 2, 0.01), coat)
    boards = int(rng.integers(2, 6))
    for board in range(boards + 1):
        level = high * board / boards
        model.box((0, -level, 0), (wide, 0.012, thick), coat)
        if board < boards and rng.random() < 0.8:
            room_m, count = high / boards * 0.8, int(rng.integers(1, 4))
            _litter(model, rng, (wide * 0.9, thick * 0.6), level, count=count, most_m=room_m)
    return wide, thick


def _cupboard(model: Model, rng: Random, coat: Material) -> tuple[float, float]:
    """Add a closed block with protruding doors, sometimes with an object on top."""
    wide, thick, high = (float(rng.uniform(*span)) for span in ((0.25, 0.9), (0.2, 0.35), (0.4, 2.0)))
    model.box((0, -high / 2, 0), (wide, high / 2, thick), coat)
    doors = int(rng.integers(1, 4))
    for door in range(doors):
        x = wide * (2 * (door + 0.5) / doors - 1)
        model.box((x, -high / 2, -thick), (wide / doors * 0.92, high * 0.46, 0.012), coat)
    if high < 1.3:
        _litter(model, rng, (wide, thick), high, count=int(rng.integers(0, 4)))
    return wide, thick


def _bed(model: Model, rng: Random, coat: Material) -> tuple[float, float]:
    """A frame, a blanket, pillows."""
    wide, long, high = (float(rng.uniform(*span)) for span in ((0.45, 0.9), (0.9, 1.05), (0.3, 0.6)))
    model.box((0, -high * 0.4, 0), (wide, high * 0.4, long), coat)
    cloth = material(
        rng, str(rng.choice(("plain", "stripes", "checks", "spots"))), _colour(rng), _colour(rng), tile_m=0.7
    )
    model.box((0, -high, -0.1), (wide * 1.02, high * 0.25, long * 0.9), cloth)
    white = material(rng, "plain", (0.8, 0.8, 0.8), (0.9, 0.9, 0.9), tile_m=0.5)
    model.ball((0, -high * 1.3, long * 0.75), (wide * 0.7, 0.1, 0.2), white)
    model.box((0, -high * 0.9, long), (wide, high * 0.9, 0.03), coat)
    return wide, long


def _sofa(model: Model, rng: Random, coat: Material) -> tuple[float, float]:
    """A seat, a back, two arms, cushions."""
    wide, thick, high = (float(rng.uniform(*span)) for span in ((0.4, 1.1), (0.35, 0.5), (0.35, 0.45)))
    cloth = material(
        rng, str(rng.choice(("plain", "plain", "stripes", "plaid"))), _colour(rng), _colour(rng), tile_m=0.5
    )
    model.box((0, -high / 2, 0), (wide, high / 2, thick), cloth)
    model.box((0, -high * 0.9, thick * 0.8), (wide, high * 0.9, thick * 0.2), cloth)
    for x in (-1, 1):
        model.box((x * wide, -high * 0.7, 0), (0.1, high * 0.7, thick), cloth)
    for _ in range(int(rng.integers(0, 3))):
        x = float(rng.uniform(-0.7, 0.7)) * wide
        model.ball((x, -high - 0.15, thick * 0.45), (0.2, 0.18, 0.1), coat, tilt=float(rng.normal(0, 0.3)))
    return wide, thick


def _litter(
    model: Model, rng: Random, half: tuple[float, float], level: float, *, count: int, most_m: float = 0.45
) -> None:
    """Books, boxes, cans, a screen, on a board of these half sides, `level` metres above the floor."""
    wide, thick = half
    for _ in range(count):
        coat = material(
            rng,
            str(rng.choice(("plain", "plain", "stripes", "checks", "wood"))),
            _colour(rng),
            _colour(rng),
            tile_m=0.3,
        )
        x, z = float(rng.uniform(-0.8, 0.8)) * wide, float(rng.uniform(-0.6, 0.6)) * thick
        tall = min(float(rng.uniform(0.04, 0.4)), most_m)
        if rng.random() < 0.7:
            size = (float(rng.uniform(0.03, 0.25)), tall / 2, float(rng.uniform(0.02, 0.15)))
            model.box((x, -level - tall / 2, z), size, coat, yaw=float(rng.normal(0, 0.4)))
        else:
            radius = float(rng.uniform(0.03, 0.1))
            model.cone(
                (x, -level, z), (x, -level - tall, z), radius, radius * float(rng.uniform(0.5, 1.3)), coat
            )


def _clutter(rng: Random, half: float, depth: float) -> Body:
    """One object on the floor, scaled to indoor size."""
    spec = CLUTTER[int(rng.integers(len(CLUTTER)))](rng)
    size = float(rng.uniform(*CLUTTER_M.get(spec.noun, SMALL_M))) / spec.height_m * spec.size
    x, z = float(rng.uniform(-0.8, 0.8)) * half, float(rng.uniform(0.2, 1.0)) * depth
    placement = shift((x, 0.0, z)) @ turn_y(float(rng.uniform(0, 2 * math.pi))) @ stretch((size, size, size))
    return spec.model.body(0, "", "", placement)


def _lamplight(rng: Random) -> Atmosphere:
    """Soft light from a ceiling or a window; the sky is plain and bright if there is no ceiling."""
    azimuth, elevation = float(rng.uniform(0, 2 * np.pi)), math.radians(float(rng.uniform(35, 85)))
    strength, fill = float(rng.uniform(0.15, 0.6)), float(rng.uniform(0.3, 0.7))
    warm = float(rng.uniform(0, 0.3))
    flat = math.cos(elevation)
    return Atmosphere(
        to_sun=(flat * math.cos(azimuth), -math.sin(elevation), flat * math.sin(azimuth)),
        sun=(strength, strength * (1 - warm / 3), strength * (1 - warm)),
        ambient=(fill, fill * (1 - warm / 3), fill * (1 - warm)),
        bounce=(fill * 0.7, fill * 0.68, fill * 0.62),
        zenith=(0.7, 0.7, 0.7),
        horizon=(0.6, 0.6, 0.6),
        clouds=-1.0,
        cloud_shift=(0.0, 0.0),
        fog_m=1e4,
        dome_m=60.0,
        softness=float(rng.uniform(0.004, 0.02)),
    )
