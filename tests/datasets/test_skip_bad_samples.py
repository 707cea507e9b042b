"""Laws of samples that cannot be used."""

from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from more4d.datasets.batch import Batch
from more4d.datasets.skip_bad_samples import INDEX_RANGE, Loaded, SkipBadSamples, collate_loaded, good_samples
from more4d.foundation.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Numbers(Batch):
    value: Tensor


class Halting(Dataset):
    """Sample i is i; those in `bad` cannot be read, nor can any beyond `end`. Odd ones are longer."""

    def __init__(self, bad=(), end=INDEX_RANGE, two_lengths=False):
        self.bad, self.end, self.two_lengths = bad, end, two_lengths

    def __getitem__(self, index):
        if index in self.bad or index >= self.end:
            raise InputError(f"file-{index}.mp4 is truncated;\nget a whole copy of it")
        return Numbers(
            value=torch.full((1, 2 + (self.two_lengths and index % 2)), index, dtype=torch.float64)
        )


def loaded(dataset, batches, workers=0):
    return list(
        DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=partial(collate_loaded, Numbers.collate),
            num_workers=workers,
            multiprocessing_context="forkserver" if workers else None,
        )
    )


def values(result: Loaded) -> list[float]:
    return result.content.value[:, 0].tolist()


def test_good_samples_pass_as_they_are():
    (result,) = loaded(SkipBadSamples(Halting(), 0), [[3, 1, 2]])
    assert values(result) == [3, 1, 2] and result.bad == ()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_sample_is_replaced_and_its_reason_travels_with_the_batch(workers):
    first, second = loaded(SkipBadSamples(Halting(bad=(1,)), 0), [[0, 1], [2, 3]], workers)
    assert values(first)[0] == 0 and values(first)[1] not in (0, 1)
    assert first.bad == ("sample 1: file-1.mp4 is truncated; get a whole copy of it",)
    assert values(second) == [2, 3] and second.bad == ()


def test_the_stand_in_is_a_function_of_seed_and_index():
    halting = Halting(bad=(1, 2))
    (once,), (again,) = (values(d) for d in loaded(SkipBadSamples(halting, 0), [[1], [1]]))
    ((other_seed,),) = (values(d) for d in loaded(SkipBadSamples(halting, 5), [[1]]))
    ((other_index,),) = (values(d) for d in loaded(SkipBadSamples(halting, 0), [[2]]))
    assert once == again and len({once, other_seed, other_index}) == 3


def test_a_stand_in_has_the_shape_of_its_batch():
    tolerant = SkipBadSamples(Halting(bad=range(0, 200, 2), two_lengths=True), 0, attempts=40)
    for first in range(0, 50, 2):
        (result,) = loaded(tolerant, [[first, 201]])
        assert values(result)[0] % 2 == 1


def test_a_batch_of_bad_samples_takes_the_shape_of_its_first_stand_in():
    tolerant = SkipBadSamples(Halting(bad=range(100), two_lengths=True), 0)
    (result,) = loaded(tolerant, [list(range(16))])
    assert result.content.value.shape[0] == 16 and len(result.bad) == 16


def test_where_no_other_sample_can_be_read_one_of_the_same_batch_stands_in():
    (result,) = loaded(SkipBadSamples(Halting(bad=(1,), end=3), 0, attempts=4), [[0, 1, 2]])
    assert values(result)[1] in (0, 2)
    assert len(result.bad) == 1 + 4  # the sample, and what was tried in its place


def test_nothing_can_stand_in_where_nothing_can_be_read():
    tolerant = SkipBadSamples(Halting(end=0), 0, attempts=2)
    (result,) = loaded(tolerant, [[4, 7]])
    assert result.content is None and len(result.bad) == 2 * 3


def test_only_errors_of_the_input_are_tolerated():
    class Faulty(Dataset):
        def __getitem__(self, index):
            raise ValueError("a fault of the program")

    with pytest.raises(ValueError, match="a fault of the program"):
        loaded(SkipBadSamples(Faulty(), 0), [[0]])


def test_the_first_good_samples_are_taken_and_too_many_bad_ones_are_an_error():
    taken = [int(sample.value[0, 0]) for sample in good_samples(Halting(bad=(0, 2)), 3)]
    assert taken == [1, 3, 4]
    with pytest.raises(InputError, match="file-3"):
        list(good_samples(Halting(bad=range(5)), 3))
