"""What the things of a procedural scene are and do, as numbers per pixel: hints that training can give."""

import torch
from jaxtyping import Int
from torch import Tensor

from more4d.scenes.held_out import COLOURS as COLOURS_KEPT
from more4d.scenes.held_out import MOTIONS as MOTIONS_KEPT
from more4d.scenes.palette import NAMED
from more4d.scenes.scene import Action, Scene

NOTHING, UNKNOWN = 0, -1
NOUNS = tuple(sorted({*COLOURS_KEPT, *MOTIONS_KEPT, "cactus", "fir tree"}))
COLOURS = tuple(NAMED)
WAYS = ("none", "left", "right", "up", "down", "toward", "away")
STILL = "still"
VERBS = tuple(
    "bounce circle drive flap float fly greet jump move nod reverse rock roll run spin still sway walk wave"
    .split()
)  # fmt: skip
WORDS = (NOUNS, COLOURS, VERBS, WAYS)
"""What is told of each pixel: noun and colour of what it shows, which verb, which way."""


def kinds_of(scene: Scene, object_ids: Int[Tensor, "height width"]) -> Int[Tensor, "1 4 height width"]:
    """Noun, colour, verb and way of what each pixel shows: 0 for scenery, then places in `WORDS` plus one;
    -1 for a word that is not there.
    """
    told = {action.object_id: action for action in scene.actions}
    table = torch.zeros(4, max(int(object_ids.max()), *(body.object_id for body in scene.bodies)) + 1)
    for body in scene.bodies:
        if body.object_id:
            verb, way = _deed(told.get(body.object_id))
            for row, word in enumerate((body.noun, body.colour, verb, way)):
                words = WORDS[row]
                table[row, body.object_id] = words.index(word) + 1 if word in words else UNKNOWN
    return table[:, object_ids.long()][None].long()


def _deed(action: Action | None) -> tuple[str, str]:
    return (STILL, "none") if action is None else (action.verb, action.direction or "none")
