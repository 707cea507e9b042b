"""Prompts that name things the weights have no word for."""

import pytest
import torch

from more4d.pipelines.unknown_words import (
    best_noun,
    choose,
    names_nothing_known,
    places_of,
    standing_out,
    with_noun,
)

VOCABULARY = "the a moves slides to left right up red big vase ball nothing stays still everything of on"
OBJECTS = ("vase", "ball", "fir tree")


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("the teapot slides to the left", True),
        ("it moves up", True),
        ("the blorp", True),
        ("", True),
        ("the vase slides to the left", False),
        ("the teapot slides to the ball", False),
        ("two balls move", False),
        ("the fir tree sways", False),
        ("nothing moves", False),
        ("everything stays still", False),
    ],
)
def test_which_prompts_name_nothing_known(prompt: str, expected: bool) -> None:
    assert names_nothing_known(prompt, VOCABULARY, OBJECTS) == expected


def test_weights_that_know_words_of_all_kinds_are_left_alone() -> None:
    assert not names_nothing_known("the teapot slides", VOCABULARY, ())


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("the teapot slides to the left", "the vase slides to the left"),
        ("The red TEAPOT slides to the left!", "the red vase slides to the left"),
        ("it moves up", "the vase moves up"),
        ("a shiny copper teapot slides up", "a vase slides up"),
        ("the blorp", "the vase moves"),
        ("teapot", "the vase moves"),
        ("", "the vase moves"),
        ("чайник скользит влево", "the vase moves"),
    ],
)
def test_unknown_words_become_the_noun(prompt: str, expected: str) -> None:
    assert with_noun(prompt, "vase", VOCABULARY) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("the left one slides to the right", ["left"]),
        ("the thing on the right moves to the left", ["right"]),
        ("the big thing in front moves up", ["front", "big"]),
        ("the thing moves to the left", []),
        ("the teapot goes from the left to the right", []),
    ],
)
def test_words_that_choose_are_told_from_directions(prompt: str, expected: list[str]) -> None:
    assert places_of(prompt) == expected


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
    chosen = choose([number == 1, number == 2], [place], depth_m)
    assert torch.equal(chosen, number == expected)


def test_the_noun_that_changes_the_answer_on_the_thing_is_best() -> None:
    silent = torch.zeros(2, 4, 4)
    silent[0] = 1
    answers = silent.repeat(3, 1, 1, 1)
    thing = torch.zeros(4, 4, dtype=torch.bool)
    thing[1:3, 1:3] = True
    answers[1, :, thing] = torch.tensor([[0.1], [0.9]])  # right there and nowhere else
    answers[2] = torch.tensor([0.1, 0.9])[:, None, None]  # everywhere
    assert best_noun(answers, silent, thing) == 1
