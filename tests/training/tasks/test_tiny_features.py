"""Naming what is seen, and reading what is said about it."""

import math

import pytest
import torch

from more4d.datasets.kinds import NOUNS, VERBS, WAYS
from more4d.training.tasks.tiny_features import STAYS, WordHints, kinds_loss, total_of


def test_scenery_counts_as_much_as_all_things():
    kinds = torch.zeros(1, 4, 4, dtype=torch.long)
    kinds[0, 0, 0] = 2
    right = torch.full((1, 3, 4, 4), -50.0).scatter(1, kinds[:, None], 50.0)
    assert float(kinds_loss(right, kinds)) == pytest.approx(0.0, abs=1e-6)
    unsure = torch.zeros(1, 3, 4, 4)
    half = torch.where(kinds[:, None] > 0, unsure, right)
    assert float(kinds_loss(half, kinds)) == pytest.approx(math.log(3) / 2, rel=1e-5)
    kinds[0, 0, 0] = -1
    assert float(kinds_loss(half, kinds)) == pytest.approx(0.0, abs=1e-6)


def test_shares_of_right_cells_count_things_alone():
    torch.manual_seed(0)
    hints = WordHints(features=len(NOUNS) + 1, answers=len(VERBS) + 1)
    for word in (hints.words[0], hints.words[2]):
        word.weight.data = torch.eye(word.out_channels)[:, :, None, None]
        word.bias.data.zero_()
    kinds = torch.zeros(1, 4, 1, 4, dtype=torch.long)
    noun, rides = NOUNS.index("horse") + 1, VERBS.index("run") + 1
    kinds[0, 0, 0, :2], kinds[0, 2, 0] = noun, torch.tensor([rides, STAYS, 0, 0])
    kinds[0, 3, 0, :2] = WAYS.index("left") + 1
    says = torch.tensor([noun, noun - 1, noun, noun])
    features = torch.nn.functional.one_hot(says, len(NOUNS) + 1).float().T[None, :, None]
    assert float(hints.seen(features, kinds)["noun_right"]) == 0.5
    says = torch.tensor([VERBS.index("walk") + 1, rides, rides, rides])
    answers = torch.nn.functional.one_hot(says, len(VERBS) + 1).float().T[None, :, None]
    read = hints.read(answers, kinds)
    assert float(read["moves_right"]) == 0.5
    assert total_of(read).item() == pytest.approx((read["verb"] + read["way"]).item())
