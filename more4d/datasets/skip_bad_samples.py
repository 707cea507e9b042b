"""Replaces unreadable samples, and reports each one with the batch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from more4d.foundation.config import derive_seed
from more4d.foundation.errors import InputError

INDEX_RANGE = 2**31
"""Replacements are sampled from the indices below it; training data takes any index (`training.task.Task`).
"""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A sample or a batch, with the errors of the samples it replaces.

    Attributes:
        content: the sample or batch; None if a bad sample has no replacement.
        bad: a line per bad sample: its index and the reason.
    """

    content: Any
    bad: tuple[str, ...] = ()


class SkipBadSamples(Dataset):
    """A map-style data set that replaces samples that raise InputError (and no other error).

    The replacement is a function of (seed, index, attempt) and the batch: a random sample whose shape fits;
    after `attempts` of them, a copy of a good sample of the same batch.

    Args:
        dataset: takes any index below INDEX_RANGE.
        seed: of the replacements.
        attempts: number of samples tried as replacement of a bad one.
    """

    def __init__(self, dataset: Dataset, seed: int, *, attempts: int = 8) -> None:
        self._dataset, self._seed, self._attempts = dataset, seed, attempts

    def __getitems__(self, indices: Sequence[int]) -> list[Loaded]:
        """The samples of one batch, in order; data loaders call this if it is defined.

        The content is None if there is no replacement: an error raised in a worker would reach the training
        process as a traceback.
        """
        tried = [self._try(index) for index in indices]
        good = [one for one in tried if one.content is not None]
        whole = []
        for index, one in zip(indices, tried, strict=True):
            loaded = one if one.content is not None else self._substitute(index, one.bad, good)
            if loaded.content is not None and not good:
                good = [loaded]  # a batch of bad samples takes its shape from the first replacement
            whole.append(loaded)
        return whole

    def _try(self, index: int) -> Loaded:
        try:
            return Loaded(content=self._dataset[index])
        except InputError as error:
            return Loaded(content=None, bad=(f"sample {index}: {' '.join(str(error).split())}",))

    def _substitute(self, index: int, bad: tuple[str, ...], good: Sequence[Loaded]) -> Loaded:
        for attempt in range(self._attempts):
            other = self._try(derive_seed("stand-in", self._seed, index, attempt) % INDEX_RANGE)
            bad += other.bad
            if other.content is not None and (not good or _shapes(other) == _shapes(good[0])):
                return Loaded(content=other.content, bad=bad)
        place = derive_seed("stand-in", self._seed, index, "same batch")
        return Loaded(content=good[place % len(good)].content if good else None, bad=bad)


def good_samples(dataset: Any, count: int) -> Iterator[Any]:
    """The first `count` usable samples of a map-style data set.

    Raises:
        InputError: more than `count` samples are bad; the last one's message.
    """
    good = bad = 0
    while good < count:
        try:
            sample = dataset[good + bad]
        except InputError:
            bad += 1
            if bad > count:
                raise
        else:
            good += 1
            yield sample


def collate_loaded(collate: Callable[[list[Any]], Any], samples: list[Loaded]) -> Loaded:
    """The results of `SkipBadSamples` as a batch; `collate` joins the samples."""
    contents = [sample.content for sample in samples]
    whole = all(content is not None for content in contents)
    bad = tuple(line for sample in samples for line in sample.bad)
    return Loaded(content=collate(contents) if whole else None, bad=bad)


def _shapes(loaded: Loaded) -> dict[str, tuple[int, ...]]:
    """The shapes that must be equal for samples to be joined: all axes of their tensors but the first."""
    values = vars(loaded.content).items()
    return {name: tuple(value.shape[1:]) for name, value in values if isinstance(value, Tensor)}
