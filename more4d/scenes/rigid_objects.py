"""Things without a will: balls, boxes, barrels, balloons, trees, flags and the like."""

import numpy as np

from more4d.scenes.modelling import ALONG, Model, shift, stretch
from more4d.scenes.object_spec import ObjectSpec
from more4d.scenes.palette import NAMED_COLOURS, jitter_colour, material, scale_colour
from more4d.scenes.textures import Colour, Material

Random = np.random.Generator


def pick_colour(rng: Random, *names: str) -> tuple[str, Colour]:
    """A named colour, slightly varied; from `names` if given."""
    name = str(rng.choice(names or tuple(NAMED_COLOURS)))
    return name, jitter_colour(rng, NAMED_COLOURS[name])


def contrast_colour(rng: Random, name: str) -> Colour:
    """A colour other than the named one."""
    others = [other for other in NAMED_COLOURS if other != name]
    return jitter_colour(rng, NAMED_COLOURS[str(rng.choice(others))])


def surface_material(
    rng: Random, colour: Colour, second: Colour, size: float, *, wrap: str = "box"
) -> Material:
    """A painted or printed surface: plain, or with a bold pattern."""
    pattern = str(
        rng.choice(("plain", "plain", "stripes", "checks", "spots", "patches", "plaid", "marble", "rust"))
    )
    second = scale_colour(colour, 0.75) if pattern in ("plain", "rust", "marble") else second
    return material(
        rng, pattern, colour, second, tile_m=size, gloss=float(rng.choice((0.0, 0.2, 0.5))), wrap=wrap
    )


def ball(rng: Random) -> ObjectSpec:
    name, colour = pick_colour(rng)
    radius = float(rng.uniform(0.12, 0.5))
    model = Model()
    coat = surface_material(rng, colour, contrast_colour(rng, name), 2.2 * radius)
    model.ball((0, -radius, 0), (radius, radius, radius), coat)
    noun = str(rng.choice(("ball", "ball", "sphere")))
    return ObjectSpec(
        model=model, noun=noun, colour=name, category="ball", height_m=2 * radius, radius_m=radius
    )


def box(rng: Random) -> ObjectSpec:
    name, colour = pick_colour(rng)
    half = rng.uniform(0.15, 0.45, 3)
    model = Model()
    coat = surface_material(rng, colour, contrast_colour(rng, name), 1.2 * float(half.max()))
    model.box((0, -half[1], 0), (half[0], half[1], half[2]), coat)
    noun = "cube" if np.ptp(half) < 0.06 else "box"
    return ObjectSpec(model=model, noun=noun, colour=name, category="thing", height_m=2 * float(half[1]))


def crate(rng: Random) -> ObjectSpec:
    half = float(rng.uniform(0.25, 0.5))
    wood = jitter_colour(rng, NAMED_COLOURS["brown"])
    board = material(
        rng, "planks", scale_colour(wood, 0.6), scale_colour(wood, 1.5), tile_m=half * 2, grain=0.5
    )
    frame = material(rng, "wood", scale_colour(wood, 0.8), scale_colour(wood, 1.1), tile_m=half)
    model = Model()
    model.box((0, -half, 0), (half * 0.95, half * 0.95, half * 0.95), board)
    thin = half * 0.12
    for x in (-1, 1):
        for z in (-1, 1):
            model.box((x * half * 0.9, -half, z * half * 0.9), (thin, half, thin), frame)
    for y in (thin, 2 * half - thin):
        for z in (-1, 1):
            model.box((0, -y, z * half * 0.9), (half, thin, thin), frame)
    return ObjectSpec(model=model, noun="crate", colour="brown", category="thing", height_m=2 * half)


def barrel(rng: Random) -> ObjectSpec:
    name, colour = pick_colour(rng)
    radius, height = float(rng.uniform(0.22, 0.35)), float(rng.uniform(0.7, 1.0))
    coat = material(rng, "rust", colour, scale_colour(colour, 0.5), tile_m=1.0, wrap="round", gloss=0.3)
    rim = material(
        rng, "plain", scale_colour(colour, 0.6), scale_colour(colour, 0.5), tile_m=0.5, wrap="round"
    )
    model = Model()
    model.cone((0, 0, 0), (0, -height, 0), radius, radius, coat)
    for level in (0.04, 0.35, 0.65, 0.96):
        middle = -height * level
        model.cone((0, middle + 0.02, 0), (0, middle - 0.02, 0), radius * 1.05, radius * 1.05, rim)
    return ObjectSpec(model=model, noun="barrel", colour=name, category="thing", height_m=height)


def balloon(rng: Random) -> ObjectSpec:
    name, colour = pick_colour(rng)
    radius, lift = float(rng.uniform(0.18, 0.35)), float(rng.uniform(0.6, 1.6))
    coat = material(rng, "plain", colour, scale_colour(colour, 0.8), tile_m=1.0, grain=0.1, gloss=0.7)
    string = material(rng, "plain", (0.8, 0.8, 0.8), (0.6, 0.6, 0.6), tile_m=1.0)
    model = Model()
    model.ball((0, -lift - radius * 1.2, 0), (radius, radius * 1.2, radius), coat)
    model.cone((0, -lift + 0.05, 0), (0, -lift - 0.02, 0), 0.05, 0.015, coat)
    model.limb((0, -lift + 0.5, 0), (0, -lift, 0), 0.008, string)
    return ObjectSpec(
        model=model, noun="balloon", colour=name, category="floater", height_m=lift + 2.4 * radius
    )


def tree(rng: Random) -> ObjectSpec:
    height = float(rng.uniform(2.0, 5.0))
    bark = jitter_colour(rng, NAMED_COLOURS["brown"])
    name, leaf = pick_colour(rng, "green", "green", "green", "orange", "yellow")
    wood = material(rng, "wood", scale_colour(bark, 0.6), bark, tile_m=0.8, wrap="round", grain=0.6)
    leaves = material(
        rng,
        "foliage",
        scale_colour(leaf, 0.45),
        scale_colour(leaf, 1.15),
        tile_m=1.4,
        grain=0.7,
        wrap="round",
    )
    model = Model()
    foot = model.hinge("sway", (0, 0, 0), ALONG)
    lean = model.hinge("sway", (0, -0.35 * height, 0), ALONG, parent=foot)
    trunk = float(rng.uniform(0.06, 0.12)) * height / 3
    model.cone((0, 0, 0), (0, -0.4 * height, 0), trunk * 1.4, trunk, wood, joint=foot)
    model.cone((0, -0.38 * height, 0), (0, -0.75 * height, 0), trunk, trunk * 0.6, wood, joint=lean)
    if rng.random() < 0.4:
        for level in range(4):
            low, wide = 0.3 + 0.16 * level, 0.26 - 0.05 * level
            start, end = (0.0, -low * height, 0.0), (0.0, -(low + 0.27) * height, 0.0)
            model.cone(start, end, wide * height, 0.01, leaves, joint=foot if level == 0 else lean)
        return ObjectSpec(model=model, noun="fir tree", colour=name, category="plant", height_m=height)
    for _ in range(int(rng.integers(3, 7))):
        x, z = rng.normal(0, 0.13, 2) * height
        y, size = rng.uniform(0.6, 0.85) * height, rng.uniform(0.14, 0.24) * height
        model.ball((x, -y, z), (size, size * 0.8, size), leaves, lean)
    return ObjectSpec(model=model, noun="tree", colour=name, category="plant", height_m=height)


def flag(rng: Random) -> ObjectSpec:
    name, colour = pick_colour(rng)
    height = float(rng.uniform(1.6, 3.0))
    wide, tall = height * float(rng.uniform(0.2, 0.32)), height * float(rng.uniform(0.12, 0.2))
    cloth = surface_material(rng, colour, contrast_colour(rng, name), 1.5 * tall)
    pole = material(rng, "plain", (0.75, 0.75, 0.75), (0.5, 0.5, 0.5), tile_m=1.0, gloss=0.4, wrap="round")
    model = Model()
    model.cone((0, 0, 0), (0, -height, 0), 0.035, 0.025, pole)
    model.ball((0, -height, 0), (0.05, 0.05, 0.05), pole)
    rest = shift((wide, -height + tall * 1.1, 0)) @ stretch((wide, tall, float(rng.uniform(0.3, 0.5)) * tall))
    phase = float(rng.uniform(0, 6.28))
    model.sheet(
        rest, cloth, -1, waves=float(rng.uniform(0.7, 1.3)), lean=float(rng.uniform(-0.5, 0.5)), phase=phase
    )
    return ObjectSpec(model=model, noun="flag", colour=name, category="flag", height_m=height)
