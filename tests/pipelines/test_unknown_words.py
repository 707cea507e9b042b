"""Prompts that name things the weights have no word for."""

import pytest
import torch

from more4d.pipelines.grounding import choose_by_place
from more4d.pipelines.unknown_words import best_noun, standing_out


def two_discs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A large red disc on the left and a small blue one on the right, before a grey wall: their numbers."""
    rows, columns = torch.meshgrid(torch.arange(120), torch.arange(160), indexing="ij")
    number = torch.zeros(120, 160, dtype=torch.long)
    number[(rows - 60) ** 2 + (columns - 50) ** 2 < 24**2] = 1
    number[(rows - 70) ** 2 + (columns - 120) ** 2 < 12**2] = 2
    palette = torch.tensor([[0.5, 0.5, 0.5], [0.9, 0.1, 0.1], [0.1, 0.2, 0.9]])
    noise = 0.03 * torch.rand(120, 160, 3, generator=torch.Generator().manual_seed(0))
    return palette[number] + noise, torch.tensor([6.0, 4.0, 3.0])[number], number


def overlap(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one & other).sum()) / float((one | other).sum())


def test_things_that_stand_out_are_found() -> None:
    colours, depth_m, number = two_discs()
    things = standing_out(colours, depth_m)
    assert len(things) == 2
    assert max(overlap(thing, number == 1) for thing in things) > 0.9
    assert max(overlap(thing, number == 2) for thing in things) > 0.9


def test_nothing_stands_out_of_a_plain_surface() -> None:
    assert standing_out(torch.full((60, 80, 3), 0.5), torch.full((60, 80), 3.0)) == []


@pytest.mark.parametrize(
    ("place", "expected"), [("left", 1), ("right", 2), ("big", 1), ("small", 2), ("front", 2), ("back", 1)]
)
def test_words_choose_among_things(place: str, expected: int) -> None:
    _, depth_m, number = two_discs()
    things = [(number == 1).numpy(), (number == 2).numpy()]
    assert choose_by_place(things, [place], depth_m.numpy())[0] == expected - 1


def test_the_noun_that_changes_the_answer_on_the_thing_is_best() -> None:
    silent = torch.zeros(2, 4, 4)
    silent[0] = 1
    answers = silent.repeat(3, 1, 1, 1)
    thing = torch.zeros(4, 4, dtype=torch.bool)
    thing[1:3, 1:3] = True
    answers[1, :, thing] = torch.tensor([[0.1], [0.9]])  # right there and nowhere else
    answers[2] = torch.tensor([0.1, 0.9])[:, None, None]  # everywhere
    assert best_noun(answers, silent, thing) == 1
