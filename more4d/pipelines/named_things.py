"""Which of the things in a photo a prompt names: as many move as it says, and no others.

The text grounding head gives every cell of a coarse grid the probability that the prompt lets it move. It
often finds two things alike where one is meant, and then both move. Here cells are put together to things,
and of as many things as the prompt has clauses the best stay; the others become scenery:

1. Cells that may move and lie side by side without a step of depth are one thing.
2. A thing is as good as the mean of its cells; of things of a few cells a little less.
3. "The left one", "the big one" choose among those that are nearly as good as the best.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn.functional import interpolate

from more4d.geometry.label_maps import with_rim
from more4d.networks.strag import UNDECIDED

FINER = 2
"""Parts of a cell's side: depth is compared on a grid that is finer than that of the probabilities."""
LEAST_PROBABILITY = 0.3
STEP = 0.15
"""Of log depth, between neighbours on the finer grid: where it is larger one thing ends."""
DOUBT = 4
"""Finer cells of probability 0 that are added to every thing: two cells alone are not the best thing."""
ALIKE = 0.5
"""Of the score of the best: things that words of position may choose among."""
RIM = 1.5
"""How far a thing reaches beyond its cells, in cells: their outline is coarse."""


@dataclass(frozen=True)
class Choice:
    """What may move.

    Attributes:
        focus: for `STraGConditions`: 0 on things that are not meant, else `UNDECIDED`.
        reach: where the things that are meant may lie.
    """

    focus: Float[Tensor, "1 1 rows columns"]
    reach: Bool[Tensor, "height width"]


def choose_named(
    moving: Float[Tensor, "rows columns"],
    depth_m: Float[Tensor, "height width"],
    count: int,
    where: Sequence[str] = (),
) -> Choice | None:
    """The `count` things that are meant; None where there are no more than these.

    Args:
        moving: probability of each cell that the prompt lets it move.
        depth_m: of the photo, at any size.
        count: things that the prompt names.
        where: words of position that say which, keys of `ranks`.
    """
    fine = (FINER * moving.shape[0], FINER * moving.shape[1])
    probability = moving.repeat_interleave(FINER, 0).repeat_interleave(FINER, 1).numpy()
    small_m = interpolate(depth_m[None, None].float(), fine, mode="area")[0, 0]
    labels = things_of(probability > LEAST_PROBABILITY, small_m.log().numpy())
    numbers = range(1, labels.max() + 1)
    if len(numbers) <= count:
        return None
    scores = {n: probability[labels == n].sum() / ((labels == n).sum() + DOUBT) for n in numbers}
    best = sorted(numbers, key=lambda number: -scores[number])
    if where:
        alike = [number for number in best if scores[number] >= ALIKE * scores[best[0]]]
        by_place = choose_by_place([labels == number for number in alike], where, small_m.numpy())
        best = [alike[index] for index in by_place]
    meant = np.isin(labels, best[:count])
    others = (labels > 0) & ~meant
    # A cell is given to others only as a whole: part of it may be of what is meant.
    rows, columns = moving.shape
    whole = others.reshape(rows, FINER, columns, FINER).all((1, 3))
    focus = torch.where(torch.from_numpy(whole), 0.0, UNDECIDED)[None, None]
    kinds = with_rim(np.where(meant, 1, np.where(others, 2, 0)), round(RIM * FINER)) == 1
    reach = interpolate(torch.from_numpy(kinds)[None, None].float(), depth_m.shape, mode="nearest-exact")
    return Choice(focus, reach[0, 0] > 0)


def things_of(mask: Bool[ndarray, "rows columns"], log_depth: Float[ndarray, "rows columns"]) -> ndarray:
    """The number of the thing at every place of the mask, from 1; 0 outside."""
    places = np.arange(mask.size).reshape(mask.shape)
    pairs = []
    for one, other in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        joined = mask[one] & mask[other] & (abs(log_depth[one] - log_depth[other]) < STEP)
        pairs.append(np.stack([places[one][joined], places[other][joined]]))
    rows, columns = np.concatenate(pairs, 1)
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(mask.size,) * 2)
    pieces = connected_components(graph, directed=False)[1].reshape(mask.shape)
    labels = np.zeros(mask.shape, np.int64)
    labels[mask] = np.unique(pieces[mask], return_inverse=True)[1] + 1
    return labels


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
