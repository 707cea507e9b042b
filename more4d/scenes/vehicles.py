"""Vehicles; x points forward."""

import numpy as np

from more4d.scenes.modelling import Model, ObjectSpec
from more4d.scenes.rigid_objects import pick_colour
from more4d.scenes.textures import Material, material, scale_colour

Random = np.random.Generator


def add_wheel(model: Model, rng: Random, x: float, z: float, *, radius: float, wide: float) -> None:
    """Add a tyre with hub and spokes, which make its rotation visible."""
    rubber = material(rng, "plain", (0.12, 0.12, 0.12), (0.2, 0.2, 0.2), tile_m=0.5, wrap="round")
    metal = material(rng, "plain", (0.75, 0.75, 0.75), (0.6, 0.6, 0.6), tile_m=0.5, gloss=0.5)
    joint = model.hinge("wheel", (x, -radius, z))
    model.cone((x, -radius, z - wide), (x, -radius, z + wide), radius, radius, rubber, joint=joint)
    model.cone(
        (x, -radius, z - wide * 1.05),
        (x, -radius, z + wide * 1.05),
        radius * 0.6,
        radius * 0.6,
        metal,
        joint=joint,
    )
    spoke = (radius * 0.52, radius * 0.1, wide * 1.1)
    for tilt in (0.0, np.pi / 2):
        model.box((x, -radius, z), spoke, rubber, joint, tilt=tilt)


def _glass(rng: Random) -> Material:
    return material(rng, "plain", (0.2, 0.27, 0.33), (0.35, 0.42, 0.5), tile_m=1.0, gloss=0.9, grain=0.1)


def car(rng: Random) -> ObjectSpec:
    name, colour = pick_colour(rng)
    long, wide, wheel = (
        float(rng.uniform(1.7, 2.2)),
        float(rng.uniform(0.75, 0.9)),
        float(rng.uniform(0.3, 0.36)),
    )
    paint = material(rng, "plain", colour, scale_colour(colour, 0.85), tile_m=2.0, grain=0.08, gloss=0.8)
    dark = material(rng, "plain", (0.1, 0.1, 0.1), (0.15, 0.15, 0.15), tile_m=1.0)
    lamp = material(rng, "plain", (0.95, 0.9, 0.7), (0.9, 0.85, 0.7), tile_m=1.0, gloss=0.8)
    glass = _glass(rng)
    model = Model()
    deck, roof = wheel + 0.45, wheel + 0.45 + float(rng.uniform(0.5, 0.65))
    model.box((0, -(wheel * 0.7 + deck) / 2, 0), (long, (deck - wheel * 0.7) / 2, wide), paint)
    model.box((-0.2, -(deck + roof) / 2, 0), (long * 0.5, (roof - deck) / 2, wide * 0.86), glass)
    model.box((-0.2, -roof, 0), (long * 0.46, 0.05, wide * 0.86), paint)
    for x in (-0.2 - long * 0.48, -0.25, -0.2 + long * 0.48):
        model.box((x, -(deck + roof) / 2, 0), (0.06, (roof - deck) / 2, wide * 0.88), paint)
    model.box((0, -wheel * 0.75, 0), (long * 1.02, 0.09, wide * 1.01), dark)
    for z in (-0.7, 0.7):
        model.ball((long, -deck * 0.78, z * wide), (0.05, 0.1, 0.13), lamp)
    for x in (-0.6, 0.62):
        for z in (-1, 1):
            add_wheel(model, rng, x * long, z * wide * 0.92, radius=wheel, wide=0.12)
    return ObjectSpec(model=model, noun="car", colour=name, category="vehicle", height_m=roof, radius_m=wheel)


def truck(rng: Random) -> ObjectSpec:
    name, colour = pick_colour(rng)
    long, wide, wheel = (
        float(rng.uniform(2.4, 3.2)),
        float(rng.uniform(0.9, 1.1)),
        float(rng.uniform(0.4, 0.5)),
    )
    paint = material(rng, "plain", colour, scale_colour(colour, 0.85), tile_m=2.0, grain=0.1, gloss=0.6)
    _, load = pick_colour(rng, name, "white", "grey", "beige", "brown")
    pattern = str(rng.choice(("plain", "planks", "stripes", "rust")))
    cargo = material(rng, pattern, load, scale_colour(load, 0.75), tile_m=2.0)
    dark = material(rng, "plain", (0.12, 0.12, 0.12), (0.18, 0.18, 0.18), tile_m=1.0)
    glass = _glass(rng)
    model = Model()
    bed, top = wheel * 1.6, float(rng.uniform(2.2, 2.9))
    model.box((0, -bed, 0), (long, 0.12, wide * 0.9), dark)
    model.box((-long * 0.28, -(bed + top) / 2 - 0.1, 0), (long * 0.7, (top - bed) / 2, wide), cargo)
    front = long * 0.76
    model.box(
        (front, -(bed * 0.8 + top * 0.8) / 2, 0),
        (long * 0.22, (top * 0.8 - bed * 0.8) / 2, wide * 0.95),
        paint,
    )
    model.box((front + long * 0.06, -top * 0.62, 0), (long * 0.165, top * 0.12, wide * 0.96), glass)
    for x in (-0.7, -0.42, 0.72):
        for z in (-1, 1):
            add_wheel(model, rng, x * long, z * wide * 0.88, radius=wheel, wide=0.16)
    return ObjectSpec(
        model=model, noun="truck", colour=name, category="vehicle", height_m=top + 0.1, radius_m=wheel
    )


def cart(rng: Random) -> ObjectSpec:
    name, colour = pick_colour(rng)
    long, wide, wheel = (
        float(rng.uniform(0.6, 0.9)),
        float(rng.uniform(0.4, 0.5)),
        float(rng.uniform(0.25, 0.4)),
    )
    wood = material(rng, "planks", scale_colour(colour, 0.6), scale_colour(colour, 1.2), tile_m=1.0)
    model = Model()
    floor, side = wheel * 1.5, float(rng.uniform(0.15, 0.3))
    model.box((0, -floor, 0), (long, 0.04, wide), wood)
    for z in (-1, 1):
        model.box((0, -floor - side, z * wide), (long, side, 0.03), wood)
    for x in (-1, 1):
        model.box((x * long, -floor - side, 0), (0.03, side, wide), wood)
    model.limb((long, -floor, 0), (long * 1.8, -floor - 0.25, 0), 0.03, wood)
    for x in (-0.6, 0.6):
        for z in (-1, 1):
            add_wheel(model, rng, x * long, z * wide * 1.12, radius=wheel, wide=0.05)
    height = floor + 2 * side
    return ObjectSpec(
        model=model, noun="cart", colour=name, category="vehicle", height_m=height, radius_m=wheel
    )


def bus(rng: Random) -> ObjectSpec:
    name, colour = pick_colour(rng)
    long, wide, wheel, top = float(rng.uniform(3.0, 4.0)), 1.15, 0.45, float(rng.uniform(2.5, 3.1))
    paint = material(rng, "plain", colour, scale_colour(colour, 0.85), tile_m=2.0, grain=0.08, gloss=0.6)
    trim = material(rng, "plain", (0.9, 0.9, 0.88), (0.8, 0.8, 0.8), tile_m=2.0)
    glass = _glass(rng)
    model = Model()
    middle, half = -(top + wheel * 0.7) / 2, (top - wheel * 0.7) / 2
    model.box((0, middle, 0), (long, half, wide), paint)
    model.box((0, middle + half * 0.2, 0), (long * 1.002, half * 0.06, wide * 1.004), trim)
    for window in range(6):
        x = (window - 2.5) * long * 0.31
        model.box((x, middle - half * 0.35, 0), (long * 0.13, half * 0.35, wide * 1.006), glass)
    model.box((long * 0.99, middle - half * 0.3, 0), (0.06, half * 0.45, wide * 0.88), glass)
    for x in (-0.6, 0.65):
        for z in (-1, 1):
            add_wheel(model, rng, x * long, z * wide * 0.92, radius=wheel, wide=0.15)
    return ObjectSpec(model=model, noun="bus", colour=name, category="vehicle", height_m=top, radius_m=wheel)


def train(rng: Random) -> ObjectSpec:
    name, colour = pick_colour(rng)
    size = float(rng.choice((0.15, 0.3, 1.0))) * float(rng.uniform(0.8, 1.2))
    paint = material(rng, "plain", colour, scale_colour(colour, 0.8), tile_m=size * 2, grain=0.1, gloss=0.6)
    dark = material(rng, "plain", (0.12, 0.12, 0.13), (0.2, 0.2, 0.2), tile_m=size * 2)
    wood = material(rng, "planks", scale_colour(colour, 0.5), scale_colour(colour, 0.9), tile_m=size)
    model = Model()
    wheel = 0.35 * size
    model.box((0, -0.6 * size, 0), (2.0 * size, 0.1 * size, 0.6 * size), dark)
    model.cone((-0.5 * size, -1.15 * size, 0), (1.9 * size, -1.15 * size, 0), 0.5 * size, 0.5 * size, paint)
    model.box((-1.2 * size, -1.5 * size, 0), (0.75 * size, 0.85 * size, 0.7 * size), wood)
    model.box((-1.2 * size, -2.4 * size, 0), (0.9 * size, 0.08 * size, 0.8 * size), dark)
    model.box((-1.2 * size, -1.8 * size, 0), (0.4 * size, 0.3 * size, 0.72 * size), _glass(rng))
    model.cone((1.4 * size, -1.6 * size, 0), (1.4 * size, -2.2 * size, 0), 0.16 * size, 0.28 * size, dark)
    model.ball((0.4 * size, -1.65 * size, 0), (0.2 * size, 0.22 * size, 0.2 * size), paint)
    for x in (-1.4, -0.6, 0.5, 1.4):
        for z in (-1, 1):
            add_wheel(model, rng, x * size, z * 0.6 * size, radius=wheel, wide=0.07 * size)
    height = 2.48 * size
    return ObjectSpec(
        model=model, noun="train", colour=name, category="vehicle", height_m=height, radius_m=wheel
    )
