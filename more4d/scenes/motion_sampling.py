"""Random motions suited to an object and its position, and captions composed from the resulting actions."""

import math
from dataclasses import dataclass

from more4d.scenes.environment import Terrain
from more4d.scenes.modelling import ObjectSpec
from more4d.scenes.motions import BodyRotation, JointSwing, Motion, Vector
from more4d.scenes.scene import Action
from more4d.scenes.textures import Random

DIRECTIONS = {"right": (1.0, 0.0), "left": (-1.0, 0.0), "away": (0.0, 1.0), "toward": (0.0, -1.0)}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Position of an object.

    Attributes:
        foot: the point of the scene below its centre.
        heading: angle of its forward axis; 0 right, pi / 2 toward the camera.
        width_m: width of the view at its distance, in metres.
        depth_m: its distance along the viewing direction.
    """

    foot: Vector
    heading: float
    width_m: float
    depth_m: float


def heading_direction(heading: float) -> str:
    """The direction of a heading in the camera's view."""
    x, z = math.cos(heading), -math.sin(heading)
    return max(DIRECTIONS, key=lambda direction: DIRECTIONS[direction][0] * x + DIRECTIONS[direction][1] * z)


def _travel(rng: Random, direction: str, place: Place, terrain: Terrain, angle: float | None) -> Vector:
    """Displacement in metres: 8 to 25 % of the view's width sideways, 15 to 40 % of the distance in depth."""
    if direction in ("up", "down"):
        size = place.width_m * rng.uniform(0.08, 0.2)
        return (0.0, -size if direction == "up" else size, 0.0)
    x, z = DIRECTIONS[direction]
    if angle is not None:
        x, z = math.cos(angle), -math.sin(angle)
    sideways = place.width_m * rng.uniform(0.1, 0.28)
    deep = place.depth_m * (rng.uniform(0.15, 0.35) if direction == "toward" else rng.uniform(0.2, 0.5))
    size = sideways if direction in ("left", "right") else deep
    dx, dz = size * x, size * z
    return (dx, terrain.ground_y(dx, dz), dz)


def sample_motion(rng: Random, spec: ObjectSpec, place: Place, terrain: Terrain) -> Motion:
    """A random motion suited to the object."""
    category = spec.category
    if category in ("creature", "person"):
        return _creature(rng, spec, place, terrain)
    if category == "flyer":
        return _flight(rng, place, terrain)
    if category == "vehicle":
        return _vehicle(rng, spec, place, terrain)
    if category == "plant":
        swing = JointSwing(role="sway", amplitude=rng.uniform(0.08, 0.2), cycles=_cycles(rng))
        return Motion(verb="sway", swings=(swing,))
    if category == "flag":
        return Motion(verb="wave", sheet_cycles=rng.uniform(0.8, 2.0))
    if category == "floater":
        direction = rng.choose(("up", "up", "down", "down", "down", "left", "right", "toward", "away"))
        return _translate(rng, place, terrain, direction, "float")
    if category == "ball":
        return _ball(rng, spec, place, terrain)
    return _thing(rng, spec, place, terrain)


def _cycles(rng: Random) -> float:
    return rng.uniform(0.7, 1.8)


def _translate(rng: Random, place: Place, terrain: Terrain, direction: str, verb: str) -> Motion:
    travel = _travel(rng, direction, place, terrain, None)
    return Motion(verb=verb, direction=direction, travel=travel, eased=rng.random() < 0.4)


def _move(rng: Random, place: Place, terrain: Terrain) -> Motion:
    return _translate(rng, place, terrain, rng.choose(("left", "right", "toward", "away", "up")), "move")


def _spin(rng: Random, place: Place) -> Motion:
    turn = rng.choose((-1, 1)) * rng.uniform(0.6, 2.0) * math.pi
    return Motion(verb="spin", rotation=BodyRotation(axis=(0.0, 1.0, 0.0), pivot=place.foot, turn=turn))


def _hop(rng: Random, spec: ObjectSpec, verb: str) -> Motion:
    return Motion(verb=verb, hop=(spec.height_m * rng.uniform(0.3, 0.8), float(rng.integers(1, 4))))


def _walk(rng: Random, spec: ObjectSpec, place: Place, terrain: Terrain) -> Motion:
    direction = heading_direction(place.heading)
    travel = _travel(rng, direction, place, terrain, place.heading)
    fast = rng.random() < 0.15
    steps = math.hypot(travel[0], travel[2]) / (spec.height_m * (1.6 if fast else 0.9))
    cycles = max(0.75, min(steps, 4.0))
    swings = (
        JointSwing(role="leg", amplitude=0.5 if fast else 0.32, cycles=cycles),
        JointSwing(role="knee", amplitude=0.35 if fast else 0.2, cycles=cycles),
        JointSwing(role="arm", amplitude=0.6 if fast else 0.35, cycles=cycles),
        JointSwing(role="tail", amplitude=0.2, cycles=cycles),
        JointSwing(role="neck", amplitude=0.05, cycles=2 * cycles),
    )
    hop = (0.03 * spec.height_m, 2 * cycles)
    verb = "run" if fast else "walk"
    return Motion(verb=verb, direction=direction, travel=travel, swings=swings, hop=hop)


def _creature(rng: Random, spec: ObjectSpec, place: Place, terrain: Terrain) -> Motion:
    choice, roles = rng.random(), {joint.role for joint in spec.model.joints}
    if choice < 0.6:
        return _walk(rng, spec, place, terrain)
    if choice < 0.68:
        return _hop(rng, spec, "jump")
    if choice < 0.75:
        return _spin(rng, place)
    if choice < 0.8:
        return _circle(rng, place)
    if choice < 0.88:
        return _move(rng, place, terrain)
    if "right arm" in roles and choice < 0.97:
        raised = JointSwing(role="right arm", turn=rng.uniform(-2.6, -1.9), amplitude=0.35, cycles=2.5)
        return Motion(verb="greet", swings=(raised,))
    if "wing" in roles:
        flap = JointSwing(role="wing", amplitude=0.9, cycles=rng.uniform(1.5, 3.0))
        return Motion(verb="flap", swings=(flap,))
    nod = JointSwing(role="neck", amplitude=rng.uniform(0.25, 0.5), cycles=_cycles(rng))
    return Motion(verb="nod", swings=(nod,))


def _flight(rng: Random, place: Place, terrain: Terrain) -> Motion:
    direction = heading_direction(place.heading) if rng.random() < 0.6 else rng.choose(("up", "down"))
    travel = _travel(rng, direction, place, terrain, None if direction in ("up", "down") else place.heading)
    flap = JointSwing(role="wing", amplitude=rng.uniform(0.35, 0.6), cycles=rng.uniform(1.0, 2.5))
    return Motion(verb="fly", direction=direction, travel=travel, swings=(flap,))


def _circle(rng: Random, place: Place) -> Motion:
    """An orbit about a point beside the object."""
    angle, radius = rng.uniform(0, 2 * math.pi), place.width_m * rng.uniform(0.06, 0.12)
    x, y, z = place.foot
    pivot = (x + radius * math.cos(angle), y, z + radius * abs(math.sin(angle)))
    turn = rng.choose((-1, 1)) * rng.uniform(0.7, 1.6) * math.pi
    return Motion(verb="circle", rotation=BodyRotation(axis=(0.0, 1.0, 0.0), pivot=pivot, turn=turn))


def _vehicle(rng: Random, spec: ObjectSpec, place: Place, terrain: Terrain) -> Motion:
    if rng.random() < 0.1:
        return _thing(rng, spec, place, terrain)
    backward = rng.random() < 0.25
    heading = place.heading + (math.pi if backward else 0.0)
    direction = heading_direction(heading)
    travel = _travel(rng, direction, place, terrain, heading)
    length = math.sqrt(sum(step * step for step in travel))
    verb, sign = ("reverse", -1) if backward else ("drive", 1)
    wheels = JointSwing(role="wheel", turn=length / spec.radius_m * sign)
    eased = rng.random() < 0.4
    return Motion(verb=verb, direction=direction, travel=travel, eased=eased, swings=(wheels,))


def _ball(rng: Random, spec: ObjectSpec, place: Place, terrain: Terrain) -> Motion:
    choice = rng.random()
    if choice < 0.4:
        direction = rng.choose(("left", "right", "toward", "away"))
        travel = _travel(rng, direction, place, terrain, None)
        dx, dz = travel[0], travel[2]
        length = math.hypot(dx, dz)
        pivot = (place.foot[0], place.foot[1] - spec.radius_m, place.foot[2])
        # the axis for which the top of the ball moves forward: up x travel, with up = -y
        axis = (-dz / length, 0.0, dx / length)
        rotation = BodyRotation(axis=axis, pivot=pivot, turn=length / spec.radius_m)
        return Motion(verb="roll", direction=direction, travel=travel, rotation=rotation)
    if choice < 0.65:
        return _hop(rng, spec, "bounce")
    return _thing(rng, spec, place, terrain)


def _thing(rng: Random, spec: ObjectSpec, place: Place, terrain: Terrain) -> Motion:
    choice = rng.random()
    if choice < 0.65:
        return _move(rng, place, terrain)
    if choice < 0.78:
        return _spin(rng, place)
    if choice < 0.84:
        return _circle(rng, place)
    if choice < 0.92:
        # about the foot, sideways in the camera's view
        swing = rng.uniform(0.12, 0.35)
        rotation = BodyRotation(axis=(0.0, 0.0, 1.0), pivot=place.foot, swing=swing, cycles=_cycles(rng))
        return Motion(verb="rock", rotation=rotation)
    return _hop(rng, spec, "jump")


DIRECTION_PHRASES: dict[str, tuple[str, ...]] = {
    "left": ("left", "to the left", "leftward", "toward the left"),
    "right": ("right", "to the right", "rightward", "toward the right"),
    "up": ("up", "upward", "into the air"),
    "down": ("down", "downward"),
    "toward": ("toward the camera", "towards us", "closer", "forward to the viewer"),
    "away": ("away from the camera", "away", "into the distance", "away from us"),
}
VERB_PHRASES: dict[str, tuple[str, ...]] = {
    "move": ("moves", "goes", "slides", "glides", "is moving"),
    "walk": ("walks", "walks", "is walking", "strolls", "goes"),
    "drive": ("drives", "drives", "is driving", "rolls", "goes"),
    "reverse": ("backs up", "reverses", "rolls backward"),
    "roll": ("rolls", "is rolling"),
    "bounce": ("bounces", "bounces up and down", "is bouncing"),
    "jump": ("jumps", "jumps up and down", "hops", "is jumping"),
    "spin": ("spins", "turns around", "rotates", "is spinning"),
    "sway": ("sways", "sways in the wind", "bends in the wind", "is swaying"),
    "wave": ("waves", "waves in the wind", "flutters", "is waving"),
    "run": ("runs", "runs", "is running"),
    "fly": ("flies", "flies", "is flying", "soars"),
    "flap": ("flaps its wings", "flaps", "is flapping its wings"),
    "greet": ("waves a hand", "waves", "raises an arm and waves", "is waving"),
    "circle": ("circles around", "goes around in a circle", "orbits", "moves in a circle"),
    "rock": ("rocks from side to side", "sways", "tilts to and fro", "is rocking"),
    "float": ("floats", "drifts", "is floating"),
    "nod": ("nods", "nods its head", "moves its head"),
    "still": ("stays still", "stands still", "does not move"),
}
PEOPLE = frozenset(("man", "woman", "boy", "girl", "toy figure"))
BEGINNINGS = ("a video of a scene: ", "in this clip ", "a photo in which ", "we see that ")
ENDINGS = (", everything else stays still", " while the rest is still", ", nothing else moves")
ALL_STILL = ("everything stays still", "nothing moves", "a still scene", "all is still")


def object_phrase(rng: Random, action: Action) -> str:
    """An object with or without its colour: "the red car", "a woman in red"."""
    name, coloured, article = action.noun, rng.random() < 0.6, "the" if rng.random() < 0.7 else "a"
    if coloured:
        name = f"{name} in {action.colour}" if name in PEOPLE else f"{action.colour} {name}"
    if article == "a" and name[0] in "aeiou":
        article = "an"
    return f"{article} {name}"


def clause(rng: Random, action: Action) -> str:
    """One action as a clause, its parts in free order."""
    name, doing = object_phrase(rng, action), rng.choose(VERB_PHRASES[action.verb])
    if action.direction is None:
        return f"{name} {doing}"
    direction = rng.choose(DIRECTION_PHRASES[action.direction])
    if rng.random() < 0.1 and not doing.startswith("is "):
        return f"{direction}, {name} {doing}"
    return f"{name} {doing} {direction}"


def compose_caption(rng: Random, actions: tuple[Action, ...], place: str) -> str:
    """All actions in one sentence, in random order, sometimes with the place and the static objects."""
    if not any(action.verb != "still" for action in actions):
        return rng.choose(ALL_STILL)
    clauses = [clause(rng, actions[index]) for index in rng.permutation(len(actions))]
    named = place and rng.random() < 0.35
    if named and rng.random() < 0.7:
        clauses[-1] += f" {place}"
    sentence = clauses[0]
    for following in clauses[1:]:
        sentence += rng.choose((" and ", " while ", ", and ", " as ", ", ")) + following
    if named and not sentence.endswith(place):
        sentence = f"{place}, {sentence}"
    choice = rng.random()
    if choice < 0.06:
        sentence += rng.choose(ENDINGS)
    elif choice < 0.12:
        sentence = rng.choose(BEGINNINGS) + sentence
    return sentence[0].upper() + sentence[1:] + "." if rng.random() < 0.2 else sentence
