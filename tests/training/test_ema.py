"""Laws of the moving average of weights."""

import pytest
import torch
from torch import nn

from more4d.training.ema import ExponentialMovingAverage


def test_swapping_twice_changes_nothing():
    layer = nn.Linear(3, 2)
    average = ExponentialMovingAverage(layer, 0.9)
    nn.init.ones_(layer.weight)
    average.update(layer)
    before = layer.weight.clone()
    average.swap(layer)
    assert not torch.equal(layer.weight, before)
    average.swap(layer)
    assert torch.equal(layer.weight, before)


def test_constant_weights_are_their_own_average():
    layer = nn.Linear(3, 2)
    average = ExponentialMovingAverage(layer, 0.999)
    for _ in range(5):
        average.update(layer)
    assert torch.allclose(average.average["weight"], layer.weight)


def test_frozen_weights_are_left_out():
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert list(ExponentialMovingAverage(layer, 0.9).average) == ["weight"]


def test_a_decay_of_one_is_refused():
    with pytest.raises(ValueError, match="decay"):
        ExponentialMovingAverage(nn.Linear(1, 1), 1.0)
