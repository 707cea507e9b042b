"""Who does what: motions that suit an object where it stands, with the facts a caption is made from."""

import math
from dataclasses import dataclass

import numpy as np

from more4d.scenes.blueprint import Blueprint
from more4d.scenes.motions import STILL, Motion, Swing, Turning, Vector
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
    if nature == "creature":
        return _creature(rng, blueprint, place, terrain)
    if nature == "vehicle":
        return _vehicle(rng, blueprint, place, terrain)
    if nature == "plant":
        return Motion(
            verb="sway",
            swings=(Swing(role="sway", amplitude=float(rng.uniform(0.08, 0.2)), cycles=_cycles(rng)),),
        )
    if nature == "flag":
        return Motion(verb="wave", sheet_cycles=float(rng.uniform(0.8, 2.0)))
    if nature == "floater":
        return _translate(
            rng, place, terrain, str(rng.choice(("up", "up", "down", "left", "right"))), "float"
        )
    if nature == "ball":
        return _ball(rng, blueprint, place, terrain)
    return _thing(rng, blueprint, place, terrain)


def still_motion() -> Motion:
    """Nothing at all."""
    return STILL


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


def _creature(rng: Random, blueprint: Blueprint, place: Place, terrain: Terrain) -> Motion:
    choice = rng.random()
    if choice < 0.65:
        travel = _travel(rng, heading_way(place.heading), place, terrain, place.heading)
        cycles = max(0.75, math.hypot(travel[0], travel[2]) / (0.9 * blueprint.height_m))
        swings = (
            Swing(role="leg", amplitude=0.32, cycles=cycles),
            Swing(role="knee", amplitude=0.2, cycles=cycles),
            Swing(role="tail", amplitude=0.2, cycles=cycles),
            Swing(role="neck", amplitude=0.05, cycles=2 * cycles),
        )
        return Motion(verb="walk", direction=heading_way(place.heading), travel=travel, swings=swings)
    if choice < 0.75:
        return _hop(rng, blueprint, "jump")
    if choice < 0.85:
        return Motion(
            verb="nod",
            swings=(Swing(role="neck", amplitude=float(rng.uniform(0.25, 0.5)), cycles=_cycles(rng)),),
        )
    if choice < 0.92:
        return _spin(rng, blueprint, place)
    return _translate(rng, place, terrain, _any_way(rng), "move")


def _vehicle(rng: Random, blueprint: Blueprint, place: Place, terrain: Terrain) -> Motion:
    backward = rng.random() < 0.15
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
    if choice < 0.85:
        return _spin(rng, blueprint, place)
    return _hop(rng, blueprint, "jump")
