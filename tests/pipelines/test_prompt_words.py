"""What reaches the networks of a prompt."""

import re

import pytest

from more4d.pipelines.preset import Preset, find_preset
from more4d.pipelines.prompt_words import understand
from more4d.scenes.scene_sampling import sample_scene


@pytest.fixture(scope="module")
def tiny() -> Preset:
    return find_preset("tiny")[0]


def test_captions_reach_the_networks_unchanged(tiny: Preset) -> None:
    for seed in range(60):
        caption = sample_scene(seed).caption
        assert understand(caption, tiny).text == caption


def test_weights_that_know_words_of_all_kinds_get_the_prompt_as_it_is() -> None:
    preset = find_preset("fun-1.3b")[0]
    assert understand("Ein Hund rennt!", preset).text == "Ein Hund rennt!"


@pytest.mark.parametrize(
    ("prompt", "foreign"),
    [
        ("黑色的山羊向左走", True),
        ("La cabra negra camina hacia la izquierda", True),
        ("Die schwarze Ziege läuft nach links", True),
        ("the blorp rises", False),
        ("teapot", False),
        ("", False),
    ],
)
def test_another_language_is_noticed(prompt: str, foreign: bool, tiny: Preset) -> None:
    assert understand(prompt, tiny).is_foreign == foreign


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("the Puppy scampers off", "the dog runs away from the camera"),
        ("the blorp rises", "what stands out moves up"),
        ("the animal rises", "the bear or bird or camel or another moves up"),
        ("the left dog runs up", "the dog runs up"),
        ("the blorp and the dog jump", "the dog jumps"),
        ("it jumps and the cat stays still", "what stands out jumps and the cat stays still"),
        ("the cat stays still and the steam rises", "the cat stays still and what stands out moves up"),
        ("the goat's head turns", "the goat spins"),
        ("", "what stands out moves"),
    ],
)
def test_the_run_says_what_was_understood(prompt: str, said: str, tiny: Preset) -> None:
    understood = understand(prompt, tiny)
    assert understood.said == said
    assert set(re.findall("[a-z]+", understood.said)) <= {
        *tiny.vocabulary.split(),
        "or",
        "what",
        "another",
        "out",
    }


@pytest.mark.parametrize(
    ("prompt", "still"),
    [("nothing moves", True), ("the dog stays still", True), ("the dog stays and the cat runs", False)],
)
def test_a_prompt_that_lets_nothing_move_is_recognised(tiny: Preset, prompt: str, still: bool) -> None:
    assert understand(prompt, tiny).still is still
