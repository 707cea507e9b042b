"""Naming what is seen, and reading what is said about it."""

import math

import pytest
import torch

from more4d.datasets.labelled_images import DIRECTIONS, NOUNS, VERBS
from more4d.training.tasks.tiny_encoders import (
    CLASSES,
    STILL_CLASS,
    WordProbes,
    grounding_losses,
    grounding_targets,
    label_loss,
    sum_losses,
)


def test_scenery_counts_as_much_as_all_things():
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    labels[0, 0, 0] = 2
    right = torch.full((1, 3, 4, 4), -50.0).scatter(1, labels[:, None], 50.0)
    assert float(label_loss(right, labels)) == pytest.approx(0.0, abs=1e-6)
    unsure = torch.zeros(1, 3, 4, 4)
    half = torch.where(labels[:, None] > 0, unsure, right)
    assert float(label_loss(half, labels)) == pytest.approx(math.log(3) / 2, rel=1e-5)
    labels[0, 0, 0] = -1
    assert float(label_loss(half, labels)) == pytest.approx(0.0, abs=1e-6)


def test_a_thing_weighs_as_the_square_root_of_its_size():
    labels = torch.tensor([[[1, 1, 1, 1, 2]]])
    right = torch.full((1, 3, 1, 5), -50.0).scatter(1, labels[:, None], 50.0)
    for wrong, share in ((1, 2 / 3), (2, 1 / 3)):
        unsure = torch.where(labels[:, None] == wrong, torch.zeros(()), right)
        assert float(label_loss(unsure, labels)) == pytest.approx(share * math.log(3) / 2, rel=1e-5)


@pytest.fixture
def labels():
    """Of a running horse, one that stays, and scenery."""
    labels = torch.zeros(1, 4, 1, 4, dtype=torch.long)
    labels[0, 0, 0, :2] = NOUNS.index("horse") + 1
    labels[0, 2, 0] = torch.tensor([VERBS.index("run") + 1, STILL_CLASS, 0, 0])
    labels[0, 3, 0, :2] = DIRECTIONS.index("left") + 1
    return labels


def one_hot(says: list[int], count: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(says), count).float().T[None, :, None]


def test_shares_of_right_nouns_count_things_alone(labels):
    hints = WordProbes(features=len(NOUNS) + 1)
    read_out = hints.words[0]
    read_out.weight.data = torch.eye(read_out.out_channels)[:, :, None, None]
    read_out.bias.data.zero_()
    horse = NOUNS.index("horse") + 1
    assert (
        float(hints(one_hot([horse, horse - 1, horse, horse], len(NOUNS) + 1), labels)["noun_right"]) == 0.5
    )


def test_whether_a_thing_moves_is_right_whatever_its_verb(labels):
    runs, walks = VERBS.index("run") + 1, VERBS.index("walk") + 1
    said = one_hot([walks, runs, runs, runs], len(VERBS) + 1)
    read = grounding_losses(said, torch.zeros(1, len(DIRECTIONS) + 1, 1, 4), labels)
    assert float(read["moves_right"]) == 0.5
    assert float(sum_losses(read)) == pytest.approx(float(read["verb"] + read["way"]))


def test_true_answers_cost_a_reader_nothing(labels):
    verb, direction = grounding_targets(labels, (1, 4)).split(CLASSES, dim=1)
    assert verb[0, VERBS.index("run") + 1, 0].tolist() == [1, 0, 0, 0]
    assert direction[0, 0, 0].tolist() == [0, 0, 1, 1]  # the horse that stays has no direction to tell
    read = grounding_losses(100 * verb, 100 * direction, labels)
    assert float(sum_losses(read)) == pytest.approx(0.0, abs=1e-6)
    assert float(read["moves_right"]) == 1.0


def test_a_verb_without_a_place_is_not_answered(labels):
    labels[0, 2, 0, 0] = -1
    verb, _ = grounding_targets(labels, (1, 4)).split(CLASSES, dim=1)
    assert not verb[0, :, 0, 0].any() and verb[0, :, 0, 1].sum() == 1
