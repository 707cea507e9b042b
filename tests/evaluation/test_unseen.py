"""Laws of the fixed test set."""

from more4d.evaluation.unseen import large_objects, unseen_scene, unseen_scenes
from more4d.scenes.held_out import HELD_OUT_SEED, is_held_out
from more4d.scenes.render import render_clip

COUNT = 8


def movers(scene):
    return {action.object_id for action in scene.actions if action.verb != "still"}


def test_a_scene_is_the_same_however_many_are_asked_for():
    scenes = [unseen.seed for unseen in unseen_scenes(COUNT)]
    assert [unseen_scene(index).seed for index in reversed(range(COUNT))] == scenes[::-1]
    assert len(set(scenes)) == COUNT


def test_no_scene_belongs_to_training_and_validation_is_another_set():
    tested, validated = (
        {unseen.seed for unseen in unseen_scenes(4, split=split)} for split in ("test", "validation")
    )
    assert min(tested | validated) >= HELD_OUT_SEED and not tested & validated


def test_half_of_the_scenes_show_a_pair_that_training_never_saw():
    for unseen in unseen_scenes(COUNT):
        assert any(is_held_out(action) for action in unseen.scene.actions) == unseen.held_out
    assert sum(unseen.held_out for unseen in unseen_scenes(COUNT)) == COUNT // 2


def test_in_half_of_the_scenes_something_else_must_stay_still():
    for unseen in unseen_scenes(COUNT):
        clip = render_clip(unseen.scene, height=48, width=64, frames=3, visibility="none")
        large, moving = large_objects(clip), movers(unseen.scene)
        assert large & moving
        assert bool(large - moving) == unseen.several
    assert sum(unseen.several for unseen in unseen_scenes(COUNT)) == COUNT // 2
