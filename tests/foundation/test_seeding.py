"""Laws of derived seeds."""

import torch

from more4d.foundation.config import derive_seed, numpy_generator, torch_generator


def test_every_part_and_their_order_matter():
    seeds = {derive_seed(*parts) for parts in [(1, 2), (2, 1), (1, 2, 0), ("1", 2), (12,)]}
    assert len(seeds) == 5


def test_equal_parts_give_equal_numbers():
    assert torch.equal(
        torch.rand(3, generator=torch_generator("a", 1)), torch.rand(3, generator=torch_generator("a", 1))
    )
    assert numpy_generator("a", 1).random() == numpy_generator("a", 1).random()
