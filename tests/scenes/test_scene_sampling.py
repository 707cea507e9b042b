"""Laws of sampled scenes: seeds, counterfactuals, and captions that tell the truth."""

import pytest
import torch

from more4d.scenes.motion_sampling import DIRECTION_PHRASES, VERB_PHRASES
from more4d.scenes.render import SceneClip, render_clip
from more4d.scenes.scene_sampling import sample_scene

SIGNS = {"left": (0, -1), "right": (0, 1), "up": (1, -1), "down": (1, 1), "toward": (2, -1), "away": (2, 1)}


def displacement(clip: SceneClip, object_id: int) -> torch.Tensor | None:
    """Mean (du, dv, dz / z) of an object's pixels from first to last frame; None if it is hardly seen."""
    chosen = clip.object_ids == object_id
    if chosen.sum() < 12:
        return None
    start, end = clip.tracks.positions[0][chosen], clip.tracks.positions[-1][chosen]
    in_front = end[:, 2] > 0.1
    camera = clip.tracks.camera
    (uv0, z0), (uv1, z1) = camera.project(start[in_front]), camera.project(end[in_front])
    return torch.cat([(uv1 - uv0).mean(0), ((z1 - z0) / z0).mean()[None]])


def test_two_hundred_seeds_make_valid_tracks_whose_directions_are_true() -> None:
    told = dict.fromkeys(SIGNS, 0)
    for seed in range(200):
        clip = render_clip(sample_scene(seed), height=36, width=48, frames=3, visibility="none")
        for action in clip.actions:
            if action.direction is None:
                continue
            moved = displacement(clip, action.object_id)
            if moved is None:
                continue
            axis, sign = SIGNS[action.direction]
            assert float(moved[axis]) * sign > 0.02, f"seed {seed}: {action} but moved by {moved.tolist()}"
            told[action.direction] += 1
    assert min(told.values()) >= 2, told


def test_captions_mention_every_moving_object_with_its_verb_and_direction() -> None:
    for seed in range(150):
        scene = sample_scene(seed)
        for action in scene.actions:
            if action.verb == "still" and all(other.verb == "still" for other in scene.actions):
                continue
            assert action.noun in scene.caption
            assert any(words in scene.caption.lower() for words in VERB_PHRASES[action.verb]), (
                action,
                scene.caption,
            )
            if action.direction:
                assert any(words in scene.caption.lower() for words in DIRECTION_PHRASES[action.direction]), (
                    scene.caption
                )


def test_a_caption_without_motion_moves_nothing() -> None:
    quiet = [seed for seed in range(150) if all(a.verb == "still" for a in sample_scene(seed).actions)]
    assert quiet
    for seed in quiet[:5]:
        clip = render_clip(sample_scene(seed), height=24, width=32, frames=3)
        assert torch.equal(clip.tracks.positions[0], clip.tracks.positions[2])


@pytest.mark.parametrize("seed", range(8))
def test_another_motion_seed_keeps_the_picture(seed: int) -> None:
    stories = [sample_scene(seed, motion_seed=other) for other in range(4)]
    clips = [render_clip(story, height=36, width=48, frames=3) for story in stories]
    for clip in clips[1:]:
        torch.testing.assert_close(clip.tracks.colours, clips[0].tracks.colours, rtol=0, atol=1e-5)
        torch.testing.assert_close(clip.depth.depth_m, clips[0].depth.depth_m, rtol=1e-6, atol=1e-6)


def test_motion_seeds_tell_different_stories() -> None:
    for seed in range(8):
        assert len({sample_scene(seed, motion_seed=other).actions for other in range(12)}) > 2


def test_seeds_make_different_worlds() -> None:
    pictures = [
        render_clip(sample_scene(seed), height=12, width=16, frames=1).tracks.colours for seed in range(10)
    ]
    for index, picture in enumerate(pictures):
        for other in pictures[index + 1 :]:
            assert (picture - other).abs().mean() > 0.01


def test_many_scenes_show_several_objects() -> None:
    counts = [sum(body.object_id > 0 for body in sample_scene(seed).bodies) for seed in range(200)]
    assert 0.2 < sum(count > 1 for count in counts) / len(counts) < 0.6


@pytest.mark.parametrize("aspect", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_aspects_are_refused(aspect: float) -> None:
    with pytest.raises(ValueError, match="aspect must be positive"):
        sample_scene(0, aspect=aspect)
