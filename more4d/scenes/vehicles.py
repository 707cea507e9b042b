"""Vehicles; x points forward."""

from itertools import product

import numpy as np

from more4d.scenes.modelling import Model, ObjectSpec
from more4d.scenes.textures import Material, Random, shades


def add_wheels(
    model: Model, rng: Random, axles: tuple[float, ...], half: float, *, radius: float, wide: float
) -> None:
    """Add two wheels per axle, with hubs and spokes, which make their rotation visible."""
    spoke = (radius * 0.52, radius * 0.1, wide * 1.1)
    for x, z in product(axles, (-half, half)):
        rubber = rng.material("plain", (0.12, 0.12, 0.12), (0.2, 0.2, 0.2), tile_m=0.5, wrap="round")
        metal = rng.material("plain", (0.75, 0.75, 0.75), (0.6, 0.6, 0.6), tile_m=0.5, gloss=0.5)
        joint = model.hinge("wheel", (x, -radius, z))
        for size, thick, coat in ((radius, wide, rubber), (radius * 0.6, wide * 1.05, metal)):
            model.cone((x, -radius, z - thick), (x, -radius, z + thick), size, size, coat, joint=joint)
        for tilt in (0.0, np.pi / 2):
            model.box((x, -radius, z), spoke, rubber, joint, tilt=tilt)


def _glass(rng: Random) -> Material:
    return rng.material("plain", (0.2, 0.27, 0.33), (0.35, 0.42, 0.5), tile_m=1.0, gloss=0.9, grain=0.1)


def car(rng: Random) -> ObjectSpec:
    name, colour = rng.named_colour()
    long, wide, wheel = rng.uniforms((1.7, 2.2), (0.75, 0.9), (0.3, 0.36))
    paint = rng.material("plain", *shades(colour, 1.0, 0.85), tile_m=2.0, grain=0.08, gloss=0.8)
    dark = rng.material("plain", (0.1, 0.1, 0.1), (0.15, 0.15, 0.15), tile_m=1.0)
    lamp = rng.material("plain", (0.95, 0.9, 0.7), (0.9, 0.85, 0.7), tile_m=1.0, gloss=0.8)
    glass = _glass(rng)
    model = Model()
    deck, roof = wheel + 0.45, wheel + 0.45 + rng.uniform(0.5, 0.65)
    model.box((0, -(wheel * 0.7 + deck) / 2, 0), (long, (deck - wheel * 0.7) / 2, wide), paint)
    model.box((-0.2, -(deck + roof) / 2, 0), (long * 0.5, (roof - deck) / 2, wide * 0.86), glass)
    model.box((-0.2, -roof, 0), (long * 0.46, 0.05, wide * 0.86), paint)
    for x in (-0.2 - long * 0.48, -0.25, -0.2 + long * 0.48):
        model.box((x, -(deck + roof) / 2, 0), (0.06, (roof - deck) / 2, wide * 0.88), paint)
    model.box((0, -wheel * 0.75, 0), (long * 1.02, 0.09, wide * 1.01), dark)
    for z in (-0.7, 0.7):
        model.ball((long, -deck * 0.78, z * wide), (0.05, 0.1, 0.13), lamp)
    add_wheels(model, rng, (-0.6 * long, 0.62 * long), wide * 0.92, radius=wheel, wide=0.12)
    return ObjectSpec(model, "car", name, "vehicle", height_m=roof, radius_m=wheel)


def truck(rng: Random) -> ObjectSpec:
    name, colour = rng.named_colour()
    long, wide, wheel = rng.uniforms((2.4, 3.2), (0.9, 1.1), (0.4, 0.5))
    paint = rng.material("plain", *shades(colour, 1.0, 0.85), tile_m=2.0, grain=0.1, gloss=0.6)
    _, load = rng.named_colour(name, "white", "grey", "beige", "brown")
    pattern = rng.choose(("plain", "planks", "stripes", "rust"))
    cargo = rng.material(pattern, *shades(load, 1.0, 0.75), tile_m=2.0)
    dark = rng.material("plain", (0.12, 0.12, 0.12), (0.18, 0.18, 0.18), tile_m=1.0)
    glass = _glass(rng)
    model = Model()
    bed, top = wheel * 1.6, rng.uniform(2.2, 2.9)
    model.box((0, -bed, 0), (long, 0.12, wide * 0.9), dark)
    model.box((-long * 0.28, -(bed + top) / 2 - 0.1, 0), (long * 0.7, (top - bed) / 2, wide), cargo)
    front = long * 0.76
    size = (long * 0.22, (top * 0.8 - bed * 0.8) / 2, wide * 0.95)
    model.box((front, -(bed * 0.8 + top * 0.8) / 2, 0), size, paint)
    model.box((front + long * 0.06, -top * 0.62, 0), (long * 0.165, top * 0.12, wide * 0.96), glass)
    add_wheels(model, rng, (-0.7 * long, -0.42 * long, 0.72 * long), wide * 0.88, radius=wheel, wide=0.16)
    return ObjectSpec(model, "truck", name, "vehicle", height_m=top + 0.1, radius_m=wheel)


def cart(rng: Random) -> ObjectSpec:
    name, colour = rng.named_colour()
    long, wide, wheel = rng.uniforms((0.6, 0.9), (0.4, 0.5), (0.25, 0.4))
    wood = rng.material("planks", *shades(colour, 0.6, 1.2), tile_m=1.0)
    model = Model()
    floor, side = wheel * 1.5, rng.uniform(0.15, 0.3)
    model.box((0, -floor, 0), (long, 0.04, wide), wood)
    for z in (-1, 1):
        model.box((0, -floor - side, z * wide), (long, side, 0.03), wood)
    for x in (-1, 1):
        model.box((x * long, -floor - side, 0), (0.03, side, wide), wood)
    model.limb((long, -floor, 0), (long * 1.8, -floor - 0.25, 0), 0.03, wood)
    add_wheels(model, rng, (-0.6 * long, 0.6 * long), wide * 1.12, radius=wheel, wide=0.05)
    return ObjectSpec(model, "cart", name, "vehicle", height_m=floor + 2 * side, radius_m=wheel)


def bus(rng: Random) -> ObjectSpec:
    name, colour = rng.named_colour()
    long, wide, wheel, top = rng.uniform(3.0, 4.0), 1.15, 0.45, rng.uniform(2.5, 3.1)
    paint = rng.material("plain", *shades(colour, 1.0, 0.85), tile_m=2.0, grain=0.08, gloss=0.6)
    trim = rng.material("plain", (0.9, 0.9, 0.88), (0.8, 0.8, 0.8), tile_m=2.0)
    glass = _glass(rng)
    model = Model()
    middle, half = -(top + wheel * 0.7) / 2, (top - wheel * 0.7) / 2
    model.box((0, middle, 0), (long, half, wide), paint)
    model.box((0, middle + half * 0.2, 0), (long * 1.002, half * 0.06, wide * 1.004), trim)
    for window in range(6):
        x = (window - 2.5) * long * 0.31
        model.box((x, middle - half * 0.35, 0), (long * 0.13, half * 0.35, wide * 1.006), glass)
    model.box((long * 0.99, middle - half * 0.3, 0), (0.06, half * 0.45, wide * 0.88), glass)
    add_wheels(model, rng, (-0.6 * long, 0.65 * long), wide * 0.92, radius=wheel, wide=0.15)
    return ObjectSpec(model, "bus", name, "vehicle", height_m=top, radius_m=wheel)


def train(rng: Random) -> ObjectSpec:
    name, colour = rng.named_colour()
    size = rng.choose((0.15, 0.3, 1.0)) * rng.uniform(0.8, 1.2)
    paint = rng.material("plain", *shades(colour, 1.0, 0.8), tile_m=size * 2, grain=0.1, gloss=0.6)
    dark = rng.material("plain", (0.12, 0.12, 0.13), (0.2, 0.2, 0.2), tile_m=size * 2)
    wood = rng.material("planks", *shades(colour, 0.5, 0.9), tile_m=size)
    model = Model()
    wheel = 0.35 * size
    model.box((0, -0.6 * size, 0), (2.0 * size, 0.1 * size, 0.6 * size), dark)
    model.cone((-0.5 * size, -1.15 * size, 0), (1.9 * size, -1.15 * size, 0), 0.5 * size, 0.5 * size, paint)
    model.box((-1.2 * size, -1.5 * size, 0), (0.75 * size, 0.85 * size, 0.7 * size), wood)
    model.box((-1.2 * size, -2.4 * size, 0), (0.9 * size, 0.08 * size, 0.8 * size), dark)
    model.box((-1.2 * size, -1.8 * size, 0), (0.4 * size, 0.3 * size, 0.72 * size), _glass(rng))
    model.cone((1.4 * size, -1.6 * size, 0), (1.4 * size, -2.2 * size, 0), 0.16 * size, 0.28 * size, dark)
    model.ball((0.4 * size, -1.65 * size, 0), (0.2 * size, 0.22 * size, 0.2 * size), paint)
    axles = (-1.4 * size, -0.6 * size, 0.5 * size, 1.4 * size)
    add_wheels(model, rng, axles, 0.6 * size, radius=wheel, wide=0.07 * size)
    return ObjectSpec(model, "train", name, "vehicle", height_m=2.48 * size, radius_m=wheel)
