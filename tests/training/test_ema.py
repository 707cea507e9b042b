"""Laws of the moving average of weights."""

import torch
from torch import nn

from more4d.training.optim import ExponentialMovingAverage
from more4d.training.runtime import TensorSharding


def averaged(layer: nn.Module, decay: float) -> ExponentialMovingAverage:
    return ExponentialMovingAverage(layer, TensorSharding(torch.optim.AdamW(layer.parameters())), decay)


def test_early_weights_are_forgotten_faster_than_the_decay_says():
    layer = nn.Linear(3, 2)
    average = averaged(layer, 0.999)
    nn.init.ones_(layer.weight)
    average.update(layer)
    first = average.average["weight"]
    assert torch.allclose(first, torch.ones_like(first), atol=0.2)


def test_constant_weights_are_their_own_average():
    layer = nn.Linear(3, 2)
    average = averaged(layer, 0.999)
    for _ in range(5):
        average.update(layer)
    assert torch.allclose(average.average["weight"], layer.weight)


def test_a_whole_average_is_set_again_as_it_was():
    layer = nn.Linear(3, 2)
    average = averaged(layer, 0.9)
    nn.init.ones_(layer.weight)
    average.update(layer)
    whole = average.full("weight", layer.weight)
    other = averaged(layer, 0.9)
    other.set_full("weight", layer.weight, whole)
    assert torch.equal(other.average["weight"], average.average["weight"])


def test_frozen_weights_are_left_out():
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert list(averaged(layer, 0.9).average) == ["weight"]
