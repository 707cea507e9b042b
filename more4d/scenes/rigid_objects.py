"""Rigid and passive objects: balls, boxes, balloons, trees, flags, furniture, plants and the like."""

from itertools import product

import numpy as np

from more4d.scenes.modelling import ALONG, Model, ObjectSpec, shift, stretch
from more4d.scenes.primitives import SHEET
from more4d.scenes.textures import NAMED_COLOURS, Colour, Material, Random, scale_colour, shades

SIDES = (-1, 1)
PRINTS = ("plain", "plain", "stripes", "checks", "spots", "patches", "plaid", "marble", "rust")


def surface_material(
    rng: Random, colour: Colour, second: Colour, size: float, *, wrap: str = "box"
) -> Material:
    """A painted or printed surface: plain, or with a bold pattern."""
    pattern = rng.choose(PRINTS)
    second = scale_colour(colour, 0.75) if pattern in ("plain", "rust", "marble") else second
    return rng.material(pattern, colour, second, tile_m=size, gloss=rng.choose((0.0, 0.2, 0.5)), wrap=wrap)


def ball(rng: Random) -> ObjectSpec:
    name, colour = rng.named_colour()
    radius = rng.uniform(0.12, 0.5)
    model = Model()
    coat = surface_material(rng, colour, rng.contrast(name), 2.2 * radius)
    model.ball((0, -radius, 0), (radius, radius, radius), coat)
    noun = rng.choose(("ball", "ball", "sphere"))
    return ObjectSpec(model, noun, name, "ball", height_m=2 * radius, radius_m=radius)


def box(rng: Random) -> ObjectSpec:
    name, colour = rng.named_colour()
    half = rng.uniform(0.15, 0.45, 3)
    model = Model()
    coat = surface_material(rng, colour, rng.contrast(name), 1.2 * float(half.max()))
    model.box((0, -half[1], 0), (half[0], half[1], half[2]), coat)
    noun = "cube" if np.ptp(half) < 0.06 else "box"
    return ObjectSpec(model, noun, name, "thing", height_m=2 * float(half[1]))


def crate(rng: Random) -> ObjectSpec:
    half = rng.uniform(0.25, 0.5)
    wood = rng.colour("brown")
    board = rng.material("planks", *shades(wood, 0.6, 1.5), tile_m=half * 2, grain=0.5)
    frame = rng.material("wood", *shades(wood, 0.8, 1.1), tile_m=half)
    model = Model()
    model.box((0, -half, 0), (half * 0.95, half * 0.95, half * 0.95), board)
    thin = half * 0.12
    for x, z in product(SIDES, SIDES):
        model.box((x * half * 0.9, -half, z * half * 0.9), (thin, half, thin), frame)
    for y, z in product((thin, 2 * half - thin), SIDES):
        model.box((0, -y, z * half * 0.9), (half, thin, thin), frame)
    return ObjectSpec(model, "crate", "brown", "thing", height_m=2 * half)


def barrel(rng: Random) -> ObjectSpec:
    name, colour = rng.named_colour()
    radius, height = rng.uniform(0.22, 0.35), rng.uniform(0.7, 1.0)
    coat = rng.material("rust", *shades(colour, 1.0, 0.5), tile_m=1.0, wrap="round", gloss=0.3)
    rim = rng.material("plain", *shades(colour, 0.6, 0.5), tile_m=0.5, wrap="round")
    model = Model()
    model.cone((0, 0, 0), (0, -height, 0), radius, radius, coat)
    for level in (0.04, 0.35, 0.65, 0.96):
        middle = -height * level
        model.cone((0, middle + 0.02, 0), (0, middle - 0.02, 0), radius * 1.05, radius * 1.05, rim)
    return ObjectSpec(model, "barrel", name, "thing", height_m=height)


def balloon(rng: Random) -> ObjectSpec:
    name, colour = rng.named_colour()
    radius, lift = rng.uniform(0.18, 0.35), rng.uniform(0.6, 1.6)
    coat = rng.material("plain", *shades(colour, 1.0, 0.8), tile_m=1.0, grain=0.1, gloss=0.7)
    string = rng.material("plain", (0.8, 0.8, 0.8), (0.6, 0.6, 0.6), tile_m=1.0)
    model = Model()
    model.ball((0, -lift - radius * 1.2, 0), (radius, radius * 1.2, radius), coat)
    model.cone((0, -lift + 0.05, 0), (0, -lift - 0.02, 0), 0.05, 0.015, coat)
    model.limb((0, -lift + 0.5, 0), (0, -lift, 0), 0.008, string)
    return ObjectSpec(model, "balloon", name, "floater", height_m=lift + 2.4 * radius)


def tree(rng: Random) -> ObjectSpec:
    height = rng.uniform(2.0, 5.0)
    bark = rng.colour("brown")
    name, leaf = rng.named_colour("green", "green", "green", "orange", "yellow")
    wood = rng.material("wood", *shades(bark, 0.6, 1.0), tile_m=0.8, wrap="round", grain=0.6)
    leaves = rng.material("foliage", *shades(leaf, 0.45, 1.15), tile_m=1.4, grain=0.7, wrap="round")
    model = Model()
    foot = model.hinge("sway", (0, 0, 0), ALONG)
    lean = model.hinge("sway", (0, -0.35 * height, 0), ALONG, parent=foot)
    trunk = rng.uniform(0.06, 0.12) * height / 3
    model.cone((0, 0, 0), (0, -0.4 * height, 0), trunk * 1.4, trunk, wood, joint=foot)
    model.cone((0, -0.38 * height, 0), (0, -0.75 * height, 0), trunk, trunk * 0.6, wood, joint=lean)
    if rng.random() < 0.4:
        for level in range(4):
            low, wide = 0.3 + 0.16 * level, 0.26 - 0.05 * level
            start, end = (0.0, -low * height, 0.0), (0.0, -(low + 0.27) * height, 0.0)
            model.cone(start, end, wide * height, 0.01, leaves, joint=foot if level == 0 else lean)
        return ObjectSpec(model, "fir tree", name, "plant", height_m=height)
    for _ in range(rng.integers(3, 7)):
        x, z = rng.normal(0, 0.13, 2) * height
        y, size = rng.uniform(0.6, 0.85) * height, rng.uniform(0.14, 0.24) * height
        model.ball((x, -y, z), (size, size * 0.8, size), leaves, lean)
    return ObjectSpec(model, "tree", name, "plant", height_m=height)


def flag(rng: Random) -> ObjectSpec:
    name, colour = rng.named_colour()
    height = rng.uniform(1.6, 3.0)
    wide, tall = height * rng.uniform(0.2, 0.32), height * rng.uniform(0.12, 0.2)
    cloth = surface_material(rng, colour, rng.contrast(name), 1.5 * tall)
    pole = rng.material("plain", (0.75, 0.75, 0.75), (0.5, 0.5, 0.5), tile_m=1.0, gloss=0.4, wrap="round")
    model = Model()
    model.cone((0, 0, 0), (0, -height, 0), 0.035, 0.025, pole)
    model.ball((0, -height, 0), (0.05, 0.05, 0.05), pole)
    rest = shift((wide, -height + tall * 1.1, 0)) @ stretch((wide, tall, rng.uniform(0.3, 0.5) * tall))
    phase, waves, lean = rng.uniforms((0.0, 6.28), (0.7, 1.3), (-0.5, 0.5))
    model.add(SHEET, rest, cloth, -1, 1.0, waves, lean, phase)
    return ObjectSpec(model, "flag", name, "flag", height_m=height)


def hot_air_balloon(rng: Random) -> ObjectSpec:
    name, colour = rng.named_colour()
    size, lift = rng.uniform(1.2, 3.0), rng.uniform(1.0, 4.0)
    second, pattern = rng.contrast(name), rng.choose(("stripes", "checks", "plain"))
    turned = rng.random() < 0.5
    coat = rng.material(pattern, colour, second, tile_m=size * 1.6, wrap="round", grain=0.1, turned=turned)
    basket = rng.material("plaid", (0.45, 0.3, 0.15), (0.65, 0.48, 0.28), tile_m=size * 0.2)
    rope = rng.material("plain", (0.3, 0.25, 0.2), (0.4, 0.35, 0.3), tile_m=1.0)
    model = Model()
    low, middle = -lift, -lift - 2.1 * size
    model.ball((0, middle, 0), (size, size * 1.05, size), coat)
    model.cone((0, middle + size * 0.45, 0), (0, low - size * 0.75, 0), size * 0.88, size * 0.3, coat)
    model.box((0, low - size * 0.16, 0), (size * 0.22, size * 0.16, size * 0.22), basket)
    for x, z in product(SIDES, SIDES):
        start = (x * size * 0.2, low - size * 0.3, z * size * 0.2)
        model.limb(start, (x * size * 0.27, low - size * 0.8, z * size * 0.27), size * 0.012, rope)
    return ObjectSpec(model, "hot-air balloon", name, "floater", height_m=lift + 3.15 * size)


def cactus(rng: Random) -> ObjectSpec:
    tall = rng.uniform(0.4, 2.0)
    green = rng.colour("green")
    coat = rng.material("slats", *shades(green, 0.5, 1.0), tile_m=tall * 0.4, wrap="round")
    model = Model()
    foot = model.hinge("sway", (0, 0, 0), ALONG)
    thick = 0.12 * tall
    model.limb((0, 0, 0), (0, -tall + thick, 0), thick, coat, foot)
    for side in SIDES:
        height, reach = rng.uniform(0.3, 0.6) * tall, side * 0.3 * tall
        model.limb((0, -height, 0), (reach, -height, 0), thick * 0.6, coat, foot)
        model.limb((reach, -height, 0), (reach, -height - 0.3 * tall, 0), thick * 0.6, coat, foot)
    return ObjectSpec(model, "cactus", "green", "plant", height_m=tall)


def flower(rng: Random) -> ObjectSpec:
    name, colour = rng.named_colour("red", "yellow", "pink", "purple", "white", "orange", "blue")
    tall = rng.uniform(0.2, 0.7)
    petal = rng.material("plain", *shades(colour, 1.0, 0.8), tile_m=tall, grain=0.2)
    heart = rng.material("gravel", (0.5, 0.35, 0.1), (0.9, 0.7, 0.2), tile_m=tall * 0.3)
    green = rng.material("plain", NAMED_COLOURS["green"], (0.1, 0.35, 0.1), tile_m=tall)
    clay = rng.jitter((0.65, 0.32, 0.2))
    pot = rng.material("plain", clay, (0.5, 0.25, 0.15), tile_m=tall, wrap="round")
    model = Model()
    model.cone((0, 0, 0), (0, -0.3 * tall, 0), 0.13 * tall, 0.2 * tall, pot)
    foot = model.hinge("sway", (0, -0.3 * tall, 0), ALONG)
    top = model.hinge("sway", (0, -0.6 * tall, 0), ALONG, parent=foot)
    model.limb((0, -0.25 * tall, 0), (0, -0.6 * tall, 0), 0.018 * tall, green, foot)
    model.limb((0, -0.6 * tall, 0), (0, -0.9 * tall, 0), 0.018 * tall, green, top)
    blade, leaf = (0.13 * tall, 0.03 * tall, 0.06 * tall), (0.09 * tall, 0.06 * tall, 0.03 * tall)
    for side in SIDES:
        model.ball((side * 0.12 * tall, -0.5 * tall, 0), blade, green, foot, tilt=-0.5 * side)
    for angle in np.arange(7) * 2 * np.pi / 7:
        x, y = 0.13 * tall * np.cos(angle), 0.13 * tall * np.sin(angle)
        model.ball((x, -0.9 * tall + y, -0.01), leaf, petal, top, tilt=angle)
    model.ball((0, -0.9 * tall, -0.02), (0.075 * tall, 0.075 * tall, 0.05 * tall), heart, top)
    return ObjectSpec(model, "flower", name, "plant", height_m=1.1 * tall)


def lamp(rng: Random) -> ObjectSpec:
    name, colour = rng.named_colour()
    tall = rng.uniform(0.4, 1.6)
    shade = rng.material("plain", *shades(colour, 1.0, 0.85), tile_m=tall, grain=0.15)
    metal = rng.material("plain", (0.55, 0.5, 0.4), (0.4, 0.38, 0.35), tile_m=tall, gloss=0.6)
    model = Model()
    model.cone((0, 0, 0), (0, -0.04 * tall, 0), 0.18 * tall, 0.15 * tall, metal)
    model.limb((0, -0.04 * tall, 0), (0, -0.7 * tall, 0), 0.025 * tall, metal)
    model.cone((0, -0.66 * tall, 0), (0, -tall, 0), 0.26 * tall, 0.14 * tall, shade)
    return ObjectSpec(model, "lamp", name, "thing", height_m=tall)


def chair(rng: Random) -> ObjectSpec:
    name, colour = rng.named_colour()
    wood = rng.material("wood", *shades(colour, 0.7, 1.0), tile_m=0.5)
    cloth = surface_material(rng, colour, rng.contrast(name), 0.4)
    seat, half = rng.uniform(0.4, 0.5), rng.uniform(0.2, 0.26)
    model = Model()
    model.box((0, -seat, 0), (half, 0.035, half), cloth)
    for x, z in product(SIDES, SIDES):
        model.box((x * half * 0.9, -seat / 2, z * half * 0.9), (0.022, seat / 2, 0.022), wood)
    model.box((-half * 0.95, -seat - 0.28, 0), (0.025, 0.28, half), cloth)
    return ObjectSpec(model, "chair", name, "thing", height_m=seat + 0.56)


def vase(rng: Random) -> ObjectSpec:
    name, colour = rng.named_colour()
    tall = rng.uniform(0.2, 0.5)
    glaze = surface_material(rng, colour, rng.contrast(name), tall, wrap="round")
    model = Model()
    model.ball((0, -0.38 * tall, 0), (0.28 * tall, 0.36 * tall, 0.28 * tall), glaze)
    model.cone((0, 0, 0), (0, -0.2 * tall, 0), 0.16 * tall, 0.24 * tall, glaze)
    model.cone((0, -0.62 * tall, 0), (0, -0.9 * tall, 0), 0.2 * tall, 0.1 * tall, glaze)
    model.cone((0, -0.88 * tall, 0), (0, -tall, 0), 0.1 * tall, 0.17 * tall, glaze)
    return ObjectSpec(model, "vase", name, "thing", height_m=tall)


def mushroom(rng: Random) -> ObjectSpec:
    name, colour = rng.named_colour("red", "brown", "orange", "white", "purple")
    tall = rng.uniform(0.12, 0.6)
    print_on = rng.choose(("spots", "plain"))
    cap = rng.material(print_on, (0.93, 0.9, 0.85), colour, tile_m=tall * 1.3, wrap="ground")
    stem = rng.material("plain", (0.9, 0.86, 0.78), (0.75, 0.7, 0.6), tile_m=tall)
    model = Model()
    model.cone((0, 0, 0), (0, -0.7 * tall, 0), 0.18 * tall, 0.11 * tall, stem)
    model.ball((0, -0.68 * tall, 0), (0.45 * tall, 0.32 * tall, 0.45 * tall), cap)
    return ObjectSpec(model, "mushroom", name, "thing", height_m=tall)


def snowman(rng: Random) -> ObjectSpec:
    tall = rng.uniform(0.6, 1.8)
    snow = rng.material("plain", (0.93, 0.94, 0.96), (0.8, 0.83, 0.88), tile_m=tall, grain=0.1)
    coal = rng.material("plain", (0.08, 0.08, 0.08), (0.15, 0.15, 0.15), tile_m=1.0)
    carrot = rng.material("plain", (0.95, 0.5, 0.1), (0.8, 0.4, 0.1), tile_m=1.0)
    first, second = rng.contrast("white"), rng.contrast("white")
    scarf = rng.material("plaid", first, second, tile_m=tall * 0.3)
    model = Model()
    for height, radius in ((0.24, 0.26), (0.57, 0.19), (0.82, 0.13)):
        model.ball((0, -height * tall, 0), (radius * tall, radius * tall, radius * tall), snow)
    model.cone((0, -0.69 * tall, 0), (0, -0.74 * tall, 0), 0.14 * tall, 0.13 * tall, scarf)
    model.cone((0.12 * tall, -0.82 * tall, 0), (0.28 * tall, -0.81 * tall, 0), 0.03 * tall, 0.004, carrot)
    for z in (-0.05, 0.05):
        model.ball((0.115 * tall, -0.87 * tall, z * tall), (0.015 * tall, 0.02 * tall, 0.02 * tall), coal)
    model.cone((0, -0.92 * tall, 0), (0, -0.94 * tall, 0), 0.15 * tall, 0.15 * tall, coal)
    model.cone((0, -0.94 * tall, 0), (0, -1.06 * tall, 0), 0.09 * tall, 0.09 * tall, coal)
    return ObjectSpec(model, "snowman", "white", "thing", height_m=1.06 * tall)


def rocket(rng: Random) -> ObjectSpec:
    name, colour = rng.named_colour()
    tall = rng.uniform(0.6, 3.0)
    print_on = rng.choose(("plain", "stripes", "checks"))
    hull = rng.material(print_on, (0.9, 0.9, 0.9), colour, tile_m=tall * 0.6, wrap="round", gloss=0.4)
    paint = rng.material("plain", *shades(colour, 1.0, 0.8), tile_m=tall, gloss=0.4)
    lift = rng.uniform(0.2, 0.9) * tall
    model = Model()
    model.cone((0, -lift - 0.1 * tall, 0), (0, -lift - 0.65 * tall, 0), 0.13 * tall, 0.13 * tall, hull)
    model.cone((0, -lift - 0.65 * tall, 0), (0, -lift - tall, 0), 0.13 * tall, 0.01, paint)
    model.cone((0, -lift, 0), (0, -lift - 0.1 * tall, 0), 0.1 * tall, 0.07 * tall, paint)
    for x, z in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        size = (0.09 * tall if x else 0.012 * tall, 0.11 * tall, 0.09 * tall if z else 0.012 * tall)
        model.box((x * 0.18 * tall, -lift - 0.15 * tall, z * 0.18 * tall), size, paint)
    return ObjectSpec(model, "rocket", name, "floater", height_m=lift + tall)
