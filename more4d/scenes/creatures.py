"""Four-legged animals and people, jointed; their noses point along x."""

from dataclasses import dataclass

import numpy as np

from more4d.scenes.blueprint import Blueprint
from more4d.scenes.modelling import Model
from more4d.scenes.palette import NAMED, material, scale, vary
from more4d.scenes.things import pick_colour
from more4d.scenes.textures import Material

Random = np.random.Generator


@dataclass(frozen=True, kw_only=True)
class Breed:
    """Proportions of a four-legged animal, in units of its shoulder height.

    Attributes:
        noun: its name.
        shoulder_m: height of the back in metres, least and most.
        length: half length of the trunk.
        girth: half height of the trunk.
        neck: length of the neck.
        neck_rise: its angle above the horizontal, radians.
        head: half length of the head.
        snout: length of the snout.
        leg: radius of a leg.
        tail: length of the tail.
        ear: half height of an ear.
        colours: names it comes in.
        coats: textures of its coat.
        extra: what else it has.
    """

    noun: str
    shoulder_m: tuple[float, float]
    length: float = 0.55
    girth: float = 0.22
    neck: float = 0.3
    neck_rise: float = 0.6
    head: float = 0.15
    snout: float = 0.14
    leg: float = 0.065
    tail: float = 0.35
    ear: float = 0.08
    colours: tuple[str, ...] = ("brown",)
    coats: tuple[str, ...] = ("fur",)
    extra: str = ""


BREEDS = (
    Breed(noun="bear", shoulder_m=(0.9, 1.3), length=0.62, girth=0.33, neck=0.22, neck_rise=0.25, head=0.2, snout=0.16,
          leg=0.125, tail=0.06, ear=0.06, colours=("brown", "brown", "black", "white")),
    Breed(noun="dog", shoulder_m=(0.4, 0.65), length=0.55, girth=0.2, neck=0.25, neck_rise=0.8, head=0.17, snout=0.2,
          leg=0.07, ear=0.1, colours=("brown", "black", "white", "beige", "grey"), coats=("fur", "patches")),
    Breed(noun="horse", shoulder_m=(1.3, 1.7), length=0.5, girth=0.2, neck=0.5, neck_rise=0.85, head=0.14, snout=0.24,
          leg=0.055, tail=0.45, ear=0.06, colours=("brown", "black", "white", "grey", "beige"), extra="mane"),
    Breed(noun="camel", shoulder_m=(1.6, 1.9), length=0.45, girth=0.2, neck=0.5, neck_rise=0.7, head=0.11, snout=0.15,
          leg=0.05, tail=0.25, ear=0.035, colours=("beige", "brown"), extra="humps"),
)  # fmt: skip


def _add_leg(
    model: Model,
    role: str,
    hip: tuple[float, float, float],
    radius: float,
    coat: Material,
    phase: float,
    stride: float,
) -> None:
    """Thigh, shin and foot, with a knee."""
    x, y, z = hip
    knee = 0.48 * y
    upper = model.hinge(role, hip, phase=phase, rest=stride * float(np.sin(phase)))
    lower = model.hinge("knee", (x, knee, z), parent=upper, phase=phase + 1.2, rest=0.0)
    model.cone((x, y, z), (x, knee, z), radius * 1.5, radius, coat, upper)
    model.ball((x, y, z), (radius * 1.7, radius * 1.9, radius * 1.4), coat, upper)
    model.limb((x, knee, z), (x, -radius, z), radius * 0.9, coat, lower)
    model.ball((x + radius * 0.4, -radius * 0.6, z), (radius * 1.4, radius * 0.6, radius * 1.1), coat, lower)


def quadruped(rng: Random, breed: Breed) -> Blueprint:
    """An animal of some breed, caught in the middle of a step."""
    name, colour = pick_colour(rng, *breed.colours)
    size = float(rng.uniform(*breed.shoulder_m))
    pattern = str(rng.choice(breed.coats))
    second = (
        scale(colour, 0.55) if pattern == "fur" else vary(rng, NAMED["black" if name != "black" else "white"])
    )
    coat = material(rng, pattern, scale(colour, 1.15), second, tile_m=size * 0.8, grain=0.5)
    dark = material(rng, "plain", (0.08, 0.07, 0.07), (0.12, 0.1, 0.1), tile_m=1.0, gloss=0.5)
    model = Model()
    long, girth, width = breed.length * size, breed.girth * size, breed.girth * size * 0.85
    back = -size + girth
    model.ball((0, back, 0), (long, girth, width), coat)
    model.ball((long * 0.55, back + girth * 0.05, 0), (long * 0.45, girth * 1.02, width * 1.02), coat)
    model.ball((-long * 0.55, back, 0), (long * 0.45, girth, width * 1.05), coat)
    if breed.extra == "humps":
        for x in (-0.35, 0.3):
            model.ball((x * long, back - girth * 1.05, 0), (long * 0.28, girth * 0.8, width * 0.5), coat)
    phase, stride = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.2, 0.4))
    radius, side = breed.leg * size, width * 0.55
    for x, z, offset in ((0.68, -1, 0.0), (0.68, 1, np.pi), (-0.68, -1, np.pi), (-0.68, 1, 0.0)):
        hip = (x * long, back + girth * 0.35, z * side)
        _add_leg(model, "leg", hip, radius, coat, phase + offset, stride)
    _add_head(model, rng, breed, size, (long * 0.8, back - girth * 0.3, 0.0), coat, dark)
    tail = model.hinge(
        "tail", (-long * 0.95, back - girth * 0.3, 0), (0.0, 1.0, 0.0), phase=float(rng.uniform(0, 6))
    )
    end = (-long * 0.95 - breed.tail * size * 0.6, back + breed.tail * size * 0.7, 0.0)
    model.limb((-long * 0.95, back - girth * 0.3, 0), end, radius * 0.5, coat, tail)
    top = size + breed.neck * size * float(np.sin(breed.neck_rise)) + breed.head * size * 0.5
    return Blueprint(model=model, noun=breed.noun, colour=name, nature="creature", height_m=top)


def _add_head(
    model: Model,
    rng: Random,
    breed: Breed,
    size: float,
    base: tuple[float, float, float],
    coat: Material,
    dark: Material,
) -> None:
    """Neck, head, snout, ears and eyes."""
    x, y, _ = base
    rise = breed.neck_rise
    reach, lift = breed.neck * size * float(np.cos(rise)), breed.neck * size * float(np.sin(rise))
    neck = model.hinge("neck", base, phase=float(rng.uniform(0, 6)), rest=float(rng.uniform(-0.15, 0.25)))
    head = breed.head * size
    thick = max(breed.girth * size * 0.55, head * 0.6)
    tip = (x + reach, y - lift, 0.0)
    model.cone(base, tip, thick, head * 0.62, coat, neck)
    model.ball((tip[0] + head * 0.3, tip[1], 0), (head, head * 0.75, head * 0.7), coat, neck, tilt=0.25)
    snout = (tip[0] + head * 0.8 + breed.snout * size * 0.5, tip[1] + head * 0.35, 0.0)
    model.ball(snout, (breed.snout * size * 0.75, head * 0.42, head * 0.42), coat, neck, tilt=0.25)
    nose = (snout[0] + breed.snout * size * 0.7, snout[1] + head * 0.05, 0.0)
    model.ball(nose, (head * 0.16, head * 0.16, head * 0.2), dark, neck)
    ear = breed.ear * size
    for z in (-1, 1):
        model.ball(
            (tip[0] - head * 0.1, tip[1] - head * 0.7, z * head * 0.5),
            (ear * 0.5, ear, ear * 0.4),
            coat,
            neck,
        )
        eye = head * 0.12
        model.ball((tip[0] + head * 0.85, tip[1] - head * 0.15, z * head * 0.5), (eye, eye, eye), dark, neck)
    if breed.extra == "mane":
        mane = (x + reach * 0.45, y - lift * 0.6 - thick * 0.5, 0.0)
        model.ball(mane, (breed.neck * size * 0.5, thick * 0.5, thick * 0.35), dark, neck, tilt=-rise)


def animal(rng: Random) -> Blueprint:
    """Any four-legged animal."""
    return quadruped(rng, BREEDS[int(rng.integers(len(BREEDS)))])
