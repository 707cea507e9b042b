from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from more4d.foundation.errors import ConfigError
from more4d.pipelines.preset import find_preset
from more4d.planning.inference import InferencePlan, plan_inference
from more4d.planning.limits import GIB
from more4d.planning.steps import Size, Step, Steps, planned_components
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


def file_bytes(component: str) -> int:
    """Bytes of a bundled network in float32, from the tensors of its file."""
    preset, folder = find_preset("tiny")
    file = preset.components.get(component)
    assert file is not None
    with safe_open(folder / file.file, "pt") as tensors:
        return sum(4 * tensors.get_tensor(name).numel() for name in tensors.keys())  # noqa: SIM118


def test_weights_are_those_of_the_files(tiny: InferencePlan) -> None:
    # A plan counts buffers too; files leave out those that are computed, such as tables of positions.
    for component in tiny.components:
        assert 1 <= component.weights_bytes / file_bytes(component.name) < 1.02, component.name


def test_kept_networks_add_up_and_others_do_not(tiny: InferencePlan) -> None:
    modes = {mode.memory: mode for mode in tiny.modes}
    every = sum(file_bytes(component.name) for component in tiny.components)
    largest = max(file_bytes(component.name) for component in tiny.components)
    assert modes["full"].device_bytes[-1] > every > 2 * largest
    assert modes["full"].host_bytes == 0
    assert 1 <= modes["model"].host_bytes / every < 1.02
    assert modes["sequential"].peak_bytes <= modes["group"].peak_bytes <= modes["full"].peak_bytes


def test_an_unused_and_missing_network_is_not_planned(tmp_path: Path) -> None:
    """Inference leaves it out as well."""
    write_fun(tmp_path)
    preset, folder = find_preset(str(write_small_preset(tmp_path / "my.yaml", "fun-1.3b")), tmp_path)
    plan = plan_inference(preset, folder, memories=FAST)
    assert "motion_features" not in {component.name for component in plan.components}
    write_omnimae(tmp_path)
    plan = plan_inference(preset, folder, memories=FAST)
    assert "motion_features" in {component.name for component in plan.components}


def test_offloading_the_model_leaves_one_large_network_on_the_gpu(large: InferencePlan) -> None:
    """14e9 parameters of bfloat16 are 26 GiB; a second one, or its encoders, would not fit below 40 GiB."""
    mode = next(mode for mode in large.modes if mode.memory == "model")
    sampling = next(n for n, step in enumerate(large.steps) if step.is_sampling)
    assert 28 * GIB < mode.device_bytes[sampling] < 40 * GIB
    full = next(mode for mode in large.modes if mode.memory == "full")
    assert full.device_bytes[sampling] > mode.device_bytes[sampling]


def test_offloaded_blocks_are_copied_in_every_call(tiny: InferencePlan) -> None:
    index, sampling = next((n, step) for n, step in enumerate(tiny.steps) if step.is_sampling)
    copied = {mode.memory: mode.onload_bytes[index] for mode in tiny.modes}
    weights = file_bytes("strag")
    assert copied["full"] == 0
    assert copied["model"] == pytest.approx(weights, rel=0.001)
    assert sampling.calls == 8 and weights < copied["group"] <= 8 * weights


def test_sampling_is_two_passes_a_step(large: InferencePlan) -> None:
    step = next(step for step in large.steps if step.is_sampling)
    assert (step.calls, step.needs["full"].flops) == (100, pytest.approx(50 * 0.7e15, rel=0.05))


def test_the_large_preset_wants_a_large_gpu_unless_weights_are_offloaded(large: InferencePlan) -> None:
    assert large.modes_by_gb == {24: (), 48: FAST, 80: FAST, 141: FAST}


def tracks_step(**settings: object) -> Step:
    preset, folder = find_preset("tiny")
    steps = Steps(
        components=planned_components(preset, folder),
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


def test_gpus_that_share_a_sample_share_its_activations(tiny: InferencePlan) -> None:
    two = plan_inference(*find_preset("tiny"), gpus=2)
    alone, shared = (next(m for m in plan.modes if m.memory == "full").device_bytes for plan in (tiny, two))
    for step, one, half in zip(tiny.steps, alone, shared, strict=True):
        assert (half < one) == step.is_sampling


@pytest.mark.parametrize("wrong", [{"frames": 12}, {"frames": 1}, {"size": (100, 128)}, {"size": (0, 16)}])
def test_impossible_sizes_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        plan_inference(*find_preset("tiny"), **wrong)
