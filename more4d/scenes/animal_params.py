"""Proportions of four-legged animals, in units of their shoulder height."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class AnimalParams:
    """One kind of animal.

    Attributes:
        noun: its name.
        shoulder_m: height of the back in metres, least and most.
        length: half length of the trunk.
        girth: half height of the trunk.
        neck: length of the neck.
        rise: angle of the neck above the horizontal, radians.
        head: half length of the head.
        snout: length of the snout.
        leg: radius of a leg.
        tail: length of the tail.
        ear: half height of an ear.
        colours: names it comes in.
        coat: texture of its coat.
        extra: what else it has: mane, humps, horns, trunk, wool or nothing.
    """

    noun: str
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
    coat: str = "fur"
    extra: str = ""


def _animal(noun: str, sizes: str, colours: str, *, coat: str = "fur", extra: str = "") -> AnimalParams:
    """Read a row: shoulder from and to, length, girth, neck, rise, head, snout, leg, tail, ear."""
    low, high, length, girth, neck, rise, head, snout, leg, tail, ear = map(float, sizes.split())
    return AnimalParams(
        noun=noun,
        shoulder_m=(low, high),
        length=length,
        girth=girth,
        neck=neck,
        rise=rise,
        head=head,
        snout=snout,
        leg=leg,
        tail=tail,
        ear=ear,
        colours=tuple(colours.split()),
        coat=coat,
        extra=extra,
    )


ANIMALS = (
    _animal("bear", "0.9 1.3  0.62 0.33  0.22 0.25  0.20 0.16  0.120  0.06 0.060", "brown brown black white"),
    _animal("bear", "0.9 1.3  0.58 0.36  0.20 0.10  0.21 0.15  0.130  0.06 0.060", "brown brown black beige"),
    _animal(
        "dog", "0.40 0.65  0.55 0.20  0.25 0.80  0.17 0.20  0.065  0.45 0.10", "brown black white beige grey"
    ),
    _animal(
        "dog", "0.35 0.60  0.60 0.22  0.22 0.70  0.18 0.18  0.070  0.40 0.12", "white brown", coat="patches"
    ),
    _animal("cat", "0.22 0.32  0.62 0.22  0.18 0.70  0.20 0.08  0.055  0.70 0.09", "orange grey black white"),
    _animal(
        "cat", "0.22 0.32  0.62 0.22  0.18 0.70  0.20 0.08  0.055  0.70 0.09", "orange grey", coat="zebra"
    ),
    _animal(
        "horse",
        "1.3 1.7  0.50 0.20  0.50 0.85  0.14 0.24  0.052  0.50 0.06",
        "brown black white grey",
        extra="mane",
    ),
    _animal(
        "zebra",
        "1.2 1.4  0.50 0.21  0.42 0.80  0.14 0.22  0.052  0.40 0.07",
        "white",
        coat="zebra",
        extra="mane",
    ),
    _animal(
        "camel", "1.6 1.9  0.45 0.20  0.50 0.70  0.11 0.15  0.048  0.25 0.035", "beige brown", extra="humps"
    ),
    _animal(
        "cow",
        "1.2 1.5  0.60 0.25  0.25 0.45  0.17 0.17  0.065  0.50 0.07",
        "white",
        coat="patches",
        extra="horns",
    ),
    _animal(
        "cow", "1.2 1.5  0.60 0.25  0.25 0.45  0.17 0.17  0.065  0.50 0.07", "brown black", extra="horns"
    ),
    _animal(
        "sheep", "0.6 0.8  0.52 0.27  0.20 0.60  0.17 0.14  0.055  0.10 0.07", "white grey", extra="wool"
    ),
    _animal(
        "goat",
        "0.6 0.8  0.50 0.21  0.28 0.80  0.16 0.16  0.050  0.12 0.08",
        "white brown black",
        extra="horns",
    ),
    _animal(
        "pig", "0.5 0.8  0.68 0.31  0.12 0.20  0.21 0.15  0.080  0.12 0.08", "pink pink black", coat="plain"
    ),
    _animal("elephant", "2.4 3.0  0.50 0.28  0.16 0.30  0.20 0.08  0.110  0.30 0.17", "grey", extra="trunk"),
    _animal("giraffe", "2.4 2.9  0.40 0.18  0.85 1.05  0.08 0.11  0.040  0.30 0.04", "beige", coat="mesh"),
    _animal("fox", "0.35 0.45  0.62 0.19  0.22 0.60  0.17 0.20  0.050  0.75 0.11", "orange"),
    _animal("wolf", "0.7 0.85  0.58 0.20  0.25 0.55  0.17 0.20  0.060  0.45 0.09", "grey white black"),
    _animal(
        "leopard",
        "0.6 0.75  0.68 0.20  0.24 0.50  0.17 0.11  0.065  0.80 0.05",
        "yellow orange",
        coat="spots",
    ),
    _animal(
        "deer", "0.9 1.2  0.50 0.18  0.40 0.95  0.13 0.17  0.042  0.12 0.09", "brown beige", extra="horns"
    ),
    _animal(
        "donkey", "0.9 1.2  0.52 0.21  0.36 0.80  0.16 0.20  0.055  0.40 0.15", "grey brown", extra="mane"
    ),
)
