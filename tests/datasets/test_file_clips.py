"""Laws of clips from files: every clip once an epoch, one shape in a group, the camera cut along."""

from pathlib import Path

import pytest
import torch

from more4d.datasets.batch import ClipBatch
from more4d.datasets.file_clips import (
    EpochOrder,
    FileClipOptions,
    FileClips,
    can_mirror,
    clip_batch,
    cut_clip,
    mirror_caption,
)
from more4d.files.clips import Clip
from more4d.foundation.config import numpy_generator
from more4d.foundation.errors import ConfigError, InputError
from more4d.geometry.tracks import normalise_motion
from tests.datasets.clip_files import scene_clip, write_scenes

SIZES = [(32, 48), (48, 32), (36, 54), (32, 48), (50, 34)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    write_scenes(folder, SIZES, frames=5)
    return folder


def options(folder, **changes):
    values = {"shapes": ((32, 48), (48, 32)), "group": 2, "frames": 5, "passes": 1}
    return FileClipOptions(folder=folder, **{**values, **changes})


def test_every_epoch_shows_every_clip_in_groups_of_one_shape():
    order = EpochOrder([0, 0, 0, 1, 1, 0], group=2, seed=4)
    assert len(order) == 6
    for epoch in range(5):
        shown = [order(epoch * 6 + place) for place in range(6)]
        assert {clip for clip, _ in shown} == set(range(6))
        assert all(one[1] == other[1] for one, other in zip(shown[::2], shown[1::2], strict=True))
    assert len({tuple(order(epoch * 6 + place) for place in range(6)) for epoch in range(5)}) > 1


def test_a_group_that_is_not_full_is_filled_with_clips_of_its_shape():
    order = EpochOrder([0, 0, 0, 1], group=2, seed=0)
    assert len(order) == 6
    shown = [order(place) for place in range(6)]
    assert sorted(clip for clip, shape in shown if shape == 1) == [3, 3]
    assert {clip for clip, shape in shown if shape == 0} == {0, 1, 2}


def test_as_many_passes_as_a_group_has_samples_show_no_shape_more_often_than_its_clips():
    order = EpochOrder([0, 0, 0, 0, 1], group=4, seed=2, passes=4)
    assert len(order) == 20
    shown = [order(place) for place in range(20)]
    assert all(sum(clip == seen for clip, _ in shown) == 4 for seen in range(5))
    assert all(len({shape for _, shape in shown[start : start + 4]}) == 1 for start in range(0, 20, 4))


def test_a_sample_is_always_the_same_and_later_epochs_cut_otherwise(folder):
    data, again = FileClips(options(folder), seed=0), FileClips(options(folder), seed=0)
    assert torch.equal(data[3].motion, again[3].motion)
    assert len(data) == 6
    photos = {data.order(index)[0]: data[index].image for index in range(6)}
    later = {data.order(index)[0]: data[index].image for index in range(6, 12)}
    assert any(not torch.equal(photos[clip], later[clip]) for clip in photos)


def test_batches_are_joined_and_each_clip_goes_to_the_nearest_shape(folder):
    data = FileClips(options(folder), seed=1)
    for start in range(0, len(data), 2):
        batch = ClipBatch.collate([data[start], data[start + 1]])
        assert batch.image.shape[-2:] in {(32, 48), (48, 32)}
        assert batch.motion.shape[1:3] == (3, 5)
    for index in range(len(data)):
        clip, shape = data.order(index)
        info = data.shards.info(clip)
        assert (info.height > info.width) == (shape == 1)


def test_cutting_keeps_every_point_on_its_pixel(folder):
    clip = scene_clip(3, 48, 64, 5)
    for seed in range(4):
        cut = cut_clip(clip, options(folder, min_crop=0.5), (32, 48), numpy_generator("test", seed))
        position, _ = cut.tracks.camera.project(cut.tracks.positions[0])
        rays = cut.tracks.camera.project(cut.tracks.camera.rays(32, 48))[0]
        # Points are taken, not mixed: each lies within a pixel of the clip from its own pixel's centre.
        assert float((position - rays).abs().max()) < 1.01 / (0.5 * 48)


def test_mirroring_turns_motion_and_caption_round(folder):
    clip = scene_clip(3, 32, 48, 5, caption="The ball rolls to the left, rightmost of all")
    straight, mirrored = (
        cut_clip(clip, options(folder, min_crop=1.0, flip=flip), (32, 48), numpy_generator("test", 0))
        for flip in (0.0, 1.0)
    )
    motions = [normalise_motion(cut.tracks.positions, cut.tracks.camera) for cut in (straight, mirrored)]
    torch.testing.assert_close(motions[1].flip(2) * torch.tensor([-1.0, 1.0, 1.0]), motions[0])
    assert torch.equal(mirrored.video.flip(2), straight.video)
    assert mirrored.tracks.caption == "The ball rolls to the right, leftmost of all"


@pytest.mark.parametrize(
    ("caption", "sure"),
    [
        ("the ball slides rightward", True),
        ("A dog turns left, then to the right", True),
        ("Left of the post a bus drives leftwards", True),
        ("a man left the room right away", False),
        ("the bird has left", False),
        ("an upright post in a brightly lit cleft", True),
        ("", True),
    ],
)
def test_only_captions_whose_sides_are_sure_are_mirrored(caption, sure):
    assert can_mirror(caption) == sure


@pytest.mark.parametrize("caption", ["Left of the upright post, a brightly lit cleft", "LEFT! right?"])
def test_mirroring_a_caption_twice_gives_it_back(caption):
    assert mirror_caption(mirror_caption(caption)) == caption
    assert mirror_caption(caption) != caption


def test_frames_that_only_pad_weigh_nothing():
    tracks = scene_clip(3, 32, 48, 5).tracks
    batch = clip_batch(tracks, FileClipOptions(folder=Path("."), frames=9), name="short")
    assert batch.motion.shape[2] == 9
    assert float(batch.weight[:, :, 5:].sum()) == 0
    assert float(batch.weight[:, :, :5].min()) > 0
    assert torch.equal(batch.motion[:, :, 8], batch.motion[:, :, 4])


def test_points_that_jump_weigh_nothing_and_a_clip_of_them_is_refused():
    clip = scene_clip(3, 32, 48, 5)
    wild = clip.tracks.positions.clone()
    wild[2:, :4, :4] += 1e4
    jumping = Clip(name="wild", tracks=type(clip.tracks)(**{**vars(clip.tracks), "positions": wild}))
    batch = clip_batch(jumping.tracks, FileClipOptions(folder=Path("."), frames=5), name="wild")
    assert float(batch.weight[:, :, 2:, :4, :4].sum()) == 0
    assert float(batch.motion.abs().max()) < 4
    wild[1:] += 1e4
    with pytest.raises(InputError, match="clip 'wild'"):
        clip_batch(jumping.tracks, FileClipOptions(folder=Path("."), frames=5), name="wild")


@pytest.mark.parametrize("wrong", [{"shapes": ((30, 48),)}, {"frames": 6}, {"min_crop": 0.0}, {"group": 0}])
def test_impossible_options_are_refused(folder, wrong):
    with pytest.raises(ConfigError):
        options(folder, **wrong)


def test_a_folder_without_shards_is_refused(tmp_path):
    with pytest.raises(InputError, match="shards"):
        FileClips(options(tmp_path), seed=0)
