"""Laws of what training never sees."""

from more4d.datasets import procedural
from more4d.scenes.held_out import (
    HELD_OUT_COLOURS,
    HELD_OUT_MOTIONS,
    HELD_OUT_SEED,
    is_held_out,
    is_held_out_colour,
    is_held_out_motion,
)
from more4d.scenes.scene import Action
from more4d.scenes.scene_sampling import sample_scene
from more4d.scenes.textures import NAMED_COLOURS

COUNT = 400


def survey(first: int) -> tuple[set[tuple[str, str]], set[tuple[str, str, str | None]]]:
    """(noun, colour) and (noun, verb, direction) of the objects of some worlds."""
    scenes = [sample_scene(first + index) for index in range(COUNT)]
    bodies = {(body.noun, body.colour) for scene in scenes for body in scene.bodies if body.object_id}
    actions = [action for scene in scenes for action in scene.actions]
    return bodies, {(action.noun, action.verb, action.direction) for action in actions}


def test_training_shows_no_pair_that_is_kept_from_it_and_everything_else() -> None:
    bodies, motions = survey(0)
    assert not [pair for pair in bodies if is_held_out_colour(*pair)]
    assert not [motion for motion in motions if is_held_out_motion(*motion)]
    assert {colour for _, colour in bodies} == set(NAMED_COLOURS)
    assert {noun for noun, _ in bodies} > {noun for noun in HELD_OUT_COLOURS if noun != "cube"}


def test_held_out_worlds_show_them() -> None:
    bodies, motions = survey(HELD_OUT_SEED)
    assert sum(is_held_out_colour(*pair) for pair in bodies) > len(HELD_OUT_COLOURS) / 2
    assert sum(is_held_out_motion(*motion) for motion in motions) > len(HELD_OUT_MOTIONS) / 3


def test_other_motions_of_a_training_world_obey_the_rule_too() -> None:
    scenes = [sample_scene(seed, motion_seed=other) for seed in range(40) for other in range(6)]
    assert not any(is_held_out(action) for scene in scenes for action in scene.actions)


def test_only_what_moves_can_be_held_out() -> None:
    still = Action(object_id=1, noun="bear", colour="white", verb="still", direction=None)
    moving = Action(object_id=1, noun="bear", colour="white", verb="walk", direction="left")
    assert is_held_out(moving) and not is_held_out(still)


def test_training_and_evaluation_know_one_border() -> None:
    assert procedural.HELD_OUT_SEED == HELD_OUT_SEED
