"""What the things of a procedural scene are, as numbers per pixel: a hint that training can give."""

import torch
from jaxtyping import Int
from torch import Tensor

from more4d.scenes.held_out import COLOURS as COLOURS_KEPT
from more4d.scenes.held_out import MOTIONS as MOTIONS_KEPT
from more4d.scenes.palette import NAMED
from more4d.scenes.scene import Scene

NOTHING, UNKNOWN = 0, -1
NOUNS = tuple(sorted({*COLOURS_KEPT, *MOTIONS_KEPT, "cactus", "fir tree"}))
COLOURS = tuple(NAMED)


def kinds_of(scene: Scene, object_ids: Int[Tensor, "height width"]) -> Int[Tensor, "1 2 height width"]:
    """Noun and colour of what each pixel shows: 0 for scenery, then places in `NOUNS` and `COLOURS` plus one;
    -1 for a word that is in neither.
    """
    table = torch.zeros(2, max(int(object_ids.max()), *(body.object_id for body in scene.bodies)) + 1)
    for body in scene.bodies:
        if body.object_id:
            table[0, body.object_id] = NOUNS.index(body.noun) + 1 if body.noun in NOUNS else UNKNOWN
            table[1, body.object_id] = COLOURS.index(body.colour) + 1 if body.colour in COLOURS else UNKNOWN
    return table[:, object_ids.long()][None].long()
