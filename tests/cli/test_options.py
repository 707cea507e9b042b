"""What is given replaces what the preset says, for both stages or for each, and nothing else."""

import argparse

import pytest
import torch

from more4d.cli.options import add_sampling_options, open_device, usable_cores, with_sampling_options
from more4d.foundation.errors import ConfigError, InputError
from more4d.performance.config import StepCacheConfig
from more4d.pipelines import components
from more4d.pipelines.preset import ComponentFiles, Preset, Sampling

PARTS = ComponentFiles(trajectory_codec="a", strag="b", text="c", video_codec="d", vism="e")
MAGCACHE = StepCacheConfig(kind="magcache", ratios=(1.0, 0.98))


def preset() -> Preset:
    return Preset(
        name="some",
        frames=13,
        pixels=12288,
        tracks=Sampling(steps=2, open_steps=8, guidance=1.5, shift=4.0),
        views=Sampling(steps=4, cache=MAGCACHE),
        components=PARTS,
    )


def changed(*arguments: str) -> Preset:
    parser = argparse.ArgumentParser()
    add_sampling_options(parser)
    return with_sampling_options(preset(), parser.parse_args(arguments))


def test_nothing_given_changes_nothing():
    assert changed() == preset()


def test_one_value_is_for_both_stages_and_two_are_for_each():
    both, each = changed("--steps", "20"), changed("--steps", "20,30", "--guidance", "6,1")
    assert (both.tracks.steps, both.tracks.open_steps, both.views.steps) == (20, 0, 20)
    assert (each.tracks.steps, each.views.steps) == (20, 30)
    assert (each.tracks.guidance, each.views.guidance) == (6, 1)
    assert each.tracks.shift == 4


def test_sampler_shift_skip_and_compile_arrive():
    made = changed("--sampler", "unipc", "--shift", "3", "--guidance-skip", "0.25,0", "--compile")
    for stage in (made.tracks, made.views):
        assert (stage.sampler, stage.shift, stage.compile) == ("unipc", 3, True)
    assert (made.tracks.guidance_skip, made.views.guidance_skip) == (0.25, 0)


def test_a_cache_is_chosen_by_kind_and_amount():
    made = changed("--cache", "teacache:0.2,taylorseer:4")
    assert made.tracks.cache == StepCacheConfig(kind="teacache", threshold=0.2)
    assert made.views.cache == StepCacheConfig(kind="taylorseer", interval=4)
    assert changed("--cache", "none").views.cache is None


def test_what_the_preset_measured_is_kept():
    made = changed("--cache", "none,magcache:0.2").views.cache
    assert made == StepCacheConfig(kind="magcache", threshold=0.2, ratios=MAGCACHE.ratios)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--steps", "0", "1 to 1000 steps, got 0"),
        ("--steps", "1001", "1 to 1000 steps, got 1001"),
        ("--steps", "few", "whole numbers, got 'few'"),
        ("--steps", "2,3,4", "TRACKS,VIEWS"),
        ("--sampler", "magic", "euler, heun, unipc"),
        ("--shift", "0", "shift must be finite and above 0, got 0"),
        ("--shift", "inf", "shift must be finite and above 0, got inf"),
        ("--shift", "3,-1", "of the views: shift must"),
        ("--guidance", "nan,1", "of the tracks: guidance must be finite and at least 0, got nan"),
        ("--guidance", "6,", "TRACKS,VIEWS"),
        ("--guidance-skip", "2", "0 to 1"),
        ("--cache", "magic", "first-block"),
        ("--cache", "none:3", "'none' takes no amount"),
        ("--cache", "taylorseer:1.5", "interval must be int"),
        ("--cache", "taylorseer:0", "interval of a step cache must be at least 1, got 0"),
        ("--cache", "teacache:x", "numbers, got 'x'"),
        ("--cache", "teacache:-1", "threshold of a step cache must be finite and at least 0, got -1"),
        ("--cache", "teacache:inf", "threshold of a step cache must be finite and at least 0, got inf"),
    ],
)
def test_an_impossible_value_is_a_wrong_argument(option, value, words, capsys):
    with pytest.raises(SystemExit) as ended:
        changed(option, value)
    told = capsys.readouterr().err.splitlines()[-1]
    assert ended.value.code == 2 and f"argument {option}: " in told and words in told


def test_a_cache_that_lacks_what_only_a_preset_knows_is_refused():
    with pytest.raises(ConfigError, match=r"cache\.ratios"):
        changed("--cache", "magcache,none")


def test_more4d_infer_draws_as_told(command, photo, monkeypatch):
    drawn = []
    sample_latents = components.sample_latents

    def noted(network, request):
        drawn.append(request.settings)
        return sample_latents(network, request)

    monkeypatch.setattr(components, "sample_latents", noted)
    told = ("--steps", "4,3", "--sampler", "unipc", "--cache", "taylorseer:2,none")
    result = command(photo, "--prompt", "it rolls", "--camera", "orbit", "--frames", "3", *told)
    assert result.code == 0, result.err
    tracks, views = drawn
    assert (tracks.steps, tracks.sampler, tracks.cache.interval) == (4, "unipc", 2)
    assert (views.steps, views.sampler, views.cache) == (3, "unipc", None)
    unknown = command(photo, "--prompt", "it rolls", "--frames", "3", "--cache", "teacache")
    assert unknown.code == 1 and "TeaCache coefficients" in unknown.err and "Traceback" not in unknown.err


def test_without_a_gpu_the_cpu_is_chosen_and_all_its_cores(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    assert open_device("auto") == torch.device("cpu")
    assert threads == [usable_cores()] and usable_cores() >= 1


def test_with_a_gpu_it_is_chosen(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert open_device("auto").type == "cuda"
    with pytest.raises(InputError, match=r"cuda:3: only 1 CUDA"):
        open_device("cuda:3")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"no CUDA GPU .* --device cpu"):
        open_device("cuda")
