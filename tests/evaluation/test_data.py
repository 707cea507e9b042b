"""The procedural test set is fixed and disjoint from training; RGB-D frames are read in metres."""

from more4d.evaluation.data import large_objects, measured_frames, unseen_scene
from more4d.scenes.held_out import HELD_OUT_SEED, is_held_out
from more4d.scenes.render import render_clip

COUNT = 8


def movers(scene):
    return {action.object_id for action in scene.actions if action.verb != "still"}


def test_a_scene_does_not_depend_on_the_size_of_the_set():
    scenes = [unseen.seed for unseen in map(unseen_scene, range(COUNT))]
    assert [unseen_scene(index).seed for index in reversed(range(COUNT))] == scenes[::-1]
    assert len(set(scenes)) == COUNT


def test_no_scene_belongs_to_training_and_validation_is_another_set():
    tested, validated = (
        {unseen.seed for unseen in (unseen_scene(index, split=split) for index in range(4))}
        for split in ("test", "validation")
    )
    assert min(tested | validated) >= HELD_OUT_SEED and not tested & validated


def test_half_of_the_scenes_show_a_pair_unseen_in_training():
    for unseen in map(unseen_scene, range(COUNT)):
        assert any(is_held_out(action) for action in unseen.scene.actions) == unseen.held_out
    assert sum(unseen.held_out for unseen in map(unseen_scene, range(COUNT))) == COUNT // 2


def test_in_half_of_the_scenes_another_object_must_stay_still():
    for unseen in map(unseen_scene, range(COUNT)):
        clip = render_clip(unseen.scene, height=48, width=64, frames=3, visibility="none")
        large, moving = large_objects(clip), movers(unseen.scene)
        assert large & moving
        assert bool(large - moving) == unseen.several
    assert sum(unseen.several for unseen in map(unseen_scene, range(COUNT))) == COUNT // 2


def test_every_measured_frame_can_be_read(shared):
    frames = measured_frames(shared / "data")
    assert {frame.group for frame in frames} == {"NYU Depth v2", "7-Scenes", "ICL-NUIM"}
    for frame in {frame.group: frame for frame in frames}.values():
        photo, truth = frame.read()
        assert tuple(photo.shape[:2]) == tuple(truth.depth_m.shape) == (480, 640)
        assert truth.valid.float().mean() > 0.6
        assert 0.5 < float(truth.depth_m[truth.valid].median()) < 10


def test_a_folder_without_frames_gives_none(tmp_path):
    assert measured_frames(tmp_path) == []
