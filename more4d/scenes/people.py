"""People, robots and birds on two legs; x points forward."""

import numpy as np

from more4d.scenes.creatures import add_leg
from more4d.scenes.modelling import ALONG, Model, ObjectSpec
from more4d.scenes.motions import Vector
from more4d.scenes.textures import NAMED_COLOURS, Material, Random, scale_colour, shades

SKINS = ((0.93, 0.76, 0.65), (0.82, 0.62, 0.48), (0.6, 0.42, 0.3), (0.38, 0.26, 0.19))
HAIR = ((0.1, 0.08, 0.07), (0.35, 0.22, 0.12), (0.75, 0.58, 0.3), (0.6, 0.6, 0.6), (0.5, 0.2, 0.1))
PEOPLE = (
    ("man", 1.65, 1.9, 1.0),
    ("woman", 1.55, 1.75, 1.0),
    ("boy", 1.0, 1.4, 1.25),
    ("girl", 1.0, 1.4, 1.25),
    ("toy figure", 0.2, 0.5, 1.9),
)
"""Noun, minimum and maximum height in metres, size of the head."""
BIRDS = (
    ("chicken", 0.2, 0.16, 0.6, "brown white black", "orange"),
    ("duck", 0.12, 0.14, 0.6, "white yellow brown", "orange"),
    ("penguin", 0.06, 0.04, 0.9, "black", "orange"),
    ("ostrich", 0.8, 0.75, 1.1, "black brown grey", "pink"),
    ("flamingo", 0.7, 0.55, 0.7, "pink", "black"),
)
"""Noun, lengths of leg and neck in sizes, size in metres, colours of coat and bill."""
STEPS = ((-1, 0.0), (1, np.pi))
"""Side and phase of the two legs."""


def person(rng: Random) -> ObjectSpec:
    """A person in coloured clothes (adult, child or toy figure) in mid-step."""
    name, colour = rng.named_colour()
    noun, low, high, big = rng.choose(PEOPLE)
    tall = rng.uniform(low, high)
    cloth = rng.choose(("plain", "plain", "stripes", "plaid", "checks"))
    second = scale_colour(colour, 0.7) if cloth == "plain" else rng.contrast(name)
    shirt = rng.material(cloth, colour, second, tile_m=tall * 0.3, grain=0.25)
    legs = rng.contrast(name)
    trousers = rng.material("plain", *shades(legs, 1.0, 0.7), tile_m=tall * 0.5, grain=0.3)
    tone = rng.jitter(rng.choose(SKINS), 0.02)
    flesh = rng.material("plain", *shades(tone, 1.0, 0.9), tile_m=tall, grain=0.1)
    model = Model()
    head = 0.07 * tall * big
    hip, shoulder, wide = 0.48 * tall / big**0.5, tall - 2.4 * head, 0.1 * tall * big**0.5
    phase, stride = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.4)
    shoe = rng.material("plain", rng.contrast(name), (0.1, 0.1, 0.1), tile_m=1.0)
    for z, offset in STEPS:
        place, radius = (0.0, -hip, z * wide * 0.5), 0.036 * tall * big**0.5
        add_leg(model, place, radius, coat=trousers, shoe=shoe, phase=phase + offset, stride=stride)
    model.ball((0, -hip, 0), (wide * 0.65, wide * 0.7, wide * 0.95), trousers)
    model.cone((0, -hip, 0), (0, -shoulder, 0), wide * 0.68, wide * 0.85, shirt)
    model.ball((0, -shoulder, 0), (wide * 0.7, wide * 0.5, wide * 1.1), shirt)
    if noun in ("woman", "girl") and rng.random() < 0.5:
        model.cone((0, -hip * 0.6, 0), (0, -hip * 1.15, 0), wide * 1.35, wide * 0.65, shirt)
    for z, offset in ((-1, np.pi), (1, 0.0)):
        place = (0.0, -shoulder, z * wide * 1.15)
        _add_arm(model, place, tall, upper=shirt, lower=flesh, phase=phase + offset, stride=stride)
    _add_face(model, rng, tall, head, flesh, labels=(noun, name))
    return ObjectSpec(model, noun, name, "person", height_m=tall)


def _add_arm(
    model: Model,
    shoulder: Vector,
    tall: float,
    *,
    upper: Material,
    lower: Material,
    phase: float,
    stride: float,
) -> None:
    """Add an arm that swings and can be raised sideways; the one at z > 0 waves."""
    x, y, z = shoulder
    role, rest = ("right arm", -0.12) if z > 0 else ("left arm", 0.12)
    lift = model.hinge(role, shoulder, ALONG, rest=rest)
    swing = model.hinge("arm", shoulder, parent=lift, phase=phase, rest=stride * float(np.sin(phase)))
    elbow, hand = (x, y + 0.16 * tall, z), (x + 0.03 * tall, y + 0.31 * tall, z)
    fore = model.hinge("elbow", elbow, parent=swing, phase=phase, rest=-0.25)
    model.limb(shoulder, elbow, 0.028 * tall, upper, swing)
    model.limb(elbow, hand, 0.023 * tall, lower, fore)
    model.ball((hand[0], hand[1] + 0.015 * tall, z), (0.03 * tall, 0.035 * tall, 0.022 * tall), lower, fore)


def _add_face(
    model: Model, rng: Random, tall: float, head: float, flesh: Material, *, labels: tuple[str, str]
) -> None:
    """Head with hair, eyes, nose and sometimes a cap."""
    noun, name = labels
    tint = rng.choose(HAIR)
    hair = rng.material("fur", *shades(tint, 1.0, 0.5), tile_m=head * 3)
    dark = rng.material("plain", (0.06, 0.06, 0.06), (0.1, 0.1, 0.1), tile_m=1.0, gloss=0.5)
    centre = -tall + head * 1.05
    neck = model.hinge("neck", (0.0, -tall + 2.1 * head, 0.0))
    model.cone((0, centre + 1.6 * head, 0), (0, centre, 0), head * 0.5, head * 0.4, flesh, joint=neck)
    model.ball((0, centre, 0), (head * 0.9, head * 1.05, head * 0.82), flesh, neck)
    model.ball((-head * 0.22, centre - head * 0.22, 0), (head * 0.85, head * 0.95, head * 0.88), hair, neck)
    if noun in ("woman", "girl"):
        model.ball((-head * 0.5, centre + head * 0.4, 0), (head * 0.5, head * 1.2, head * 0.8), hair, neck)
    model.ball((head * 0.9, centre + head * 0.12, 0), (head * 0.16, head * 0.2, head * 0.13), flesh, neck)
    for z in (-0.33, 0.33):
        eye = (head * 0.8, centre - head * 0.08, z * head)
        model.ball(eye, (head * 0.1, head * 0.13, head * 0.12), dark, neck)
    if rng.random() < 0.3:
        colour = rng.contrast(name)
        cap = rng.material("plain", *shades(colour, 1.0, 0.8), tile_m=1.0)
        model.ball((0, centre - head * 0.45, 0), (head * 1.05, head * 0.75, head * 0.98), cap, neck)
        model.box((head * 0.95, centre - head * 0.4, 0), (head * 0.5, head * 0.07, head * 0.6), cap, neck)


def robot(rng: Random) -> ObjectSpec:
    """A robot of boxes and tubes."""
    name, colour = rng.named_colour()
    tall = rng.uniform(0.5, 1.6)
    shell = rng.material(rng.choose(("plain", "rust")), *shades(colour, 1.0, 0.6), tile_m=tall, gloss=0.6)
    steel = rng.material("plain", (0.6, 0.62, 0.65), (0.45, 0.45, 0.5), tile_m=tall, gloss=0.6)
    glow = rng.material("plain", rng.contrast(name), (0.9, 0.9, 0.9), tile_m=1.0)
    model = Model()
    phase, stride, wide = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.35), 0.17 * tall
    for z, offset in STEPS:
        hip, shoulder = (0.0, -0.4 * tall, z * wide * 0.55), (0.0, -0.68 * tall, z * wide * 1.2)
        add_leg(model, hip, 0.045 * tall, coat=steel, shoe=shell, phase=phase + offset, stride=stride)
        _add_arm(model, shoulder, tall, upper=steel, lower=shell, phase=phase + np.pi + offset, stride=stride)
    model.box((0, -0.56 * tall, 0), (wide * 0.7, 0.17 * tall, wide), shell)
    model.box((wide * 0.7, -0.58 * tall, 0), (0.01 * tall, 0.08 * tall, wide * 0.6), steel)
    neck = model.hinge("neck", (0.0, -0.73 * tall, 0.0))
    model.cone((0, -0.73 * tall, 0), (0, -0.8 * tall, 0), 0.05 * tall, 0.05 * tall, steel, joint=neck)
    model.box((0, -0.88 * tall, 0), (wide * 0.55, 0.09 * tall, wide * 0.7), shell, neck)
    for z in (-0.3, 0.3):
        model.ball((wide * 0.55, -0.9 * tall, z * wide), (0.02 * tall, 0.03 * tall, 0.03 * tall), glow, neck)
    model.limb((0, -0.97 * tall, 0), (0, -1.02 * tall, 0), 0.008 * tall, steel, neck)
    return ObjectSpec(model, "robot", name, "person", height_m=tall)


def bird(rng: Random) -> ObjectSpec:
    """A walking or flying bird."""
    noun, leg, neck_length, size_m, colours, bill = rng.choose(BIRDS)
    name, colour = rng.named_colour(*colours.split())
    size = rng.uniform(0.9, 1.2) * size_m
    coat = rng.material("fur", *shades(colour, 1.15, 0.6), tile_m=size * 0.6, grain=0.4)
    pale = rng.material("fur", (0.9, 0.9, 0.88), (0.75, 0.75, 0.7), tile_m=size * 0.6)
    first, second = rng.colour(bill), scale_colour(NAMED_COLOURS[bill], 0.8)
    beak = rng.material("plain", first, second, tile_m=1.0)
    model = Model()
    upright = noun == "penguin"
    half = (0.17, 0.36, 0.17) if upright else (0.3, 0.19, 0.17)
    long, deep, wide = (size * value for value in half)
    body = -(leg * size + deep * 0.9)
    _add_body(model, (long, deep, wide), body, coat, pale if upright else coat)
    phase = rng.uniform(0, 6.28)
    for z, offset in STEPS:
        hip = (0.0, body + deep * 0.7, z * wide * 0.45)
        add_leg(model, hip, 0.022 * size, coat=beak, shoe=beak, phase=phase + offset, stride=0.25)
    front = (long * (0.2 if upright else 0.75), body - deep * (0.85 if upright else 0.4), 0.0)
    neck = model.hinge("neck", front, rest=rng.uniform(-0.1, 0.2))
    top = (front[0] + 0.25 * neck_length * size, front[1] - neck_length * size, 0.0)
    model.limb(front, top, 0.055 * size, coat, neck)
    model.ball(top, (0.1 * size, 0.085 * size, 0.08 * size), coat, neck)
    tip = (top[0] + 0.2 * size, top[1] + 0.02 * size, 0)
    model.cone((top[0] + 0.07 * size, top[1], 0), tip, 0.035 * size, 0.005, beak, joint=neck)
    for z in (-1, 1):
        eye = (top[0] + 0.05 * size, top[1] - 0.02 * size, z * 0.07 * size)
        model.ball(eye, (0.015, 0.015, 0.015), beak, neck)
    return ObjectSpec(model, noun, name, "creature", height_m=-top[1] + 0.09 * size)


def _add_body(model: Model, half: Vector, middle: float, coat: Material, belly: Material) -> None:
    """Trunk, wings and tail of a bird."""
    long, deep, wide = half
    model.ball((0, middle, 0), half, coat)
    model.ball((long * 0.25, middle + deep * 0.05, 0), (long * 0.85, deep * 0.85, wide * 0.85), belly)
    model.ball((-long * 1.05, middle - deep * 0.2, 0), (long * 0.35, deep * 0.2, wide * 0.5), coat, tilt=0.4)
    for z in (-1, 1):
        root = (0.0, middle - deep * 0.4, z * wide * 0.9)
        wing = model.hinge("wing", root, ALONG, phase=0.0 if z > 0 else np.pi)
        size = (long * 0.7, deep * 0.6, wide * 0.18)
        model.ball((-long * 0.1, middle + deep * 0.05, z * wide * 1.0), size, coat, wing)


def flying_bird(rng: Random) -> ObjectSpec:
    """A bird on spread wings, high above the ground."""
    name, colour = rng.named_colour("white", "black", "brown", "blue", "red", "grey")
    size, lift = rng.uniform(0.4, 0.9), rng.uniform(0.8, 2.0)
    coat = rng.material("fur", *shades(colour, 1.15, 0.6), tile_m=size, grain=0.4)
    beak = rng.material("plain", NAMED_COLOURS["orange"], NAMED_COLOURS["yellow"], tile_m=1.0)
    model = Model()
    model.ball((0, -lift, 0), (0.4 * size, 0.13 * size, 0.14 * size), coat)
    model.ball((0.38 * size, -lift - 0.06 * size, 0), (0.13 * size, 0.11 * size, 0.1 * size), coat)
    tip = (0.62 * size, -lift - 0.04 * size, 0.0)
    model.cone((0.48 * size, -lift - 0.05 * size, 0), tip, 0.04 * size, 0.004, beak)
    model.box((-0.45 * size, -lift, 0), (0.18 * size, 0.012 * size, 0.12 * size), coat)
    phase = rng.uniform(0, 6.28)
    for z in (-1, 1):
        root = (0.0, -lift - 0.05 * size, z * 0.1 * size)
        wing = model.hinge("wing", root, ALONG, phase=phase + (0.0 if z > 0 else np.pi), rest=-0.25 * z)
        model.ball((0, root[1], z * 0.5 * size), (0.2 * size, 0.03 * size, 0.45 * size), coat, wing)
    return ObjectSpec(model, "bird", name, "flyer", height_m=lift + 0.2 * size)
