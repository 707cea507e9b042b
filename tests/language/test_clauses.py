"""Prompts as clauses, and back: what captions say is read back, and what people say becomes a caption."""

import pytest

from more4d.language.clauses import is_of_captions, read
from more4d.language.thesaurus import STILL, Thesaurus, with_noun, write
from more4d.pipelines.preset import find_preset
from more4d.scenes.scene_sampling import sample_scene

WAYS = {
    None: None,
    "left": "to the left",
    "right": "to the right",
    "up": "up",
    "down": "down",
    "toward": "toward the camera",
    "away": "away from the camera",
}


@pytest.fixture(scope="module")
def thesaurus() -> Thesaurus:
    preset = find_preset("tiny")[0]
    return Thesaurus(preset.vocabulary, preset.objects)


def rewritten(prompt: str, thesaurus: Thesaurus) -> str:
    clauses = read(prompt, thesaurus)
    return write([each if each.nouns else with_noun(each, "thing") for each in clauses], thesaurus)


def test_captions_are_read_back(thesaurus: Thesaurus) -> None:
    # Reading is the inverse of composing: nouns and directions of all that moves come back.
    for seed in range(80):
        scene = sample_scene(seed)
        assert is_of_captions(scene.caption, thesaurus)
        said = [each for each in read(scene.caption, thesaurus) if each.motion != STILL]
        told = [action for action in scene.actions if action.verb != "still"]
        assert sorted((each.nouns[0], str(each.direction)) for each in said) == sorted(
            (action.noun, str(WAYS[action.direction])) for action in told
        ), scene.caption
        assert not any(each.where or each.many for each in said), scene.caption


def test_what_was_written_is_read_the_same(thesaurus: Thesaurus) -> None:
    for seed in range(80):
        clauses = read(sample_scene(seed).caption, thesaurus)
        once = write(clauses, thesaurus)
        assert write(read(once, thesaurus), thesaurus) == once


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("A CHOCOLATE LABRADOR trotted leftwards!", "the brown dog walks to the left"),
        ("the puppy is running to the left hand side", "the dog runs to the left"),
        ("a video of a herd of cows walking slowly", "the cow walks"),
        ("the horse and the cat jump", "the horse jumps and the cat jumps"),
        (
            "the woman in a crimson dress strolls towards the viewer",
            "the woman in red walks toward the camera",
        ),
        ("from left to right, a fluffy kitten walks", "the cat walks to the right"),
        ("running fast, the dog goes to the left", "the dog walks to the left"),
        ("the dog doesn't move, the ball rolls up", "the dog stays still and the ball rolls up"),
        ("the car is speeding away from us", "the car drives away from the camera"),
        ("near the tree a fluffy dog jumps", "the dog jumps"),
        ("the elefant wlaks to the rigth", "the elephant walks to the right"),
        ("the balloon rises", "the balloon floats up"),
        ("the puppy slides to the left", "the dog walks to the left"),
        ("the carton marches to the left", "the box moves to the left"),
        ("the taxi glides to the left", "the car drives to the left"),
        ("the horse trots", "the horse walks"),
        ("make the dog jump", "the dog jumps"),
        ("the zorp slides to the left", "the thing moves to the left"),
        ("it moves up", "the thing moves up"),
        ("the cake rises", "the thing moves up"),
        ("чайник скользит", "the thing moves"),
        ("everything is quiet", "nothing moves"),
        # What stands beside a thing keeps its colour for itself.
        ("the dog next to the brown chair runs to the left", "the dog runs to the left"),
        ("the woman with the red bag walks to the right", "the woman walks to the right"),
        ("the man with the yellow hat waves", "the man waves"),
        ("the brown dog near the red chair jumps", "the brown dog jumps"),
        ("near the brown tree a black dog jumps", "the black dog jumps"),
        ("the man in the red shirt walks", "the man in red walks"),
        ("the lid of the brown teapot rises", "the brown vase moves up"),
        # Words that are verbs elsewhere.
        ("the goat near the white rock jumps", "the goat jumps"),
        ("the dog near the tree runs to the left", "the dog runs to the left"),
        ("the car nears", "the car drives toward the camera"),
        ("the steam rises", "the thing moves up"),
        ("the white steam rises", "the white thing moves up"),
        ("the fly lands", "the thing moves down"),
        ("the dog on the slide jumps", "the dog jumps"),
        ("the running dog jumps", "the dog jumps"),
        ("the fallen tree rolls", "the tree rolls"),
        # "It" is another thing.
        ("it flies up; the sheep does not move", "the thing flies up and the sheep stays still"),
        ("it jumps and the cat stays still", "the thing jumps and the cat stays still"),
        # Possessives are of the thing that owns.
        ("The goat's head turns", "the goat spins"),
        ("the girl's hair blows to the left", "the girl waves to the left"),
        ("the train's steam rises", "the train moves up"),
        ("the dog's running", "the dog runs"),
        ("it's jumping", "the thing jumps"),
        ("the rubik's cube spins", "the cube spins"),
    ],
)
def test_what_people_say_becomes_a_caption(prompt: str, expected: str, thesaurus: Thesaurus) -> None:
    assert rewritten(prompt, thesaurus) == expected


@pytest.mark.parametrize("word", ["boat", "house", "mouse", "board", "wheat", "coat"])
def test_words_of_english_are_no_misspellings(word: str, thesaurus: Thesaurus) -> None:
    assert thesaurus.spelt(word) == word


@pytest.mark.parametrize(
    ("prompt", "where"),
    [
        ("the left dog runs to the right", ("left",)),
        ("the thing on the right moves to the left", ("right",)),
        ("the big dog in front jumps", ("big", "front")),
        ("the dog moves to the left", ()),
        ("the dog goes from the left to the right", ()),
    ],
)
def test_which_one_is_told_from_where_to(prompt: str, where: tuple[str, ...], thesaurus: Thesaurus) -> None:
    assert read(prompt, thesaurus)[0].where == where


def test_kinds_leave_the_noun_open(thesaurus: Thesaurus) -> None:
    (clause,) = read("the animal runs", thesaurus)
    assert {"dog", "cat", "zebra"} <= set(clause.nouns) <= set(thesaurus.objects)


def test_words_that_weights_do_not_know_are_never_written() -> None:
    # Which words these are comes with the weights: fewer of them, and fewer things have a name.
    small = Thesaurus("the dog moves walks to left nothing", ["dog"])
    assert rewritten("the kitten strolls to the left", small) == "the thing walks to the left"
    assert rewritten("the puppy soars upward", small) == "the dog moves"
