"""Laws of training from a latent cache: the same loss as from pixels, made in pieces, by many, once."""

import json

import pytest
import torch
import yaml

from more4d.datasets.latent_cache import LatentClips, read_header
from more4d.foundation.config import from_mapping, to_mapping
from more4d.foundation.errors import ConfigError, InputError
from more4d.training.cache import CacheOptions, make_cache, open_task
from more4d.training.run import task_type
from more4d.weights.load import inspect
from tests.datasets.clip_files import write_scenes
from tests.presets import write_random_preset

SHAPE = {"shapes": [[32, 48]], "group": 2, "frames": 5}


@pytest.fixture(scope="module", params=["tiny", "wan"])
def weights(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"weights_{request.param}")
    write_random_preset(folder, request.param)
    return folder


def written(folder, weights, task, **options):
    """A training configuration of a small task, as a file."""
    part = {"strag": "trajectory_codec", "vism": "video_codec"}[task]
    more = (
        {"motion_features_weights": str(weights / "motion_features.safetensors")} if task == "strag" else {}
    )
    values = {
        "task": task,
        "export": str(folder / "weights"),
        "loop": {"steps": 2, "batch_size": 2, "threads": 1, "workers": 0},
        "options": {
            "codec": str(weights / f"{part}.safetensors"),
            "text": str(weights / "text.safetensors"),
            "network": to_mapping(inspect(weights / f"{task}.safetensors").config),
            "start": {"weights": str(weights / f"{task}.safetensors")},
            "flow": {"text_dropout": 0.5, "image_dropout": 0.3, "depth_dropout": 0.3, "difference": 0.25}
            if task == "strag"
            else {"text_dropout": 0.5},
            "data": {**SHAPE, **({} if task == "strag" else {"pairs": 4})},
            **more,
            **options,
        },
    }
    path = folder / f"{task}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def made(config, output, **options):
    job = CacheOptions(config=config, output=output, samples=4, per_file=2, **options)
    return [done for done, _ in make_cache(job)]


def task_of(config, **options):
    values = yaml.safe_load(config.read_text())
    kind = task_type(values["task"])
    return kind(from_mapping(kind.options_type, {**values["options"], **options}))


def loss_and_gradient(task, batch):
    task.zero_grad()
    loss = task(batch, torch.Generator().manual_seed(7))["loss"]
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in task.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["strag", "vism"])
def test_a_cache_trains_as_pixels_do(weights, tmp_path, name):
    config = written(tmp_path, weights, name)
    assert made(config, tmp_path / "cache", dtype="float32") == [0, 2, 4]
    pixels = task_of(config)
    latents = task_of(config, cache=str(tmp_path / "cache"))
    assert latents.codec is None  # nobody encodes any more
    data, cached = pixels.dataset(), latents.dataset()
    for start in (0, 2):
        batch = pixels.collate([data[start], data[start + 1]])
        stored = latents.collate([cached.sample(start), cached.sample(start + 1)])
        expected, slopes = loss_and_gradient(pixels, batch)
        loss, stored_slopes = loss_and_gradient(latents, stored)
        torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-5)
        assert slopes.keys() == stored_slopes.keys()
        for parameter, slope in slopes.items():
            torch.testing.assert_close(stored_slopes[parameter], slope, atol=1e-5, rtol=1e-3)


def test_half_precision_changes_the_loss_by_its_rounding_only(weights, tmp_path):
    config = written(tmp_path, weights, "strag")
    made(config, tmp_path / "cache")
    pixels, latents = task_of(config), task_of(config, cache=str(tmp_path / "cache"))
    data, cached = pixels.dataset(), latents.dataset()
    expected, _ = loss_and_gradient(pixels, pixels.collate([data[0], data[1]]))
    loss, _ = loss_and_gradient(latents, latents.collate([cached.sample(0), cached.sample(1)]))
    torch.testing.assert_close(loss, expected, atol=0, rtol=1e-3)


def assert_equal(one, other):
    """Two caches hold the same samples, bit for bit."""
    for place in range(4):
        samples = [vars(LatentClips(folder, seed=0).sample(place)) for folder in (one, other)]
        assert samples[0].keys() == samples[1].keys()
        for name, value in samples[0].items():
            same = samples[1][name]
            assert torch.equal(value, same) if isinstance(value, torch.Tensor) else value == same, name


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    write_random_preset(folder, "tiny")
    return folder


def test_an_interrupted_cache_is_gone_on_with_and_comes_out_the_same(tiny, tmp_path):
    config = written(tmp_path, tiny, "strag")
    made(config, tmp_path / "once")
    job = make_cache(CacheOptions(config=config, output=tmp_path / "twice", samples=4, per_file=2))
    next(job), next(job)
    job.close()
    assert made(config, tmp_path / "twice") == [2, 4]
    assert made(config, tmp_path / "twice") == [4]
    assert_equal(tmp_path / "once", tmp_path / "twice")
    assert read_header(tmp_path / "once").reach
    assert len(LatentClips(tmp_path / "once", seed=0).column("reach")) == 4


@pytest.mark.parametrize("threads", [1, 3])
def test_more_processes_write_the_same_cache(tiny, tmp_path, threads):
    """They share this process's threads; another number of threads rounds sums in another order."""
    config = written(tmp_path, tiny, "strag")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        made(config, tmp_path / "one")
        torch.set_num_threads(2 * threads)
        assert made(config, tmp_path / "two", workers=2)[-1] == 4
    finally:
        torch.set_num_threads(before)
    assert_equal(tmp_path / "one", tmp_path / "two")


def test_a_cache_of_other_encoders_is_not_trained_from(tiny, tmp_path):
    config = written(tmp_path, tiny, "strag")
    made(config, tmp_path / "cache")
    other = tmp_path / "other"
    write_random_preset(other, "tiny")
    text = (tiny / "vism.safetensors").read_bytes()  # any other content
    (other / "text.safetensors").write_bytes(text)
    with pytest.raises(ConfigError, match=r"not made with .*text\.safetensors"):
        task_of(config, cache=str(tmp_path / "cache"), text=str(other / "text.safetensors"))


def test_what_a_task_trains_cannot_be_cached(tiny, tmp_path):
    config = written(tmp_path, tiny, "strag")
    values = yaml.safe_load(config.read_text())
    values["task"] = "tiny-strag"
    config.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match="tiny-strag"):
        made(config, tmp_path / "cache")
    with pytest.raises(ConfigError, match="use task: strag"):
        task_of(config, cache=str(tmp_path / "cache"))


def test_endless_data_need_a_number_of_samples(tiny, tmp_path):
    config = written(tmp_path, tiny, "strag")
    with pytest.raises(ConfigError, match="how many samples"):
        list(make_cache(CacheOptions(config=config, output=tmp_path / "cache")))


def test_the_header_says_what_the_cache_was_made_of(tiny, tmp_path):
    config = written(tmp_path, tiny, "vism")
    made(config, tmp_path / "cache")
    header = read_header(tmp_path / "cache")
    assert header.kind == "vism-latents"
    assert not header.reach
    assert header.made_of.keys() == {"codec", "text"}
    assert header.settings["data.shapes"] == "[[32, 48]]"
    assert header.settings["seed"] == "0"
    assert header.settings["network.background_fill"] == "False"
    network = {**to_mapping(inspect(tiny / "vism.safetensors").config), "background_fill": True}
    refusal = r"network\.background_fill=False, and options\.network\.background_fill is True"
    with pytest.raises(ConfigError, match=refusal):
        task_of(config, cache=str(tmp_path / "cache"), network=network, start={})


def test_options_that_the_cache_was_not_made_with_are_refused(tiny, tmp_path):
    config = written(tmp_path, tiny, "strag")
    made(config, tmp_path / "cache")
    with pytest.raises(ConfigError, match=r"data\.frames=5, and options\.data\.frames is 9"):
        task_of(config, cache=str(tmp_path / "cache"), data={**SHAPE, "frames": 9})
    with pytest.raises(ConfigError, match="moving_threshold"):
        task_of(config, cache=str(tmp_path / "cache"), moving_threshold=0.1)
    clips = {"folder": str(tmp_path), **SHAPE}
    with pytest.raises(ConfigError, match=r"clips\.\w+=None"):
        task_of(config, cache=str(tmp_path / "cache"), clips=clips)


def test_bad_clips_are_counted_and_bounded(tiny, tmp_path):
    write_scenes(tmp_path / "clips", [(32, 48)] * 4, frames=5)
    shard = tmp_path / "clips" / "clips-000000.tar"
    clips = {"folder": str(tmp_path / "clips"), **SHAPE, "flip": 0.0}
    config = written(tmp_path, tiny, "strag", clips=clips)
    index = json.loads(shard.with_suffix(".json").read_text())
    place = index["clips"][1]["members"]["tracks"][0]
    data = bytearray(shard.read_bytes())
    data[place + 40] ^= 1
    shard.write_bytes(bytes(data))
    job = CacheOptions(config=config, output=tmp_path / "cache")
    with pytest.raises(InputError, match="1 samples are bad"):
        list(make_cache(job))
    allowed = CacheOptions(config=config, output=tmp_path / "more", overrides=("loop.max_bad_fraction=0.5",))
    assert list(make_cache(allowed))[-1] == (4, 4)
    stored = LatentClips(tmp_path / "more", seed=0)
    assert "scene_1" not in {name for place in range(4) for name in stored.sample(place).names}


def test_no_generator_is_built_to_encode(tiny, tmp_path):
    config = written(tmp_path, tiny, "strag")
    task = open_task(CacheOptions(config=config, output=tmp_path / "cache"))
    assert task.strag is None and not any(name.startswith("strag") for name, _ in task.named_parameters())
