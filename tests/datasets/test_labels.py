"""What things are, pixel by pixel."""

from dataclasses import replace

import torch

from more4d.datasets.labelled_images import COLOURS, DIRECTIONS, IGNORE_INDEX, NOUNS, VERBS, label_map
from more4d.scenes.render import render_clip
from more4d.scenes.scene_sampling import sample_scene


def test_each_pixel_is_named_after_the_body_it_shows():
    for seed in range(4):
        scene = sample_scene(seed)
        ids = render_clip(scene, height=24, width=32, frames=2, visibility="none").object_ids
        nouns, colours, verbs, directions = label_map(scene, ids)[0]
        assert bool(((nouns > 0) == (ids > 0)).all())
        for body in scene.bodies:
            here = ids == body.object_id
            if body.object_id and here.any():
                assert {NOUNS[number - 1] for number in nouns[here].tolist()} == {body.noun}
                assert {COLOURS[number - 1] for number in colours[here].tolist()} == {body.colour}
                actions = [action for action in scene.actions if action.object_id == body.object_id]
                verb, direction = (
                    (actions[0].verb, actions[0].direction or "none") if actions else ("still", "none")
                )
                assert {VERBS[number - 1] for number in verbs[here].tolist()} == {verb}
                assert {DIRECTIONS[number - 1] for number in directions[here].tolist()} == {direction}


def test_a_word_that_is_in_no_list_is_unknown():
    scene = sample_scene(1)
    strange = replace(scene, bodies=tuple(replace(body, noun="griffin") for body in scene.bodies))
    things = torch.tensor([[body.object_id for body in scene.bodies]])
    nouns = label_map(strange, things)[0, 0]
    assert bool((nouns[things > 0] == IGNORE_INDEX).all())


def test_the_words_are_those_of_scenes():
    bodies = [body for seed in range(60) for body in sample_scene(seed).bodies if body.object_id]
    assert {body.noun for body in bodies} <= set(NOUNS)
    assert {body.colour for body in bodies} <= set(COLOURS)
    actions = [action for seed in range(60) for action in sample_scene(seed).actions]
    assert {action.verb for action in actions} <= set(VERBS)
    assert {action.direction or "none" for action in actions} <= set(DIRECTIONS)
