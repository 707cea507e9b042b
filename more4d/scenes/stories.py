"""Who does what: motions that suit an object where it stands, with the facts a caption is made from."""

import math
from dataclasses import dataclass

import numpy as np

from more4d.scenes.blueprint import Blueprint
from more4d.scenes.motions import Motion, Swing, Turning, Vector
from more4d.scenes.worlds import Terrain

Random = np.random.Generator
WAYS: dict[str, tuple[float, float]] = {
    "right": (1.0, 0.0),
    "left": (-1.0, 0.0),
    "away": (0.0, 1.0),
    "toward": (0.0, -1.0),
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an object stands.

    Attributes:
        foot: the point of the stage below its middle.
        heading: angle its nose points to; 0 right, pi / 2 toward the camera.
        width_m: metres that the picture is wide at its distance.
        depth_m: its distance from the camera along the view.
    """

    foot: Vector
    heading: float
    width_m: float
    depth_m: float


def heading_way(heading: float) -> str:
    """The direction a nose points to, as the camera sees it."""
    x, z = math.cos(heading), -math.sin(heading)
    return max(WAYS, key=lambda way: WAYS[way][0] * x + WAYS[way][1] * z)


def _travel(rng: Random, way: str, place: Place, terrain: Terrain, angle: float | None) -> Vector:
    """Metres to go: 8 to 25 % of the picture sideways, 15 to 40 % of the distance in depth."""
    if way in ("up", "down"):
        size = place.width_m * float(rng.uniform(0.08, 0.2))
        return (0.0, -size if way == "up" else size, 0.0)
    x, z = WAYS[way]
    if angle is not None:
        x, z = math.cos(angle), -math.sin(angle)
    sideways = place.width_m * float(rng.uniform(0.1, 0.28))
    deep = place.depth_m * (
        float(rng.uniform(0.15, 0.35)) if way == "toward" else float(rng.uniform(0.2, 0.5))
    )
    size = sideways if way in ("left", "right") else min(deep, place.depth_m * 0.5)
    dx, dz = size * x, size * z
    return (dx, terrain.level(dx, dz), dz)


def invent_motion(rng: Random, blueprint: Blueprint, place: Place, terrain: Terrain) -> Motion:
    """A motion that suits the object."""
    nature = blueprint.nature
    if nature in ("creature", "person"):
        return _creature(rng, blueprint, place, terrain)
    if nature == "flyer":
        return _flight(rng, place, terrain)
    if nature == "vehicle":
        return _vehicle(rng, blueprint, place, terrain)
    if nature == "plant":
        swing = Swing(role="sway", amplitude=float(rng.uniform(0.08, 0.2)), cycles=_cycles(rng))
        return Motion(verb="sway", swings=(swing,))
    if nature == "flag":
        return Motion(verb="wave", sheet_cycles=float(rng.uniform(0.8, 2.0)))
    if nature == "floater":
        way = str(rng.choice(("up", "up", "down", "down", "down", "left", "right", "toward", "away")))
        return _translate(rng, place, terrain, way, "float")
    if nature == "ball":
        return _ball(rng, blueprint, place, terrain)
    return _thing(rng, blueprint, place, terrain)


def _cycles(rng: Random) -> float:
    return float(rng.uniform(0.7, 1.8))


def _translate(rng: Random, place: Place, terrain: Terrain, way: str, verb: str) -> Motion:
    travel = _travel(rng, way, place, terrain, None)
    return Motion(verb=verb, direction=way, travel=travel, eased=bool(rng.random() < 0.4))


def _any_way(rng: Random) -> str:
    return str(rng.choice(("left", "right", "toward", "away", "up")))


def _spin(rng: Random, blueprint: Blueprint, place: Place) -> Motion:
    turn = float(rng.choice((-1, 1)) * rng.uniform(0.6, 2.0)) * math.pi
    return Motion(verb="spin", turning=Turning(axis=(0.0, 1.0, 0.0), pivot=place.foot, turn=turn))


def _hop(rng: Random, blueprint: Blueprint, verb: str) -> Motion:
    return Motion(
        verb=verb, hop=(blueprint.height_m * float(rng.uniform(0.3, 0.8)), float(rng.integers(1, 4)))
    )


def _walk(rng: Random, blueprint: Blueprint, place: Place, terrain: Terrain) -> Motion:
    travel = _travel(rng, heading_way(place.heading), place, terrain, place.heading)
    fast = rng.random() < 0.15
    steps = math.hypot(travel[0], travel[2]) / (blueprint.height_m * (1.6 if fast else 0.9))
    cycles = max(0.75, min(steps, 4.0))
    swings = (
        Swing(role="leg", amplitude=0.5 if fast else 0.32, cycles=cycles),
        Swing(role="knee", amplitude=0.35 if fast else 0.2, cycles=cycles),
        Swing(role="arm", amplitude=0.6 if fast else 0.35, cycles=cycles),
        Swing(role="tail", amplitude=0.2, cycles=cycles),
        Swing(role="neck", amplitude=0.05, cycles=2 * cycles),
    )
    hop = (0.03 * blueprint.height_m, 2 * cycles)
    verb = "run" if fast else "walk"
    return Motion(verb=verb, direction=heading_way(place.heading), travel=travel, swings=swings, hop=hop)


def _creature(rng: Random, blueprint: Blueprint, place: Place, terrain: Terrain) -> Motion:
    choice, roles = rng.random(), blueprint.roles
    if choice < 0.6:
        return _walk(rng, blueprint, place, terrain)
    if choice < 0.68:
        return _hop(rng, blueprint, "jump")
    if choice < 0.75:
        return _spin(rng, blueprint, place)
    if choice < 0.8:
        return _circle(rng, place)
    if choice < 0.88:
        return _translate(rng, place, terrain, _any_way(rng), "move")
    if "right arm" in roles and choice < 0.97:
        raised = Swing(role="right arm", turn=float(rng.uniform(-2.6, -1.9)), amplitude=0.35, cycles=2.5)
        return Motion(verb="greet", swings=(raised,))
    if "wing" in roles:
        return Motion(
            verb="flap", swings=(Swing(role="wing", amplitude=0.9, cycles=float(rng.uniform(1.5, 3.0))),)
        )
    nod = Swing(role="neck", amplitude=float(rng.uniform(0.25, 0.5)), cycles=_cycles(rng))
    return Motion(verb="nod", swings=(nod,))


def _flight(rng: Random, place: Place, terrain: Terrain) -> Motion:
    way = heading_way(place.heading) if rng.random() < 0.6 else str(rng.choice(("up", "down")))
    travel = _travel(rng, way, place, terrain, None if way in ("up", "down") else place.heading)
    flap = Swing(role="wing", amplitude=float(rng.uniform(0.35, 0.6)), cycles=float(rng.uniform(1.0, 2.5)))
    return Motion(verb="fly", direction=way, travel=travel, swings=(flap,))


def _circle(rng: Random, place: Place) -> Motion:
    """An orbit about a point beside the object."""
    angle, radius = float(rng.uniform(0, 2 * math.pi)), place.width_m * float(rng.uniform(0.06, 0.12))
    x, y, z = place.foot
    pivot = (x + radius * math.cos(angle), y, z + radius * abs(math.sin(angle)))
    turn = float(rng.choice((-1, 1)) * rng.uniform(0.7, 1.6)) * math.pi
    return Motion(verb="circle", turning=Turning(axis=(0.0, 1.0, 0.0), pivot=pivot, turn=turn))


def _vehicle(rng: Random, blueprint: Blueprint, place: Place, terrain: Terrain) -> Motion:
    if rng.random() < 0.1:
        return _thing(rng, blueprint, place, terrain)
    backward = rng.random() < 0.25
    heading = place.heading + (math.pi if backward else 0.0)
    travel = _travel(rng, heading_way(heading), place, terrain, heading)
    length = math.sqrt(sum(step * step for step in travel))
    turn = length / blueprint.radius_m * (-1 if backward else 1)
    return Motion(
        verb="reverse" if backward else "drive",
        direction=heading_way(heading),
        travel=travel,
        eased=bool(rng.random() < 0.4),
        swings=(Swing(role="wheel", turn=turn),),
    )


def _ball(rng: Random, blueprint: Blueprint, place: Place, terrain: Terrain) -> Motion:
    choice = rng.random()
    if choice < 0.4:
        way = str(rng.choice(("left", "right", "toward", "away")))
        travel = _travel(rng, way, place, terrain, None)
        dx, dz = travel[0], travel[2]
        length = math.hypot(dx, dz)
        pivot = (place.foot[0], place.foot[1] - blueprint.radius_m, place.foot[2])
        # the axis for which the top of the ball goes ahead: up x travel, with up = -y
        axis = (-dz / length, 0.0, dx / length)
        turning = Turning(axis=axis, pivot=pivot, turn=length / blueprint.radius_m)
        return Motion(verb="roll", direction=way, travel=travel, turning=turning)
    if choice < 0.65:
        return _hop(rng, blueprint, "bounce")
    return _thing(rng, blueprint, place, terrain)


def _thing(rng: Random, blueprint: Blueprint, place: Place, terrain: Terrain) -> Motion:
    choice = rng.random()
    if choice < 0.65:
        return _translate(rng, place, terrain, _any_way(rng), "move")
    if choice < 0.78:
        return _spin(rng, blueprint, place)
    if choice < 0.84:
        return _circle(rng, place)
    if choice < 0.92:
        return _rock(rng, place)
    return _hop(rng, blueprint, "jump")


def _rock(rng: Random, place: Place) -> Motion:
    """To and fro about the foot, sideways as the camera sees it."""
    swing = float(rng.uniform(0.12, 0.35))
    turning = Turning(axis=(0.0, 0.0, 1.0), pivot=place.foot, swing=swing, cycles=_cycles(rng))
    return Motion(verb="rock", turning=turning)
