"""The held-out set: scenes from a seed on, and one colour and one motion per object.

In training scenes an object is sampled again as long as it has its colour in `HELD_OUT_COLOURS`, and its
motion as long as it is the one in `HELD_OUT_MOTIONS`. Scenes from `HELD_OUT_SEED` on are sampled freely: some
of them show combinations never trained on, such as purple balloons and jumping bears. Every colour and every
motion is trained with other objects, so only the combination is new.
"""

from more4d.scenes.scene import Action

HELD_OUT_SEED = 10_000_000
"""First scene seed that is held out from training."""

HELD_OUT_COLOURS: dict[str, str] = {
    "ball": "orange",
    "balloon": "purple",
    "barrel": "black",
    "bear": "white",
    "bird": "red",
    "box": "pink",
    "boy": "red",
    "bus": "green",
    "car": "turquoise",
    "cart": "blue",
    "cat": "black",
    "chair": "beige",
    "chicken": "white",
    "cow": "brown",
    "cube": "red",
    "dog": "beige",
    "duck": "white",
    "flag": "brown",
    "flower": "white",
    "girl": "blue",
    "goat": "brown",
    "horse": "black",
    "hot-air balloon": "black",
    "lamp": "turquoise",
    "man": "green",
    "mushroom": "orange",
    "robot": "orange",
    "rocket": "blue",
    "sphere": "white",
    "toy figure": "white",
    "train": "red",
    "tree": "yellow",
    "truck": "yellow",
    "vase": "grey",
    "wolf": "white",
    "woman": "yellow",
}
"""Colour held out from training, by noun; nouns with a single colour have none."""

HELD_OUT_MOTIONS: dict[str, tuple[str, str | None]] = {
    "ball": ("roll", "away"),
    "balloon": ("float", "left"),
    "barrel": ("move", "right"),
    "bear": ("jump", None),
    "bird": ("fly", "up"),
    "box": ("move", "toward"),
    "boy": ("jump", None),
    "bus": ("drive", "away"),
    "camel": ("walk", "away"),
    "car": ("reverse", "left"),
    "cart": ("drive", "toward"),
    "cat": ("walk", "away"),
    "chair": ("move", "left"),
    "chicken": ("walk", "away"),
    "cow": ("nod", None),
    "crate": ("move", "up"),
    "deer": ("walk", "left"),
    "dog": ("jump", None),
    "donkey": ("nod", None),
    "duck": ("walk", "left"),
    "elephant": ("walk", "away"),
    "flamingo": ("walk", "away"),
    "fox": ("walk", "left"),
    "giraffe": ("walk", "right"),
    "girl": ("circle", None),
    "goat": ("walk", "away"),
    "horse": ("jump", None),
    "hot-air balloon": ("float", "toward"),
    "lamp": ("move", "away"),
    "leopard": ("walk", "right"),
    "man": ("walk", "away"),
    "mushroom": ("move", "left"),
    "ostrich": ("walk", "right"),
    "penguin": ("walk", "right"),
    "pig": ("walk", "toward"),
    "robot": ("walk", "toward"),
    "rocket": ("float", "right"),
    "sheep": ("nod", None),
    "snowman": ("move", "away"),
    "sphere": ("roll", "left"),
    "toy figure": ("spin", None),
    "train": ("reverse", "right"),
    "truck": ("reverse", "toward"),
    "vase": ("spin", None),
    "wolf": ("walk", "left"),
    "woman": ("walk", "toward"),
    "zebra": ("walk", "away"),
}
"""Verb and direction held out from training, by noun; plants and flags have a single motion and thus none."""


def is_training_seed(seed: int) -> bool:
    """Whether the scene of this seed belongs to the training set."""
    return seed < HELD_OUT_SEED


def is_held_out_colour(noun: str, colour: str) -> bool:
    """Whether this colour of the object is held out."""
    return HELD_OUT_COLOURS.get(noun) == colour


def is_held_out_motion(noun: str, verb: str, direction: str | None) -> bool:
    """Whether this motion of the object is held out."""
    return HELD_OUT_MOTIONS.get(noun) == (verb, direction)


def is_held_out(action: Action) -> bool:
    """Whether the object moves with a held-out colour or motion."""
    if action.verb == "still":
        return False
    return is_held_out_colour(action.noun, action.colour) or is_held_out_motion(
        action.noun, action.verb, action.direction
    )
