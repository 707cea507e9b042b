"""Static street scenes for depth training: rows of houses along a road, with cars, trees, poles and people.

The scenes of `scenes.scene_sampling` have a subject and a landscape behind it. Here surfaces run away from
the camera, as in pictures taken from a car or a pavement, and the farthest is tens of metres away.
"""

import math
from dataclasses import replace

import numpy as np

from more4d.foundation.config import numpy_generator
from more4d.scenes.environment import Terrain, build_atmosphere, build_camera, build_finish
from more4d.scenes.modelling import Model, ObjectSpec, shift, stretch, turn_x, turn_y, turn_z
from more4d.scenes.people import person
from more4d.scenes.primitives import PLANE
from more4d.scenes.rigid_objects import tree
from more4d.scenes.scene import Body, Scene
from more4d.scenes.textures import Random, shades
from more4d.scenes.vehicles import bus, car, truck

VEHICLES = (car, car, car, truck, bus)
VEHICLE_M = {"car": (1.4, 1.7), "truck": (2.4, 3.4), "bus": (2.8, 3.3)}
FACADES = ("bricks", "bricks", "plain", "plain", "stones", "planks", "tiles")
FACADE_COLOURS = ("beige", "white", "grey", "red", "brown", "yellow", "grey")
FOV_DEG = (30.0, 110.0)
SIDES = (-1, 1)


def sample_street(seed: int, *, aspect: float = 4 / 3) -> Scene:
    """A random street, a pure function of its arguments; `aspect` is width / height of the image.

    Raises:
        ValueError: the aspect is not a positive number.
    """
    rng = Random(numpy_generator("street", seed).bit_generator)
    road, pavement = rng.uniform(2.5, 7.0), rng.uniform(1.0, 4.0)
    end = rng.uniform(25.0, 110.0)
    bodies = [_ground(rng, road, pavement, end)]
    for side in SIDES:
        if rng.random() < 0.85:
            bodies.append(_houses(rng, side, road + pavement, end))
        bodies += _along_the_kerb(rng, side, road, pavement, end)
    traffic = [_vehicle(rng, rng.uniform(-0.6, 0.6) * road, rng.uniform(6, end)) for _ in range(3)]
    bodies += traffic[: rng.integers(0, 4)]
    if rng.random() < 0.4:
        bodies.append(_across(rng, road, pavement, end))
    camera = build_camera(rng, FOV_DEG, aspect)
    # on the road, on a pavement, or at a window
    x = rng.choose((rng.uniform(-0.7, 0.7) * road, rng.choose(SIDES) * (road + 0.6 * pavement)))
    eye = rng.uniform(1.1, 2.2) if rng.random() < 0.85 else rng.uniform(3.0, 10.0)
    pitch, roll = math.radians(rng.normal(2, 5)) + 0.04 * max(eye - 2.2, 0), rng.normal(0, 0.03)
    yaw = rng.normal(0, 0.25) if rng.random() < 0.8 else rng.uniform(-1.3, 1.3)
    # Nothing stands at the camera.
    bodies = [body for body in bodies if body.object_id == 0 or _clear(body, x)]
    numbered = [replace(body, object_id=min(number, 255)) for number, body in enumerate(bodies)]
    terrain = Terrain(phrase="", place="street", slope_x=0.0, slope_z=0.0, scenery=bodies[0])
    return Scene(
        camera=camera,
        bodies=tuple(numbered),
        scene_to_camera=turn_z(roll) @ turn_x(pitch) @ turn_y(yaw) @ shift((-x, eye, 0.0)),
        atmosphere=build_atmosphere(rng, terrain),
        finish=build_finish(rng, seed),
    )


def _clear(body: Body, x: float) -> bool:
    place = body.placement[:3, 3]
    return math.hypot(place[0] - x, place[2]) > 1.3 * body.reach_m + 1.0


def _ground(rng: Random, road: float, pavement: float, end: float) -> Body:
    """Asphalt with marks, kerbs and pavements, and what lies beyond the houses."""
    model = Model()
    grey = rng.uniform(0.2, 0.45)
    tar = [(grey * f, grey * f, grey * f * 1.03) for f in (0.8, 1.15)]
    asphalt = rng.material(rng.choose(("plain", "earth")), *tar, tile_m=1.2, grain=0.3, wrap="ground")
    model.add(PLANE, stretch((200.0, 1.0, 200.0)), asphalt, casts=False)
    base = rng.colour("grey", "beige", "white", "green")
    pattern = rng.choose(("stones", "tiles", "plain", "grass"))
    slabs = rng.material(pattern, *shades(base, 0.6, 1.0), tile_m=1.5, grain=0.4)
    for side in SIDES:
        model.box((side * (road + 20.0), 0.0, end / 2), (20.0, rng.uniform(0.05, 0.16), end + 40.0), slabs)
    if rng.random() < 0.7:
        paint = rng.material("plain", (0.85, 0.85, 0.82), (0.9, 0.9, 0.86), tile_m=1.0)
        long, gap = rng.uniform(1.0, 4.0), rng.uniform(1.0, 6.0)
        for z in np.arange(-2.0, min(end, 45.0), long + gap):
            model.box((0.0, 0.0, float(z)), (0.07, 0.004, long / 2), paint)
    return model.body()


def _houses(rng: Random, side: int, near: float, end: float) -> Body:
    """A row of houses along the street, with windows and doors, some gaps, roofs and porches."""
    model = Model()
    z, terraced = rng.uniform(-12.0, 6.0), rng.random() < 0.5
    while z < end and len(model.parts) < 90:
        half, tall, deep = rng.uniform(3.0, 8.0), rng.uniform(2.5, 14.0), rng.uniform(4.0, 8.0)
        front = near + (0.0 if terraced else rng.uniform(0.0, 4.0))
        base = rng.colour(*FACADE_COLOURS)
        coat = rng.material(rng.choose(FACADES), *shades(base, 0.65, 1.0), tile_m=2.5, grain=0.3)
        model.box((side * (front + deep), -tall / 2, z + half), (deep, tall / 2, half), coat)
        _windows(model, rng, side * front, (z, z + 2 * half), tall)
        if rng.random() < 0.5:
            slates = rng.material("tiles", *shades(rng.colour("brown", "red", "grey"), 0.6, 0.9), tile_m=1.5)
            model.box((side * (front + deep), -tall - 0.4, z + half), (deep + 0.4, 0.5, half + 0.3), slates)
        z += 2 * half + (0.0 if terraced else rng.uniform(0.0, 6.0))
    return model.body()


def _windows(model: Model, rng: Random, x: float, span: tuple[float, float], tall: float) -> None:
    """A grid of windows on a facade at this x."""
    glass = rng.material("plain", (0.15, 0.2, 0.25), (0.3, 0.36, 0.42), tile_m=1.0, gloss=0.6)
    storey, apart = rng.uniform(2.6, 3.6), rng.uniform(1.8, 3.5)
    half = (rng.uniform(0.3, 0.5) * apart * 0.7, rng.uniform(0.4, 0.9))
    for level in np.arange(1.5, tall - 0.8, storey)[:4]:
        for z in np.arange(span[0] + apart / 2, span[1] - half[0], apart)[:5]:
            model.box((x, -float(level), float(z)), (0.06, half[1], half[0]), glass)


def _along_the_kerb(rng: Random, side: int, road: float, pavement: float, end: float) -> list[Body]:
    """Parked cars, trees, lamps, poles and people."""
    bodies = []
    if rng.random() < 0.6:
        z = rng.uniform(2.0, 8.0)
        while z < min(end, 50.0) and len(bodies) < 6:
            bodies.append(_vehicle(rng, side * (road - 1.0), z))
            z += rng.uniform(5.0, 14.0)
    if rng.random() < 0.5:
        z = rng.uniform(2.0, 10.0)
        while z < min(end, 60.0):
            bodies.append(_stands(tree(rng), (3.0, 9.0), rng, side * (road + 0.4), z, turn=0.0))
            z += rng.uniform(5.0, 12.0)
    if rng.random() < 0.5:
        bodies.append(_lamps(rng, side, road, min(end, 60.0)))
    if rng.random() < 0.3:
        bodies.append(_poles(rng, side * (road + 0.2), min(end, 50.0)))
    for _ in range(rng.integers(0, 4)):
        x, z = side * (road + rng.uniform(0.1, 0.9) * pavement), rng.uniform(2.0, 25.0)
        bodies.append(_stands(person(rng), (1.1, 1.9), rng, x, z, turn=rng.uniform(0, 2 * math.pi)))
    return bodies


def _stands(
    spec: ObjectSpec, height_m: tuple[float, float], rng: Random, x: float, z: float, *, turn: float
) -> Body:
    """An object of a height between these, at a place on the ground."""
    size = rng.uniform(*height_m) / spec.height_m * spec.size
    placement = shift((x, 0.0, z)) @ turn_y(turn) @ stretch((size, size, size))
    return spec.model.body(object_id=1, placement=placement)


def _vehicle(rng: Random, x: float, z: float) -> Body:
    """One that drives or stands along the street."""
    spec = rng.choose(VEHICLES)(rng)
    along = rng.choose((-1, 1)) * math.pi / 2 + rng.normal(0, 0.03)
    return _stands(spec, VEHICLE_M[spec.noun], rng, x, z, turn=along)


def _lamps(rng: Random, side: int, road: float, end: float) -> Body:
    """Street lamps that hang over the road."""
    model, tall, out = Model(), rng.uniform(4.0, 8.0), rng.uniform(0.3, 2.0)
    coat = rng.material("plain", *shades(rng.colour("grey", "black", "green"), 0.7, 1.0), tile_m=1.0)
    x, apart = side * (road + 0.3), rng.uniform(12.0, 28.0)
    for z in np.arange(rng.uniform(2.0, 10.0), end, apart):
        model.cone((x, 0.0, float(z)), (x, -tall, float(z)), 0.09, 0.05, coat)
        model.box((x - side * out / 2, -tall, float(z)), (out / 2, 0.04, 0.04), coat)
        model.box((x - side * out, -tall, float(z)), (0.3, 0.06, 0.12), coat)
    return model.body()


def _poles(rng: Random, x: float, end: float) -> Body:
    """A fence, bollards or thin poles: what small networks lose first."""
    model, tall, thick = Model(), rng.uniform(0.6, 5.0), rng.uniform(0.02, 0.08)
    coat = rng.material("plain", *shades(rng.colour("grey", "black", "white", "green"), 0.7, 1.0), tile_m=1.0)
    apart = rng.uniform(1.2, 5.0)
    places = np.arange(2.0, end, apart)[:14]
    for z in places:
        model.cone((x, 0.0, float(z)), (x, -tall, float(z)), thick, thick, coat)
    if tall < 1.5:
        middle, half = (places[0] + places[-1]) / 2, (places[-1] - places[0]) / 2
        model.box((x, -tall * 0.9, float(middle)), (0.02, 0.03, float(half) + 0.01), coat)
    return model.body(object_id=1)


def _across(rng: Random, road: float, pavement: float, end: float) -> Body:
    """A house or a wall that closes the street."""
    model = Model()
    base = rng.colour(*FACADE_COLOURS, "green")
    coat = rng.material(rng.choose((*FACADES, "foliage")), *shades(base, 0.6, 1.0), tile_m=3.0, grain=0.4)
    tall = rng.uniform(3.0, 14.0)
    model.box((0.0, -tall / 2, end + 3.0), (road + pavement + 8.0, tall / 2, 3.0), coat)
    return model.body()
