"""Pictures with words, and stories that could follow."""

import torch

from more4d.datasets.kinds import VERBS, WORDS
from more4d.datasets.pictures import PictureBatch, PictureOptions, Pictures, crowded_world
from more4d.foundation.seeding import numpy_generator
from more4d.scenes.held_out import HELD_OUT_SEED
from more4d.scenes.library import count_objects

SMALL = PictureOptions(shapes=((32, 48), (48, 32)), group=2, stories=2)


def test_an_index_is_always_the_same_picture():
    first, again = (Pictures(SMALL, seed=1)[5] for _ in range(2))
    assert torch.equal(first.image, again.image) and first.captions == again.captions
    assert not torch.equal(first.image.mean(), Pictures(SMALL, seed=2)[5].image.mean())


def test_a_picture_has_one_set_of_things_and_several_stories():
    pictures = Pictures(SMALL, seed=0)
    batch = PictureBatch.collate([pictures[index] for index in (2, 3)])
    assert batch.kinds.shape[:3] == (2, 2, len(WORDS)) and len(batch.told()) == 4
    assert torch.equal(batch.kinds[:, 0, :2], batch.kinds[:, 1, :2])
    assert bool((batch.image.abs() <= 1).all())
    things = batch.kinds[:, :, 0] > 0
    assert torch.equal(things, batch.kinds[:, :, 2] > 0)
    stories = [
        {VERBS[number - 1] for number in batch.kinds[clip, story, 2].unique().tolist() if number}
        for clip in range(2)
        for story in range(2)
    ]
    assert any(said - {"still"} for said in stories)


def test_crowded_worlds_show_several_things():
    draw = numpy_generator("test", 0)
    worlds = [crowded_world(draw, 1.0, 4 / 3) for _ in range(6)]
    assert all(count_objects(world) > 1 for world in worlds)
    assert max(worlds) < HELD_OUT_SEED
