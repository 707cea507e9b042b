"""Which of the things in a photo a prompt names: as many move as it says, and no others.

The text grounding head gives every cell of a coarse grid the probability that the prompt lets it move. It
often finds two things alike where one is meant, and then both move. Here cells are put together to things,
and of as many things as the prompt has clauses the best stay; the others become scenery:

1. Cells that may move and lie side by side are one thing.
2. A thing is as good as the mean of its cells; one of a few cells a little less.
3. "The left one", "the big one" choose among those that are nearly as good as the best.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import interpolate

from more4d.networks.strag import UNDECIDED

LEAST_PROBABILITY = 0.3
DOUBT = 1
"""Cells of probability 0 that are added to every thing, so that a single cell is not the best thing."""
ALIKE = 0.5
"""Of the score of the best: things that words of position may choose among."""


def choose_named(
    moving: Float[Tensor, "rows columns"],
    depth_m: Float[Tensor, "height width"],
    count: int,
    where: Sequence[str] = (),
) -> Float[Tensor, "1 1 rows columns"] | None:
    """The focus on the `count` things that are meant; None where there are no more than these.

    Args:
        moving: probability of each cell that the prompt lets it move.
        depth_m: of the photo, at any size.
        count: things that the prompt names.
        where: words of position that say which, keys of `rank`.

    Returns:
        For `STraGConditions`: 0 on things that are not meant, else `UNDECIDED`.
    """
    from scipy.ndimage import label

    probability = moving.numpy()
    labels, found = label(probability > LEAST_PROBABILITY)
    if found <= count:
        return None
    numbers = range(1, found + 1)
    scores = {n: probability[labels == n].sum() / ((labels == n).sum() + DOUBT) for n in numbers}
    best = sorted(numbers, key=lambda number: -scores[number])
    if where:
        alike = [number for number in best if scores[number] >= ALIKE * scores[best[0]]]
        small_m = interpolate(depth_m[None, None].float(), moving.shape, mode="nearest-exact")[0, 0].numpy()
        by_place = choose_by_place([labels == number for number in alike], where, small_m)
        best = [alike[index] for index in by_place]
    others = (labels > 0) & ~np.isin(labels, best[:count])
    return torch.where(torch.from_numpy(others), 0.0, UNDECIDED)[None, None]


def choose_by_place(
    things: Sequence[Bool[ndarray, "rows columns"]],
    where: Sequence[str],
    depth_m: Float[ndarray, "rows columns"],
) -> list[int]:
    """Indices of the things that words of position mean, the best first."""
    left = list(range(len(things)))
    # Each word halves what is left, so that "the big one on the left" works in any order.
    for word in where:
        left.sort(key=lambda index: rank(things[index], word, depth_m))
        left = left[: max(1, len(left) // 2)]
    return left


def rank(thing: Bool[ndarray, "rows columns"], word: str, depth_m: Float[ndarray, "rows columns"]) -> float:
    """How little a word of position fits a thing; to be compared with that of others."""
    rows, columns = (places.mean() for places in np.nonzero(thing))
    middle = abs(columns / thing.shape[1] - 0.5) + abs(rows / thing.shape[0] - 0.5)
    far, share = float(np.median(depth_m[thing])), float(thing.mean())
    ranks = {"left": columns, "right": -columns, "middle": middle, "front": far, "back": -far}
    return {**ranks, "big": -share, "small": share}[word]
