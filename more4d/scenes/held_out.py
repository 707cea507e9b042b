"""The held-out set: scenes from a seed on, and one colour and one motion per object.

In training scenes an object is sampled again as long as it has its colour in `HELD_OUT_COLOURS`, and its
motion as long as it is the one in `HELD_OUT_MOTIONS`. Scenes from `HELD_OUT_SEED` on are sampled freely: some
of them show combinations never trained on, such as purple balloons and jumping bears. Every colour and every
motion is trained with other objects, so only the combination is new.
"""

import re

from more4d.scenes.scene import Action

HELD_OUT_SEED = 10_000_000
"""First scene seed that is held out from training."""

TABLE = """
ball             orange     roll away
balloon          purple     float left
barrel           black      move right
bear             white      jump
bird             red        fly up
box              pink       move toward
boy              red        jump
bus              green      drive away
camel            -          walk away
car              turquoise  reverse left
cart             blue       drive toward
cat              black      walk away
chair            beige      move left
chicken          white      walk away
cow              brown      nod
crate            -          move up
cube             red        -
deer             -          walk left
dog              beige      jump
donkey           -          nod
duck             white      walk left
elephant         -          walk away
flag             brown      -
flamingo         -          walk away
flower           white      -
fox              -          walk left
giraffe          -          walk right
girl             blue       circle
goat             brown      walk away
horse            black      jump
hot-air balloon  black      float toward
lamp             turquoise  move away
leopard          -          walk right
man              green      walk away
mushroom         orange     move left
ostrich          -          walk right
penguin          -          walk right
pig              -          walk toward
robot            orange     walk toward
rocket           blue       float right
sheep            -          nod
snowman          -          move away
sphere           white      roll left
toy figure       white      spin
train            red        reverse right
tree             yellow     -
truck            yellow     reverse toward
vase             grey       spin
wolf             white      walk left
woman            yellow     walk toward
zebra            -          walk away
"""
"""Noun, colour and motion; "-" where there is a single one (plants and flags have one motion)."""
ROWS = [re.split("  +", row) for row in TABLE.strip().splitlines()]
HELD_OUT_COLOURS: dict[str, str] = {noun: colour for noun, colour, _ in ROWS if colour != "-"}
"""Colour held out from training, by noun."""
HELD_OUT_MOTIONS: dict[str, tuple[str, str | None]] = {
    noun: tuple([*motion.split(), None][:2]) for noun, _, motion in ROWS if motion != "-"
}
"""Verb and direction held out from training, by noun."""


def is_held_out_colour(noun: str, colour: str) -> bool:
    """Whether this colour of the object is held out."""
    return HELD_OUT_COLOURS.get(noun) == colour


def is_held_out_motion(noun: str, verb: str, direction: str | None) -> bool:
    """Whether this motion of the object is held out."""
    return HELD_OUT_MOTIONS.get(noun) == (verb, direction)


def is_held_out(action: Action) -> bool:
    """Whether the object moves with a held-out colour or motion."""
    moved = is_held_out_motion(action.noun, action.verb, action.direction)
    return action.verb != "still" and (moved or is_held_out_colour(action.noun, action.colour))
