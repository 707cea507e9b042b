"""Pictures with words, and captions of what could follow."""

import torch

from more4d.datasets.labelled_images import (
    VERBS,
    VOCABULARIES,
    LabelledImageBatch,
    LabelledImageOptions,
    LabelledImages,
    sample_world,
)
from more4d.foundation.config import numpy_generator
from more4d.scenes.held_out import HELD_OUT_SEED
from more4d.scenes.scene_sampling import count_objects

SMALL = LabelledImageOptions(shapes=((32, 48), (48, 32)), group=2, captions_per_scene=2)


def test_an_index_is_always_the_same_picture():
    first, again = (LabelledImages(SMALL, seed=1)[5] for _ in range(2))
    assert torch.equal(first.image, again.image) and first.captions == again.captions
    assert not torch.equal(first.image.mean(), LabelledImages(SMALL, seed=2)[5].image.mean())


def test_a_picture_has_one_set_of_things_and_several_stories():
    images = LabelledImages(SMALL, seed=0)
    batch = LabelledImageBatch.collate([images[index] for index in (2, 3)])
    assert batch.labels.shape[:3] == (2, 2, len(VOCABULARIES)) and len(sum(batch.captions, ())) == 4
    assert torch.equal(batch.labels[:, 0, :2], batch.labels[:, 1, :2])
    assert bool((batch.image.abs() <= 1).all())
    things = batch.labels[:, :, 0] > 0
    assert torch.equal(things, batch.labels[:, :, 2] > 0)
    stories = [
        {VERBS[number - 1] for number in batch.labels[clip, story, 2].unique().tolist() if number}
        for clip in range(2)
        for story in range(2)
    ]
    assert any(said - {"still"} for said in stories)


def test_crowded_worlds_show_several_things():
    rng = numpy_generator("test", 0)
    worlds = [sample_world(rng, 1.0, 4 / 3) for _ in range(6)]
    assert all(count_objects(world) > 1 for world in worlds)
    assert max(worlds) < HELD_OUT_SEED
