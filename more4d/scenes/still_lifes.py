"""Static scenes of things close to the camera, for depth training: on a table, a shelf or a plain sweep.

Crockery, food, toys, flowers and books of a few to some tens of centimetres, from level with them to right
above, often filling the picture and cut by its border, on plain white or before clutter.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from more4d.foundation.config import numpy_generator
from more4d.scenes.creatures import animal
from more4d.scenes.environment import build_camera, build_finish
from more4d.scenes.interiors import CLUTTER, PLAIN, lamplight
from more4d.scenes.modelling import Model, shift, stretch, turn_x, turn_y, turn_z
from more4d.scenes.people import robot
from more4d.scenes.primitives import PLANE
from more4d.scenes.rigid_objects import cactus, mushroom, rocket, snowman
from more4d.scenes.scene import Body, Scene
from more4d.scenes.textures import Material, Random, shades
from more4d.scenes.vehicles import car, truck

TOYS = (*CLUTTER, cactus, mushroom, rocket, snowman, robot, car, truck, animal)
FOV_DEG = (25.0, 90.0)
TABLE_TOP = 0.75


def sample_still_life(seed: int, *, aspect: float = 4 / 3) -> Scene:
    """A random still life, a pure function of its arguments; `aspect` is width / height of the image.

    Raises:
        ValueError: the aspect is not a positive number.
    """
    rng = Random(numpy_generator("still life", seed).bit_generator)
    reach = rng.uniform(0.12, 0.6)  # of the arrangement, metres
    things = _arrange(rng, reach)
    camera = build_camera(rng, FOV_DEG, aspect)
    # The arrangement fills between a third of the picture and more than all of it.
    away = reach * 2 * min(camera.fx, camera.fy) / rng.uniform(0.7, 2.2) + 0.08
    down = math.radians(rng.choose((rng.uniform(2, 30), rng.uniform(20, 60), rng.uniform(60, 88))))
    side, roll = rng.normal(0, 0.15) * reach, rng.normal(0, 0.05)
    eye, behind = away * math.sin(down) + 0.05, away * math.cos(down)
    look = turn_z(roll) @ turn_x(down + rng.normal(0, 0.08))
    to_camera = look @ shift((-side, eye + rng.uniform(0.0, 0.5) * reach * math.cos(down), behind))
    centre = np.linalg.inv(to_camera)[:3, 3]
    # The camera is in none of the things, nor right before one.
    things = [(body, size) for body, size in things if _distance(body, size, centre) > 0.8 * size + 0.04]
    numbered = (replace(body, object_id=number) for number, (body, _) in enumerate(things, start=1))
    return Scene(
        camera=camera,
        bodies=(_surroundings(rng, reach), *numbered),
        scene_to_camera=to_camera,
        atmosphere=lamplight(rng),
        finish=build_finish(rng, seed),
    )


def _surroundings(rng: Random, reach: float) -> Body:
    """A table top and what is behind: a plain sweep, a wall near or far, or a room over the edge."""
    model = Model()
    if rng.random() < 0.3:  # a sweep: the same paper below and behind
        paper = rng.colour("white", "white", "white", "grey", "beige", "pink", "turquoise", "black")
        cover = rng.material("plain", *shades(paper, 0.97, 1.0), tile_m=1.0, grain=0.05, wrap="ground")
        model.add(PLANE, stretch((30.0, 1.0, 30.0)), cover, casts=False)
        wall = replace(cover, wrap="box")
        model.box((0.0, 0.0, reach * rng.uniform(2.0, 6.0) + 0.1), (30.0, 30.0, 0.1), wall)
        return model.body()
    pattern = rng.choose(("wood", "wood", "planks", "plain", "marble", "plaid", "checks", "tiles"))
    base = rng.colour("brown", "brown", "beige", "white", "grey", "black", "red", "blue")
    cover = rng.material(pattern, *shades(base, 0.7, 1.0), tile_m=rng.uniform(0.2, 1.0), grain=0.3)
    wide, long = rng.uniform(1.2, 4.0) * reach + 0.1, rng.uniform(1.0, 3.0) * reach + 0.1
    if rng.random() < 0.3:
        wide = long = 20.0  # its edges are out of the picture
    model.box((0.0, 0.02, 0.0), (wide, 0.02, long), cover)
    floor = rng.colour("brown", "beige", "grey", "white")
    boards = rng.choose(("planks", "tiles", "fur", "plain"))
    ground = rng.material(boards, *shades(floor, 0.6, 1.0), tile_m=1.2, grain=0.3, wrap="ground")
    model.add(PLANE, shift((0.0, TABLE_TOP, 0.0)) @ stretch((30.0, 1.0, 30.0)), ground, casts=False)
    paint = rng.colour(*PLAIN)
    pattern = rng.choose(("plain", "plain", "plain", "stripes", "bricks", "tiles", "clouds"))
    coat = rng.material(pattern, *shades(paint, 0.9, 1.0), tile_m=1.2, grain=0.12)
    behind = long + rng.choose((0.05, rng.uniform(0.1, 0.8), rng.uniform(0.5, 4.0)))
    yaw = rng.normal(0, 0.25)
    model.box((0.0, -1.0, behind + 0.1 + 0.6 * abs(yaw)), (30.0, 3.0, 0.1), coat, yaw=yaw)
    for _ in range(rng.integers(0, 6)):  # clutter far behind
        size = (rng.uniform(0.05, 0.5), rng.uniform(0.1, 1.2), rng.uniform(0.05, 0.4))
        place = (rng.uniform(-2, 2), TABLE_TOP - size[1], rng.uniform(0.7, 1.0) * behind)
        if place[2] - size[2] > long:
            model.box(place, size, _coat(rng, size[1]), yaw=rng.normal(0, 0.4))
    return model.body()


def _coat(rng: Random, tile_m: float) -> Material:
    pattern = rng.choose(("plain", "plain", "plain", "stripes", "checks", "spots", "wood", "patches"))
    gloss = rng.choose((0.0, 0.0, 0.4, 0.9))
    first = rng.colour()
    second = rng.colour() if pattern != "plain" else shades(first, 0.9)[0]
    return rng.material(pattern, first, second, tile_m=tile_m, grain=0.2, gloss=gloss)


def _distance(body: Body, size: float, centre: np.ndarray) -> float:
    """From the middle of a thing to the camera."""
    return float(np.linalg.norm(body.placement[:3, 3] - (0.0, size / 2, 0.0) - centre))


def _arrange(rng: Random, reach: float) -> list[tuple[Body, float]]:
    """One thing in the middle and others around it, with their sizes in metres."""
    things: list[tuple[Body, float]] = []
    largest = rng.uniform(0.5, 1.4) * reach
    repeated = rng.choose(MAKERS) if rng.random() < 0.3 else None
    for number in range(rng.integers(1, 12)):
        size = largest if number == 0 else largest * rng.uniform(0.35, 1.0)
        x, z = (0.0, 0.0) if number == 0 else (rng.uniform(-1, 1) * reach, rng.uniform(-1, 1) * reach)
        places = [(other.placement[0, 3], other.placement[2, 3], taken) for other, taken in things]
        if any(math.hypot(x - a, z - b) < 0.55 * (size + taken) for a, b, taken in places):
            continue
        made = (repeated or rng.choose(MAKERS))(rng, size)
        things.append((_sized(made, size, shift((x, 0.0, z)) @ turn_y(rng.uniform(0, 7))), size))
    return things


def _sized(body: Body, size: float, place: np.ndarray) -> Body:
    """A body at a place, whose largest extent is `size` metres."""
    rests = np.stack([part.rest for part in body.parts])
    ends = np.abs(rests[:, :3, :3]).sum(2)
    low, high = (rests[:, :3, 3] - ends).min(0), (rests[:, :3, 3] + ends).max(0)
    factor = size / float((high - low).max())
    return replace(body, placement=place @ stretch((factor, factor, factor)))


def _toy(rng: Random, size: float) -> Body:
    return rng.choose(TOYS)(rng).model.body()


def _mug(rng: Random, size: float) -> Body:
    """A cup, glass, jar or pot, sometimes with a handle."""
    model, coat = Model(), _coat(rng, size)
    tall, low = size, size * rng.uniform(0.2, 0.5)
    high = low * rng.uniform(0.9, 1.5)
    model.cone((0, 0, 0), (0, -tall, 0), low, high, coat)
    inside = rng.material(
        "plain", *shades(rng.colour("brown", "white", "black", "red"), 0.8, 1.0), tile_m=1.0
    )
    model.cone((0, -tall * 1.002, 0), (0, -tall * 1.01, 0), high * 0.88, high * 0.88, inside)
    if rng.random() < 0.6:
        x = max(low, high)
        for level in (0.3, 0.75):
            model.limb((x * 0.8, -tall * level, 0), (x * 1.4, -tall * level, 0), size * 0.05, coat)
        model.limb((x * 1.4, -tall * 0.3, 0), (x * 1.4, -tall * 0.75, 0), size * 0.05, coat)
    return model.body()


def _bottle(rng: Random, size: float) -> Body:
    model, coat = Model(), _coat(rng, size)
    wide, neck = size * rng.uniform(0.12, 0.25), size * rng.uniform(0.03, 0.08)
    model.cone((0, 0, 0), (0, -size * 0.6, 0), wide, wide, coat)
    model.cone((0, -size * 0.6, 0), (0, -size * 0.78, 0), wide, neck, coat)
    model.cone((0, -size * 0.78, 0), (0, -size, 0), neck, neck, coat)
    return model.body()


def _plate(rng: Random, size: float) -> Body:
    """A plate or bowl with food: balls, slices, a cake."""
    model = Model()
    dish = rng.material(
        "plain", *shades(rng.colour("white", "white", "beige", "blue"), 0.95, 1.0), tile_m=1.0
    )
    radius = size * 0.6
    model.cone((0, 0, 0), (0, -size * 0.06, 0), radius * 0.6, radius, dish)
    for _ in range(rng.integers(1, 7)):
        x, z = rng.uniform(-0.5, 0.5) * radius, rng.uniform(-0.5, 0.5) * radius
        half = size * rng.uniform(0.06, 0.2)
        food = _coat(rng, half * 2)
        if rng.random() < 0.6:
            model.ball((x, -size * 0.06 - half * 0.7, z), (half, half * 0.8, half), food)
        else:
            model.box((x, -size * 0.06 - half * 0.4, z), (half, half * 0.4, half * 0.7), food, yaw=half * 99)
    return model.body()


def _fruit(rng: Random, size: float) -> Body:
    model = Model()
    first, second = rng.colour("red", "orange", "yellow", "green", "purple"), rng.colour("green", "yellow")
    skin = rng.material(rng.choose(("plain", "spots", "marble")), first, second, tile_m=size, gloss=0.4)
    half = size / 2
    tall = half * rng.uniform(0.6, 1.5)
    model.ball((0, -tall, 0), (half, tall, half), skin, tilt=rng.normal(0, 0.3))
    return model.body()


def _books(rng: Random, size: float) -> Body:
    """A pile of books or boxes."""
    model, level = Model(), 0.0
    for _ in range(rng.integers(1, 6)):
        thick = size * rng.uniform(0.04, 0.2)
        half = (size * rng.uniform(0.3, 0.6), thick / 2, size * rng.uniform(0.2, 0.45))
        model.box((0, -level - thick / 2, 0), half, _coat(rng, size * 0.4), yaw=rng.normal(0, 0.3))
        level += thick
    return model.body()


def _blocks(rng: Random, size: float) -> Body:
    """A tower of toy blocks, balls and cones."""
    model, level = Model(), 0.0
    for _ in range(rng.integers(1, 4)):
        half = size * rng.uniform(0.12, 0.25)
        kind, coat = rng.integers(3), _coat(rng, half * 2)
        if kind == 0:
            model.box((0, -level - half, 0), (half, half, half), coat, yaw=rng.uniform(0, 3))
        elif kind == 1:
            model.ball((0, -level - half, 0), (half, half, half), coat)
        else:
            model.cone((0, -level, 0), (0, -level - 2 * half, 0), half, half * rng.uniform(0.05, 1.0), coat)
        level += 2 * half
    return model.body()


MAKERS: tuple[Callable[[Random, float], Body], ...] = (
    *(_mug, _bottle, _plate, _fruit, _books, _blocks),
    *(_toy, _toy, _toy),
)
