"""What the things of a procedural scene are and do, as numbers per pixel: hints that training can give."""

import torch
from jaxtyping import Int
from torch import Tensor

from more4d.scenes.held_out import HELD_OUT_COLOURS as HELD_OUT_COLOURS
from more4d.scenes.held_out import HELD_OUT_MOTIONS as HELD_OUT_MOTIONS
from more4d.scenes.palette import NAMED_COLOURS
from more4d.scenes.scene import Action, Scene

BACKGROUND, IGNORE_INDEX = 0, -1
NOUNS = tuple(sorted({*HELD_OUT_COLOURS, *HELD_OUT_MOTIONS, "cactus", "fir tree"}))
COLOURS = tuple(NAMED_COLOURS)
DIRECTIONS = ("none", "left", "right", "up", "down", "toward", "away")
STILL = "still"
VERBS = tuple(
    "bounce circle drive flap float fly greet jump move nod reverse rock roll run spin still sway walk wave"
    .split()
)  # fmt: skip
VOCABULARIES = (NOUNS, COLOURS, VERBS, DIRECTIONS)
"""What is told of each pixel: noun and colour of what it shows, which verb, which direction."""


def label_map(scene: Scene, object_ids: Int[Tensor, "height width"]) -> Int[Tensor, "1 4 height width"]:
    """Noun, colour, verb and direction of what each pixel shows: 0 for scenery, then places in `VOCABULARIES` plus one;
    -1 for a word that is not there.
    """
    actions = {action.object_id: action for action in scene.actions}
    table = torch.zeros(4, max(int(object_ids.max()), *(body.object_id for body in scene.bodies)) + 1)
    for body in scene.bodies:
        if body.object_id:
            verb, direction = _verb_and_direction(actions.get(body.object_id))
            for row, word in enumerate((body.noun, body.colour, verb, direction)):
                words = VOCABULARIES[row]
                table[row, body.object_id] = words.index(word) + 1 if word in words else IGNORE_INDEX
    return table[:, object_ids.long()][None].long()


def _verb_and_direction(action: Action | None) -> tuple[str, str]:
    return (STILL, "none") if action is None else (action.verb, action.direction or "none")
