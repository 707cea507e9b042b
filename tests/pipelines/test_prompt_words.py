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


TABLE = """
The goat never stops walking to the left: the goat walks to the left
the dog does not stop running to the right: the dog runs to the right
the horse keeps on galloping to the left: the horse runs to the left
the cat cannot stop jumping: the cat jumps
the robot never stands still: the robot moves
the balloon does not stay still: the balloon floats
the sheep walks to the right without stopping: the sheep walks to the right
the boy won't sit still: the boy moves
the dog does not run but walks to the left: the dog walks to the left
the ball does not bounce to the left but to the right: the ball bounces to the right
the puppy is still: the dog stays still

The goat which stands on the rock jumps up: the goat jumps
the dog that is sitting on the chair jumps: the dog jumps
the cow, which stands in the meadow, moves to the left: the cow walks to the left in the meadow
the cow, standing on the rocks, moves to the left: the cow walks to the left across rocky terrain
the man who holds an umbrella walks to the right: the man walks to the right
the bird sitting on the fence flies away: the bird flies away from the camera
the goat wearing a hat walks to the left: the goat walks to the left
the girl holding a balloon runs to the left: the girl runs to the left
the girl holding balloons runs to the left: the girl runs to the left
the boy carrying a box runs to the left: the boy runs to the left
the girl kicking a red ball runs to the left: the girl runs to the left
the boy kicks the ball to the left: the ball moves to the left
the man throws the frisbee to the left: what stands out moves to the left
the man with the red umbrella waves: the man waves
the woman pushing a cart waves: the woman waves
the man walking past rocks waves: the man waves
the car parked beside the house drives to the right: the car drives to the right
the dog with a ball in its mouth runs to the left: the dog runs to the left

nothing moves except the goat: the goat moves
everything stays still except the goat: the goat moves
everything stays still but the goat: the goat moves
everything is still apart from the balloon, which rises: the balloon floats up
except for the train nothing moves: the train moves
Except for the train, nothing moves: the train moves
nothing other than the flag moves: the flag moves
nothing but the horse runs: the horse runs
everything except the dog stays still: the dog moves
everything, except the dog, stays still: the dog moves
everything moves except the dog: what stands out moves and the dog stays still
everything but the dog jumps: what stands out jumps and the dog stays still
the dog walks, not the cat: the dog walks and the cat stays still
everything jumps: what stands out jumps
nothing stays still: what stands out moves
the puppy runs and then barks: the dog runs
the dog stays still and the rest moves: the dog stays still and the rest moves

the woman raises her right arm: the woman waves a hand
the man raises his left hand: the man waves a hand
the man lifts his right arm: the man waves a hand
the girl waves her left hand: the girl waves a hand
the bird flaps its left wing: the bird flaps its wings
the dog lifts its right paw: the dog moves
the horse turns its head to the left: the horse nods
the elephant wags its tail: the elephant sways
the dog looks at the camera and moves closer: the dog nods toward the camera

the dog runs right up to the camera: the dog runs toward the camera
the goat walks up to the tree: the goat walks
the car drives right now: the car drives
a man left the room right away: the man walks away from the camera
the ball rolls right down the hill: the ball rolls down
the cat runs right past the dog: the cat runs
the puppy walks to the left hand side: the dog walks to the left

the dog to the right of the tree jumps: the dog jumps
the chair to the left of the lamp spins: the chair spins
the man left of the car waves: the man waves
To the left of the tree, a puppy jumps: the dog jumps
the puppy jumps to the left of the tree: the dog jumps to the left

steam rises from the coffee: what stands out moves up
the hot steam rises: what stands out moves up
the leaves fall from the tree: what stands out moves down
smoke rises from the house: what stands out moves up
water drips from the vase: what stands out moves
the cup is pushed off the table: the vase moves down
the cat jumps off the chair: the cat jumps

die Frau winkt und geht nach links: what stands out moves
die Frau winkt: what stands out moves
der Hund läuft nach rechts: what stands out moves
le taxi va à gauche: what stands out moves
the die rolls to the left: the cube moves to the left
"""
"""What people say of kinds that a list of words cannot read: negation, asides, exceptions, parts, sides."""


@pytest.mark.parametrize("line", [line for line in TABLE.split("\n") if line])
def test_turns_of_phrase_are_not_read_as_their_opposite(line: str, tiny: Preset) -> None:
    prompt, _, said = line.partition(": ")
    assert understand(prompt, tiny).said == said


def test_a_side_says_which_one_and_not_where_to(tiny: Preset) -> None:
    (clause,) = understand("the dog to the right of the tree jumps", tiny).clauses
    assert clause.where == ("right",) and clause.direction is None


@pytest.mark.parametrize(
    ("prompt", "noun", "explained"),
    [
        ("the dog runs up", None, "'the dog runs up'"),
        ("the dogs leap", None, "'the dog jumps'"),
        (
            "the cup moves up",
            None,
            "'the vase moves up' ('cup' as 'vase', the nearest that the weights know)",
        ),
        (
            "it hops",
            "chair",
            "'the chair jumps' ('what stands out' as 'chair', the nearest that the weights know)",
        ),
        ("the cake rises", "cow", "'the cow moves up' ('cake' as 'cow', the nearest that the weights know)"),
        (
            "the puppy and the lady leap",
            None,
            "'the dog jumps and the woman jumps' ('puppy' as 'dog', 'lady' as 'woman', the nearest that the "
            "weights know)",
        ),
    ],
)
def test_nouns_that_stand_for_others_are_explained(
    prompt: str, noun: str | None, explained: str, tiny: Preset
) -> None:
    understood = understand(prompt, tiny)
    assert (understood.with_noun(0, noun) if noun else understood).explained == explained
