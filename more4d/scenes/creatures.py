"""Articulated four-legged animals; x points forward."""

from dataclasses import dataclass

import numpy as np

from more4d.scenes.modelling import UPRIGHT, Model, ObjectSpec
from more4d.scenes.motions import Vector
from more4d.scenes.textures import Material, Random, scale_colour, shades


@dataclass(frozen=True)
class AnimalParams:
    """Proportions of one kind of animal, in units of its shoulder height.

    Attributes:
        coat: texture of its coat.
        extra: mane, humps, horns, trunk, wool or "-".
        shoulder_m: minimum and maximum shoulder height in metres.
        length: half length of the trunk.
        girth: half height of the trunk.
        neck: length of the neck.
        rise: angle of the neck above the horizontal, radians.
        head: half length of the head.
        snout: length of the snout.
        leg: radius of a leg.
        tail: length of the tail.
        ear: half height of an ear.
        colours: names of its possible colours.
    """

    noun: str
    coat: str
    extra: str
    shoulder_m: tuple[float, float]
    length: float
    girth: float
    neck: float
    rise: float
    head: float
    snout: float
    leg: float
    tail: float
    ear: float
    colours: tuple[str, ...]

    @classmethod
    def parse(cls, row: str) -> "AnimalParams":
        """From a row of TABLE: the attributes in their order."""
        noun, coat, extra, low, high, *rest = row.split()
        sizes, colours = map(float, rest[:9]), tuple(rest[9:])
        return cls(noun, coat, extra, (float(low), float(high)), *sizes, colours)


TABLE = """
bear     fur     -     0.9  1.3  0.62 0.33 0.22 0.25 0.20 0.16 0.120 0.06 0.060 brown brown black white
bear     fur     -     0.9  1.3  0.58 0.36 0.20 0.10 0.21 0.15 0.130 0.06 0.060 brown brown black beige
dog      fur     -     0.40 0.65 0.55 0.20 0.25 0.80 0.17 0.20 0.065 0.45 0.10  brown black white beige grey
dog      patches -     0.35 0.60 0.60 0.22 0.22 0.70 0.18 0.18 0.070 0.40 0.12  white brown
cat      fur     -     0.22 0.32 0.62 0.22 0.18 0.70 0.20 0.08 0.055 0.70 0.09  orange grey black white
cat      zebra   -     0.22 0.32 0.62 0.22 0.18 0.70 0.20 0.08 0.055 0.70 0.09  orange grey
horse    fur     mane  1.3  1.7  0.50 0.20 0.50 0.85 0.14 0.24 0.052 0.50 0.06  brown black white grey
zebra    zebra   mane  1.2  1.4  0.50 0.21 0.42 0.80 0.14 0.22 0.052 0.40 0.07  white
camel    fur     humps 1.6  1.9  0.45 0.20 0.50 0.70 0.11 0.15 0.048 0.25 0.035 beige brown
cow      patches horns 1.2  1.5  0.60 0.25 0.25 0.45 0.17 0.17 0.065 0.50 0.07  white
cow      fur     horns 1.2  1.5  0.60 0.25 0.25 0.45 0.17 0.17 0.065 0.50 0.07  brown black
sheep    fur     wool  0.6  0.8  0.52 0.27 0.20 0.60 0.17 0.14 0.055 0.10 0.07  white grey
goat     fur     horns 0.6  0.8  0.50 0.21 0.28 0.80 0.16 0.16 0.050 0.12 0.08  white brown black
pig      plain   -     0.5  0.8  0.68 0.31 0.12 0.20 0.21 0.15 0.080 0.12 0.08  pink pink black
elephant fur     trunk 2.4  3.0  0.50 0.28 0.16 0.30 0.20 0.08 0.110 0.30 0.17  grey
giraffe  mesh    -     2.4  2.9  0.40 0.18 0.85 1.05 0.08 0.11 0.040 0.30 0.04  beige
fox      fur     -     0.35 0.45 0.62 0.19 0.22 0.60 0.17 0.20 0.050 0.75 0.11  orange
wolf     fur     -     0.7  0.85 0.58 0.20 0.25 0.55 0.17 0.20 0.060 0.45 0.09  grey white black
leopard  spots   -     0.6  0.75 0.68 0.20 0.24 0.50 0.17 0.11 0.065 0.80 0.05  yellow orange
deer     fur     horns 0.9  1.2  0.50 0.18 0.40 0.95 0.13 0.17 0.042 0.12 0.09  brown beige
donkey   fur     mane  0.9  1.2  0.52 0.21 0.36 0.80 0.16 0.20 0.055 0.40 0.15  grey brown
"""
ANIMALS = tuple(AnimalParams.parse(row) for row in TABLE.strip().splitlines())


def add_leg(
    model: Model, hip: Vector, radius: float, *, coat: Material, shoe: Material, phase: float, stride: float
) -> None:
    """Add thigh, shin and foot with a knee, in mid-step."""
    x, y, z = hip
    knee = 0.48 * y
    upper = model.hinge("leg", hip, phase=phase, rest=stride * float(np.sin(phase)))
    lower = model.hinge("knee", (x, knee, z), parent=upper, phase=phase + 1.2)
    model.ball((x, y, z), (radius * 1.7, radius * 1.9, radius * 1.4), coat, upper)
    model.cone((x, y, z), (x, knee, z), radius * 1.5, radius, coat, joint=upper)
    model.limb((x, knee, z), (x, -radius, z), radius * 0.9, coat, lower)
    foot = (x + radius * 0.4, -radius * 0.6, z)
    model.ball(foot, (radius * 1.5, radius * 0.6, radius * 1.1), shoe, lower)


def animal(rng: Random) -> ObjectSpec:
    """Any four-legged animal, in mid-step."""
    params = rng.choose(ANIMALS)
    name = rng.choose(params.colours)
    size = rng.uniform(*params.shoulder_m)
    dark = rng.material("plain", (0.08, 0.07, 0.07), (0.14, 0.12, 0.11), tile_m=1.0, gloss=0.5)
    coat = _coat(rng, params, name, size)
    stretch, fat = rng.uniform(0.92, 1.08), rng.uniform(0.9, 1.1)
    long, girth = params.length * size * stretch, params.girth * size * fat
    width, back = girth * 0.85, girth - size
    model = Model()
    model.ball((0, back, 0), (long, girth, width), coat)
    model.ball((long * 0.55, back + girth * 0.05, 0), (long * 0.45, girth * 1.02, width * 1.02), coat)
    model.ball((-long * 0.55, back, 0), (long * 0.45, girth, width * 1.05), coat)
    if params.extra == "humps":
        for x in (-0.35, 0.3):
            model.ball((x * long, back - girth * 1.05, 0), (long * 0.28, girth * 0.8, width * 0.5), coat)
    if params.extra == "wool":
        for x in (-0.7, -0.25, 0.25, 0.7):
            model.ball((x * long, back - girth * 0.1, 0), (long * 0.4, girth * 1.1, width * 1.2), coat)
    phase, stride = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.4)
    legs = dark if params.extra == "wool" else coat
    for x, z, offset in ((0.68, -1, 0.0), (0.68, 1, np.pi), (-0.68, -1, np.pi), (-0.68, 1, 0.0)):
        hip = (x * long, back + girth * 0.35, z * width * 0.55)
        add_leg(model, hip, params.leg * size, coat=legs, shoe=dark, phase=phase + offset, stride=stride)
    base = (long * 0.8, back - girth * 0.3, 0.0)
    _add_head(model, rng, params, size=size, base=base, coat=coat, dark=dark)
    root = (-long * 0.95, back - girth * 0.3, 0.0)
    tail = model.hinge("tail", root, UPRIGHT, phase=rng.uniform(0, 6))
    droop = rng.uniform(-0.5, 0.8)
    end = (root[0] - params.tail * size * 0.7, root[1] + params.tail * size * droop, 0.0)
    model.limb(root, end, params.leg * size * 0.5, coat, tail)
    top = size + params.neck * size * float(np.sin(params.rise)) + params.head * size * 0.5
    return ObjectSpec(model, params.noun, name, "creature", height_m=top)


def _coat(rng: Random, params: AnimalParams, name: str, size: float) -> Material:
    colour = rng.colour(name)
    if params.coat in ("fur", "plain"):
        return rng.material(params.coat, *shades(colour, 1.2, 0.5), tile_m=size * 0.9, grain=0.5)
    dark = name not in ("orange", "yellow", "grey")
    second = rng.colour("black") if dark else scale_colour(colour, 0.35)
    if params.coat == "mesh":
        first, second = (rng.jitter(base) for base in ((0.9, 0.82, 0.65), (0.6, 0.36, 0.16)))
        return rng.material("mesh", first, second, tile_m=size * 0.7)
    if params.coat == "patches" and rng.random() < 0.4:
        second = rng.colour("brown")
    first, second = (second, colour) if params.coat == "spots" else (colour, second)
    return rng.material(params.coat, first, second, tile_m=size * 0.8, grain=0.3)


def _add_head(
    model: Model,
    rng: Random,
    params: AnimalParams,
    *,
    size: float,
    base: Vector,
    coat: Material,
    dark: Material,
) -> None:
    """Neck, head, snout, ears and eyes."""
    x, y, _ = base
    reach, lift = (params.neck * size * float(way(params.rise)) for way in (np.cos, np.sin))
    neck = model.hinge("neck", base, phase=rng.uniform(0, 6), rest=rng.uniform(-0.15, 0.3))
    head = params.head * size
    thick = max(params.girth * size * 0.55, head * 0.6)
    tip = (x + reach, y - lift, 0.0)
    model.cone(base, tip, thick, head * 0.62, coat, joint=neck)
    model.ball((tip[0] + head * 0.3, tip[1], 0), (head, head * 0.75, head * 0.7), coat, neck, tilt=0.25)
    snout = (tip[0] + head * 0.8 + params.snout * size * 0.5, tip[1] + head * 0.35, 0.0)
    model.ball(snout, (params.snout * size * 0.75, head * 0.42, head * 0.42), coat, neck, tilt=0.25)
    nose = (snout[0] + params.snout * size * 0.7, snout[1] + head * 0.05, 0.0)
    model.ball(nose, (head * 0.16, head * 0.16, head * 0.2), dark, neck)
    ear = params.ear * size
    flop = (0.12 * size, ear, 0.03 * size) if params.extra == "trunk" else (ear * 0.5, ear, ear * 0.4)
    eye = (head * 0.12, head * 0.12, head * 0.12)
    for z in (-1, 1):
        model.ball((tip[0] - head * 0.1, tip[1] - head * 0.6, z * head * 0.6), flop, coat, neck)
        model.ball((tip[0] + head * 0.85, tip[1] - head * 0.15, z * head * 0.5), eye, dark, neck)
        if params.extra == "horns":
            root = (tip[0] + head * 0.1, tip[1] - head * 0.6, z * head * 0.3)
            end = (root[0] - head * 0.2, root[1] - head * 1.1, z * head * 0.9)
            model.cone(root, end, head * 0.13, head * 0.03, dark, joint=neck)
    if params.extra == "mane":
        mane = (x + reach * 0.45, y - lift * 0.6 - thick * 0.5, 0.0)
        model.ball(mane, (params.neck * size * 0.5, thick * 0.5, thick * 0.35), dark, neck, tilt=-params.rise)
    if params.extra == "trunk":
        low = (snout[0] + 0.05 * size, -0.25 * size, 0.0)
        model.cone((snout[0] - 0.05 * size, snout[1], 0), low, head * 0.35, head * 0.15, coat, joint=neck)
