"""Laws of the latent cache: what goes in comes out, whole files only, and groups stay together."""

import json
import pickle
from dataclasses import replace

import pytest
import torch

from more4d.datasets.batch import ViSMLatents, pad_text, trim_text
from more4d.datasets.latent_cache import CacheHeader, LatentCache, LatentClips, file_of, read_header
from more4d.foundation.errors import InputError


def header(**changes):
    values = {"kind": "vism-latents", "samples": 6, "group": 2, "per_file": 4, "dtype": "float32"}
    return CacheHeader(**{**values, **changes})


def sample(number, words=2):
    torch.manual_seed(number)
    text = torch.randn(1, words, 3)
    return ViSMLatents(
        video=torch.randn(1, 16, 2, 2, 3 + number % 2 // 2),
        known=torch.randn(1, 16, 2, 2, 3),
        mask=torch.ones(1, 4, 2, 2, 3),
        text=pad_text(text, 5),
        real=torch.ones(1, 2),
        captions=(f"scene {number}",),
    )


@pytest.fixture
def made(tmp_path):
    cache = LatentCache.begin(tmp_path, header(), {"empty_text": torch.zeros(1, 3)})
    for number in cache.missing():
        cache.write(number, [sample(place) for place in cache.header.file_range(number)])
    return tmp_path


def test_what_goes_in_comes_out(made):
    clips = LatentClips(made, seed=0)
    assert torch.equal(clips.constants()["empty_text"], torch.zeros(1, 3))
    for place in range(6):
        stored, original = clips.sample(place), sample(place)
        assert stored.captions == original.captions
        assert stored.clip is None
        assert torch.equal(stored.video, original.video)
        assert torch.equal(pad_text(stored.text, 5), original.text)
        assert stored.text.shape[1] == 2  # zeros behind the text take no room


def test_lower_precision_rounds_and_refuses_what_does_not_fit(tmp_path):
    cache = LatentCache.begin(tmp_path, header(samples=2, dtype="float16"), {})
    cache.write(0, [sample(0), sample(1)])
    stored = LatentClips(tmp_path, seed=0).sample(1)
    torch.testing.assert_close(stored.video, sample(1).video, atol=2e-3, rtol=1e-3)
    assert stored.video.dtype == torch.float32
    huge = ViSMLatents(**{**vars(sample(0)), "video": torch.full((1, 16, 2, 2, 3), 1e6)})
    with pytest.raises(InputError, match="video does not fit into float16"):
        cache.write(0, [huge, sample(1)])


def test_every_epoch_shows_every_sample_once_in_whole_groups(made):
    clips = LatentClips(made, seed=3)
    epochs = [[clips.place(index) for index in range(e * 6, e * 6 + 6)] for e in range(4)]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
    assert all(b == a + 1 and a % 2 == 0 for e in epochs for a, b in zip(e[::2], e[1::2], strict=True))
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_texts_of_a_batch_have_the_length_of_the_longest():
    batch = ViSMLatents.collate([sample(0, words=1), sample(1, words=4)])
    assert batch.text.shape == (2, 5, 3)
    short = ViSMLatents.collate([replace(s, text=trim_text(s.text)) for s in (sample(0, 1), sample(1, 4))])
    assert short.text.shape == (2, 4, 3)
    assert torch.equal(short.text, batch.text[:, :4])


def test_an_incomplete_cache_is_gone_on_with_and_not_trained_from(tmp_path):
    cache = LatentCache.begin(tmp_path, header(), {})
    cache.write(1, [sample(4), sample(5)])
    with pytest.raises(InputError, match="lacks 1 of 2 files"):
        LatentClips(tmp_path, seed=0)
    again = LatentCache.begin(tmp_path, header(), {})
    assert again.missing() == [0]


@pytest.mark.parametrize(
    "change", [{"samples": 8}, {"dtype": "float16"}, {"made_of": {"codec": "x"}}, {"settings": {"seed": "1"}}]
)
def test_a_cache_of_something_else_is_left_alone(made, change):
    with pytest.raises(InputError, match=f"another {next(iter(change))}"):
        LatentCache.begin(made, header(**change), {})


def test_a_cache_of_before_there_was_a_reach_is_read_but_not_gone_on_with(made):
    values = json.loads((made / "cache.json").read_text())
    del values["reach"]
    (made / "cache.json").write_text(json.dumps(values))
    assert LatentClips(made, seed=0).sample(5).captions == ("scene 5",)
    with pytest.raises(InputError, match="another reach: False, not True"):
        LatentCache.begin(made, header(reach=True), {})


def test_a_damaged_file_is_named(made):
    path = file_of(made, 1)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=rf"{path.name} is damaged"):
        LatentClips(made, seed=0).sample(4)


def test_a_folder_without_a_cache_and_a_newer_one_are_refused(tmp_path, made):
    with pytest.raises(InputError, match="no latent cache"):
        read_header(tmp_path / "none")
    values = json.loads((made / "cache.json").read_text())
    (made / "cache.json").write_text(json.dumps({**values, "version": 99}))
    with pytest.raises(InputError, match="version 1"):
        read_header(made)


def test_a_data_set_goes_to_other_processes_without_its_open_files(made):
    clips = LatentClips(made, seed=0)
    clips.sample(0)
    other = pickle.loads(pickle.dumps(clips))
    assert other._files == {}
    assert torch.equal(other.sample(0).video, clips.sample(0).video)


def test_halves_of_groups_are_refused():
    with pytest.raises(InputError, match="whole groups"):
        header(samples=5)
