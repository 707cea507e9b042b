"""Laws of training pairs from files: what is known agrees with the video, holes are what no camera sees."""

from dataclasses import replace

import pytest
import torch

from more4d.datasets.batch import ViewBatch
from more4d.datasets.view_pairs import FileViewOptions, FileViews, hide_unseen, resize_video
from more4d.files.clip_shards import ShardWriter
from more4d.foundation.errors import InputError
from more4d.geometry.poses import named_camera_path
from more4d.scenes.render import render_clip
from more4d.scenes.scene_sampling import sample_scene
from tests.datasets.clip_files import scene_clip, write_scenes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    write_scenes(folder, [(48, 64), (48, 64), (48, 64)], frames=5)
    return folder


def options(folder, **changes):
    values = {"shapes": ((48, 64),), "group": 1, "frames": 5, "flip": 0.0, "min_crop": 1.0}
    return FileViewOptions(folder=folder, **{**values, **changes})


def test_what_is_known_is_what_the_video_shows(folder):
    data = FileViews(options(folder, second_view=0.0), seed=0)
    for index in range(3):
        pair = data[index]
        assert pair.truth.shape == pair.known.shape == (1, 3, 5, 48, 64)
        first = (pair.known - pair.truth)[:, :, 0].abs() * pair.coverage[:, :, 0]
        assert float(first.mean()) < 0.08  # the video was compressed, the photo was not
        later = ((pair.known - pair.truth).abs() * pair.coverage).sum() / (3 * pair.coverage.sum())
        assert float(later) < 0.15
        assert float(pair.coverage[:, :, 0].mean()) > 0.98


def test_a_second_view_opens_more_holes_and_none_in_the_photo(folder):
    plain = FileViews(options(folder, second_view=0.0), seed=0)
    opened = FileViews(options(folder, second_view=1.0, strength=(2.0, 2.0)), seed=0)
    shares = [
        [float(data[index].coverage[:, :, 1:].mean()) for index in range(3)] for data in (plain, opened)
    ]
    assert sum(shares[1]) < sum(shares[0])
    assert all(float(opened[index].coverage[:, :, 0].mean()) > 0.98 for index in range(3))


def test_only_what_a_path_sees_stays_in_front_of_the_camera():
    clip = render_clip(sample_scene(2, aspect=4 / 3), height=48, width=64, frames=5)
    away = named_camera_path(
        "x_moving", frames=5, scene_depth_m=clip.depth.scene_depth_m, camera=clip.tracks.camera, strength=3.0
    )
    still = named_camera_path("static", frames=5, scene_depth_m=1.0, camera=clip.tracks.camera)
    gone = [
        float((hide_unseen(clip.tracks, path).positions[..., 2] < 0).float().mean()) for path in (still, away)
    ]
    assert gone[0] < 0.05 and gone[1] > 0.1
    assert torch.equal(hide_unseen(clip.tracks, away).positions[0], clip.tracks.positions[0])


def test_a_short_clip_is_padded_by_frames_that_are_not_real(folder):
    pair = FileViews(options(folder, frames=9), seed=0)[0]
    assert pair.truth.shape[2] == 9
    assert pair.real.tolist() == [[1.0] * 5 + [0.0] * 4]
    assert ViewBatch.collate([pair, pair]).real.shape == (2, 9)


def test_a_given_rendering_is_used_when_asked_for(tmp_path):
    clip = scene_clip(3, 48, 64, 5)
    coverage = torch.ones(5, 48, 64, dtype=torch.bool)
    coverage[:, :, :32] = False
    with ShardWriter(tmp_path) as writer:
        writer.add(replace(clip, rendering=clip.video, coverage=coverage))
    pair = FileViews(options(tmp_path, stored_rendering_prob=1.0), seed=0)[0]
    assert torch.equal(pair.coverage[0, 0] > 0.5, coverage)
    assert float((pair.known[..., :32] - pair.known[..., 32:].mean()).abs().max()) < 0.9  # their mean colours
    torch.testing.assert_close(pair.known[..., 32:], pair.truth[..., 32:], atol=0.2, rtol=0)


def test_clips_without_a_video_are_left_out(tmp_path):
    with ShardWriter(tmp_path) as writer:
        writer.add(replace(scene_clip(3, 48, 64, 5), video=None))
    with pytest.raises(InputError, match="none of the 1 clips"):
        FileViews(options(tmp_path), seed=0)
    with ShardWriter(tmp_path) as writer:
        writer.add(scene_clip(4, 48, 64, 5))
    data = FileViews(options(tmp_path), seed=0)
    assert len(data) == 1
    assert data[0].captions == (scene_clip(4, 48, 64, 5).tracks.caption,)


def test_films_are_resized_within_their_range():
    frames = torch.randint(0, 256, (2, 8, 12, 3), dtype=torch.uint8)
    small = resize_video(frames, (4, 6))
    assert small.shape == (2, 4, 6, 3)
    assert float(small.min()) >= -1 and float(small.max()) <= 1
    assert torch.equal(((resize_video(frames, (8, 12)) + 1) * 127.5).round().byte(), frames)
