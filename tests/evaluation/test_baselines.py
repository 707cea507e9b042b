"""Baselines without networks: mean motion, and inpainting from known pixels."""

import pytest
import torch

from more4d.evaluation import tracks
from more4d.evaluation.data import unseen_scene
from more4d.evaluation.tracks import apply_mean_motion, mean_motion
from more4d.evaluation.views import nearest_colour, opencv_inpainting
from more4d.geometry.tracks import normalise_motion
from more4d.scenes.render import render_clip


@pytest.fixture(scope="module")
def means():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracks, "SURVEYED", 40)
        return mean_motion(5)


def test_the_mean_motion_of_a_direction_goes_that_way(means):
    assert means["left"][-1, 0] < -0.02 < 0.02 < means["right"][-1, 0]
    assert means["toward"][-1, 2] < -0.05 < 0.05 < means["away"][-1, 2]
    assert all(motion[0].abs().max() < 1e-6 for motion in means.values())


def test_only_what_the_prompt_lets_move_is_moved_by_the_mean(means):
    unseen = unseen_scene(0)
    clip = render_clip(unseen.scene, height=48, width=64, frames=5, visibility="none")
    motion = normalise_motion(apply_mean_motion(clip, means), clip.tracks.camera)
    action = unseen.scene.actions[0]
    there = clip.object_ids == action.object_id
    torch.testing.assert_close(motion[-1][there][0], means[action.direction][-1], rtol=1e-3, atol=1e-4)
    assert motion[:, ~there].abs().max() < 1e-5


def holed():
    video = torch.zeros(2, 12, 16, 3)
    video[:, :, :8] = torch.tensor([1.0, 0.0, 0.0])
    video[:, :, 8:] = torch.tensor([0.0, 0.0, 1.0])
    coverage = torch.ones(2, 12, 16)
    coverage[:, 4:8, 1:3] = 0
    return video, coverage


@pytest.mark.parametrize("fill", [nearest_colour, opencv_inpainting])
def test_a_hole_takes_the_colour_around_it(fill):
    video, coverage = holed()
    filled = fill(video * coverage[..., None], coverage)
    assert torch.allclose(filled[:, 4:8, 1:3], torch.tensor([1.0, 0.0, 0.0]), atol=0.1)
    assert torch.allclose(filled[coverage > 0], video[coverage > 0], atol=1e-2)


def test_a_frame_without_anything_known_is_grey():
    video, _ = holed()
    assert torch.equal(nearest_colour(video, torch.zeros(2, 12, 16)), torch.full_like(video, 0.5))
