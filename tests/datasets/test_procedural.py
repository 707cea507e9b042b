"""Laws of the procedural data set."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import avg_pool2d

from more4d.datasets.batch import ClipBatch
from more4d.datasets.procedural import ProceduralClips, ProceduralOptions, degrade_depth
from more4d.foundation.errors import ConfigError
from more4d.scenes.scene_sampling import count_objects

SMALL = ProceduralOptions(shapes=((32, 48), (48, 32)), group=2, frames=5)


def test_an_index_is_always_the_same_clip():
    first, second = (ProceduralClips(SMALL, seed=3)[5] for _ in range(2))
    assert torch.equal(first.motion, second.motion)
    assert torch.equal(first.depth_m, second.depth_m)
    assert first.captions == second.captions


def test_a_group_shares_its_shape_and_can_be_joined():
    clips = ProceduralClips(SMALL, seed=3)
    batch = ClipBatch.collate([clips[6], clips[7]])
    assert batch.motion.shape[:3] == (2, 3, 5)
    assert batch.image.shape[-2:] == batch.motion.shape[-2:]
    assert len(batch.captions) == 2


def test_ranges_are_those_of_networks():
    batch = ProceduralClips(SMALL, seed=3)[0]
    assert batch.image.min() >= -1
    assert batch.image.max() <= 1
    assert batch.motion[:, :, 0].abs().max() == 0
    assert (batch.depth_m > 0).all()
    assert set(batch.objects.unique().tolist()) <= {0.0, 1.0}


def test_hidden_points_weigh_less():
    from dataclasses import replace

    options = replace(SMALL, frames=13, hidden_weight=0.25)
    weights = torch.cat([ProceduralClips(options, seed=3)[i].weight.flatten() for i in range(6)])
    assert set(weights.unique().tolist()) == {0.25, 1.0}


def test_degrading_depth_keeps_it_positive_and_near():
    depth = ProceduralClips(SMALL, seed=3)[0].depth_m
    degraded = degrade_depth(depth, torch.Generator().manual_seed(0))
    assert (degraded > 0).all()
    assert not torch.equal(degraded, depth)
    assert float((degraded.log() - depth.log()).abs().median()) < 0.7


@pytest.mark.parametrize("count", [1, 2])
def test_few_worlds_return_with_other_motions(count):
    from dataclasses import replace

    clips = ProceduralClips(replace(SMALL, worlds=count, shapes=((32, 48),)), seed=1)
    pictures = {clips[i].image.sum().item() for i in range(6)}
    captions = {clips[i].captions for i in range(6)}
    assert len(pictures) <= count
    assert len(captions) > count


def test_stories_of_one_world_share_its_picture_and_not_its_motion():
    from dataclasses import replace

    told = ProceduralClips(replace(SMALL, captions_per_scene=2, depth_noise=0.0), seed=3)
    pairs = [(told[index], told[index + 1]) for index in range(0, 6, 2)]
    assert all(torch.equal(one.image, other.image) for one, other in pairs)
    assert all(one.captions != other.captions for one, other in pairs)
    assert not torch.equal(pairs[0][0].image, pairs[1][0].image)


@pytest.mark.parametrize("captions_per_scene", [0, 3])
def test_captions_per_scene_must_divide_groups(captions_per_scene):
    with pytest.raises(ConfigError, match="divisor of group 2"):
        ProceduralOptions(group=2, captions_per_scene=captions_per_scene)


def test_crowded_worlds_show_several_things():
    from dataclasses import replace

    def counts(multi_object_prob):
        clips = ProceduralClips(replace(SMALL, multi_object_prob=multi_object_prob), seed=3)
        worlds = [int(clips[index].names[0].split()[1]) for index in range(12)]
        return [count_objects(world, aspect=1.5) for world in worlds]

    assert sum(count > 1 for count in counts(1.0)) > sum(count > 1 for count in counts(0.0))


def test_a_closer_photo_shows_the_same_sharper():
    options = replace(SMALL, shapes=((96, 128),), photo_scale=2, depth_noise=0.0)
    near, far = (
        ProceduralClips(options, seed=3)[1],
        ProceduralClips(replace(options, photo_scale=1), seed=3)[1],
    )
    assert far.photo is None and near.photo.shape == (1, 3, 192, 256)
    assert torch.equal(near.image, far.image) and torch.equal(near.motion, far.motion)
    shrunk = avg_pool2d(near.photo, 2)
    assert (shrunk - near.image).abs().mean() < 0.5 * (
        shrunk.mean((2, 3), keepdim=True) - near.image
    ).abs().mean()
