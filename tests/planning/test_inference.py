from dataclasses import replace
from pathlib import Path

import pytest
import torch

from more4d.foundation.errors import ConfigError
from more4d.networks.wan_config import PUBLISHED
from more4d.pipelines.preset import find_preset
from more4d.planning.components import planned_components
from more4d.planning.costs import transformer_flops
from more4d.planning.gpus import GIB, GPUS
from more4d.planning.inference import InferencePlan, modes_by_memory_class, plan_inference
from more4d.planning.steps import Size, Step, Steps
from tests.published_presets import write_fun, write_omnimae, write_small_preset

FAST = ("full", "model")


@pytest.fixture(scope="module")
def tiny() -> InferencePlan:
    return plan_inference(*find_preset("tiny"))


@pytest.fixture(scope="module")
def large() -> InferencePlan:
    return plan_inference(*find_preset("fun-14b"), size=(368, 512), memories=FAST)


def test_steps_follow_the_pipeline(tiny: InferencePlan) -> None:
    assert [(step.stage, step.name) for step in tiny.steps] == [
        ("tracks", "prompts"), ("tracks", "conditions"), ("tracks", "sampling"), ("tracks", "decoding"),
        ("views", "conditions"), ("views", "sampling"), ("views", "decoding"),
    ]  # fmt: skip


def test_kept_networks_add_up_and_others_do_not(tiny: InferencePlan) -> None:
    modes = {mode.memory: mode for mode in tiny.modes}
    weights = sum(part.weights_bytes for part in tiny.parts)
    last = tiny.steps[-1]
    assert modes["full"].device_bytes[-1] == weights + last.held_bytes + last.needs["full"].peak_bytes
    assert modes["full"].host_bytes == 0
    assert modes["model"].host_bytes == weights
    assert modes["sequential"].peak_bytes <= modes["group"].peak_bytes <= modes["full"].peak_bytes


def test_what_nothing_hears_and_is_not_there_is_not_planned(tmp_path: Path) -> None:
    """Inference leaves it out, too."""
    write_fun(tmp_path)
    preset, folder = find_preset(str(write_small_preset(tmp_path / "my.yaml", "fun-1.3b")), tmp_path)
    plan = plan_inference(preset, folder, memories=FAST)
    assert "motion_features" not in {part.part for part in plan.parts}
    write_omnimae(tmp_path)
    plan = plan_inference(preset, folder, memories=FAST)
    assert "motion_features" in {part.part for part in plan.parts}


def test_a_mode_holds_the_networks_at_work(large: InferencePlan) -> None:
    mode = next(mode for mode in large.modes if mode.memory == "model")
    weights = {part.part: part.weights["model"].device_peak for part in large.parts}
    for step, found in zip(large.steps, mode.device_bytes, strict=True):
        at_work = sum(weights[part] for part in step.parts)
        assert found == at_work + step.held_bytes + step.needs["model"].peak_bytes


def test_weights_that_travel_come_from_pinned_memory_and_others_do_not(tiny: InferencePlan) -> None:
    index, sampling = next((n, step) for n, step in enumerate(tiny.steps) if step.is_sampling)
    seconds = {mode.memory: mode.seconds["H100"][index] for mode in tiny.modes}
    (weights,) = ({m: part.weights[m] for m in seconds} for part in tiny.parts if part.part == "strag")
    gpu = next(gpu for gpu in GPUS if gpu.name == "H100")
    ordinary = weights["model"].host / gpu.from_ordinary_host
    assert seconds["model"] == pytest.approx(seconds["full"] + ordinary)
    once = weights["group"].onload_once / gpu.from_ordinary_host
    beside = sampling.calls * weights["group"].onload_per_call / gpu.from_host
    assert seconds["group"] == pytest.approx(once + max(seconds["full"], beside))


def test_sampling_is_two_passes_a_step(large: InferencePlan) -> None:
    step = next(step for step in large.steps if step.is_sampling)
    adapter = 2 * 2 * 9 * 768**2 * 14**2
    once = transformer_flops(PUBLISHED["strag-14b"], 9568, reference_tokens=736) + adapter
    assert (step.calls, step.needs["full"].flops) == (100, 100 * once)


def test_the_large_preset_wants_a_large_gpu_unless_weights_travel(large: InferencePlan) -> None:
    assert modes_by_memory_class(large) == {24: (), 48: FAST, 80: FAST, 141: FAST}
    assert large.fastest(GPUS[0]) is None
    assert large.fastest(GPUS[-1]).memory == "full"
    assert large.fastest(GPUS[-1], 20.0 * GIB) is None


def tracks_step(**settings: object) -> Step:
    preset, folder = find_preset("tiny")
    steps = Steps(
        parts=planned_components(preset, folder),
        preset=preset,
        size=Size(frames=9, height=64, width=64),
        dtype=torch.float32,
    )
    return steps.sampling("tracks", "strag", replace(preset.tracks, steps=8, guidance=3.0, **settings))


def test_guidance_in_one_pass_takes_more_memory_and_no_more_work() -> None:
    two, one = (tracks_step(batched_cfg=passes == "one").needs["full"] for passes in ("two", "one"))
    assert two.flops == one.flops
    assert two.peak_bytes < one.peak_bytes


def test_guidance_that_is_left_out_is_not_counted() -> None:
    calls = [tracks_step(guidance_skip=share).calls for share in (0.0, 0.5, 1.0)]
    assert calls == [16, 12, 8]
    assert tracks_step(batched_cfg=True).calls == 8
    assert tracks_step(sampler="heun").calls == 2 * 15


def test_gpus_that_share_a_sample_share_its_work(tiny: InferencePlan) -> None:
    two = plan_inference(*find_preset("tiny"), gpus=2)
    for step, alone, shared in zip(
        tiny.steps, tiny.modes[0].seconds["H100"], two.modes[0].seconds["H100"], strict=True
    ):
        assert shared == pytest.approx(alone / 2 if step.is_sampling else alone)


@pytest.mark.parametrize("wrong", [{"frames": 12}, {"frames": 1}, {"size": (100, 128)}, {"size": (0, 16)}])
def test_impossible_sizes_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        plan_inference(*find_preset("tiny"), **wrong)
