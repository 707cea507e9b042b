"""A network without memory becomes one with it; what does not fit is told before anything is read."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from more4d.networks.conditioners import ClipVisionConfig, TextEncoderConfig
from more4d.networks.motion_perception import MotionModulation, OmniMAEConfig
from more4d.networks.motion_reach import MotionReachConfig
from more4d.networks.strag import STraG, STraGConfig, TextGroundingConfig
from more4d.networks.trajectory_vae import WanTrajectoryVaeConfig
from more4d.networks.video_vae import WanVideoVaeConfig
from more4d.networks.vism import ViSMConfig
from more4d.networks.wan_config import WanConfig
from more4d.weights.load import NotFiniteError, load_into
from more4d.weights.registry import (
    ARCHITECTURES,
    LoadPlan,
    compare,
    expected_tensors,
    init_empty,
    list_names,
    named_tensors,
)

CONFIG = STraGConfig(
    wan=WanConfig(
        in_channels=64, dim=32, ffn_dim=48, heads=2, layers=2, text_dim=12, freq_dim=16, motion_feature_dim=10
    )
)


VIDEO = WanVideoVaeConfig(base_dim=4, dim_mult=(1, 1, 1, 1), residual_blocks=1)
SIZES = {
    "strag": CONFIG,
    "vism": ViSMConfig(wan=replace(CONFIG.wan, in_channels=36, motion_feature_dim=None)),
    "clip-vision": ClipVisionConfig(dim=32, layers=3, heads=2, ff=48, patch=4, image_size=16),
    "motion-reach": MotionReachConfig(dim=16, blocks=2),
    "omnimae": OmniMAEConfig(dim=16, depth=1, heads=2),
    "prompt-reader": TextGroundingConfig(feature_dim=16, text_dim=16, dim=16, heads=2),
    "wan-video-vae": VIDEO,
    "wan-trajectory-vae": WanTrajectoryVaeConfig(video=VIDEO, adapter_width=32),
}


def mismatches(network: nn.Module, plan: LoadPlan, shapes: dict[str, torch.Tensor]) -> tuple[str, ...]:
    parameters = {name for name, _ in network.named_parameters()}
    return tuple(str(problem) for problem in compare(named_tensors(network), parameters, plan, shapes)[2])


def plan_of(network: nn.Module) -> LoadPlan:
    return LoadPlan(sources={name: f"theirs.{name}" for name in named_tensors(network)})


def stored(network: nn.Module) -> dict[str, torch.Tensor]:
    return {f"theirs.{name}": tensor.detach() for name, tensor in named_tensors(network).items()}


def test_a_network_without_memory_is_the_same_network_but_for_its_numbers():
    real, empty = STraG(CONFIG), init_empty("strag", CONFIG)
    assert all(parameter.is_meta for parameter in empty.parameters())
    assert {n: t.shape for n, t in empty.state_dict().items()} == {
        n: t.shape for n, t in real.state_dict().items()
    }


def test_buffers_and_ties_are_kept_without_memory():
    trunk = init_empty("omnimae", OmniMAEConfig(dim=16, depth=1, heads=2))
    assert not trunk.positions.is_meta
    text = init_empty("umt5-text-encoder", TextEncoderConfig())
    assert text.encoder.shared.weight is text.encoder.encoder.embed_tokens.weight


def test_other_threads_build_networks_with_memory_meanwhile(monkeypatch):
    inside, go_on, built = threading.Event(), threading.Event(), []

    def build(_: object) -> nn.Module:
        inside.set()
        assert go_on.wait(10)
        return nn.Linear(2, 2)

    monkeypatch.setitem(ARCHITECTURES, "slow", SimpleNamespace(classes=(build, STraGConfig)))
    thread = threading.Thread(target=lambda: built.append(init_empty("slow", CONFIG)))
    thread.start()
    assert inside.wait(10)
    here = nn.Linear(2, 2)
    go_on.set()
    thread.join()
    assert not here.weight.is_meta
    assert built[0].weight.is_meta
    assert not nn.Linear(2, 2).weight.is_meta


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_network_has_real_buffers_and_its_expected_tensors(architecture: str):
    """Also where the expected shapes come from a table of the configuration, not from the network."""
    config = SIZES.get(architecture) or ARCHITECTURES[architecture].classes[1]()
    network = init_empty(architecture, config)
    assert not any(buffer.is_meta for buffer in network.buffers())
    assert all(parameter.is_meta for parameter in network.parameters())
    real = ARCHITECTURES[architecture].classes[0](config)
    for (name, empty), (_, buffer) in zip(network.named_buffers(), real.named_buffers(), strict=True):
        assert torch.equal(empty, buffer), name
    expected, parameters = expected_tensors(architecture, config)
    shapes = {name: tensor.shape for name, tensor in named_tensors(real).items()}
    assert {name: tensor.shape for name, tensor in expected.items()} == shapes
    assert parameters == {name for name, _ in real.named_parameters()}


def test_a_parameter_keeps_the_memory_format_of_its_network():
    config = ARCHITECTURES["depth-small"].classes[1](widths=(8, 8, 8, 8), blocks=(1, 1, 1, 1), heads=2)
    real = ARCHITECTURES["depth-small"].classes[0](config)
    filled = load_into(
        init_empty("depth-small", config),
        LoadPlan(sources={name: name for name in named_tensors(real)}),
        {name: tensor.contiguous() for name, tensor in real.state_dict().items()}.__getitem__,
        device="cpu",
        dtype=torch.float32,
    )
    assert {n: p.stride() for n, p in filled.named_parameters()} == {
        n: p.stride() for n, p in real.named_parameters()
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, None])
def test_filling_brings_every_tensor_in_the_precision_asked_for(dtype):
    torch.manual_seed(0)
    real = STraG(CONFIG).half()
    empty = init_empty("strag", CONFIG)
    tensors = stored(real)
    assert mismatches(empty, plan_of(real), tensors) == ()
    filled = load_into(empty, plan_of(real), tensors.__getitem__, device="cpu", dtype=dtype)
    for name, tensor in real.state_dict().items():
        got = filled.state_dict()[name]
        exact = dtype is not None and any(part in name for part in ("time_embedder", "scale_shift_table"))
        assert got.dtype == (torch.float32 if exact else dtype or torch.float16)
        assert torch.equal(got, tensor.to(got.dtype)), name
    assert all(parameter.requires_grad for parameter in filled.parameters())
    assert not filled.training


def test_missing_extra_and_misshapen_tensors_are_told_together():
    network = init_empty("strag", CONFIG)
    shapes = stored(network)
    names = list(shapes)
    del shapes[names[0]], shapes[names[1]]
    shapes[names[2]] = torch.ones(7)
    missing, extra, shape = mismatches(network, plan_of(network), shapes | {"more": torch.ones(1)})
    assert missing == f"tensors '{names[0]}' and '{names[1]}' are missing"
    assert extra == "tensor 'more' is not expected"
    assert shape.startswith(f"tensor '{names[2]}' has shape [7], the network needs [")


def test_what_no_source_names_is_missing_and_what_nobody_has_is_not_expected():
    network = init_empty("strag", CONFIG)
    plan = plan_of(network)
    sources = dict(plan.sources)
    lost = sources.pop("transformer.proj_out.bias")
    wrong = LoadPlan(sources=sources | {"transformer.nothing": lost})
    missing, extra = mismatches(network, wrong, stored(network))
    assert missing == "tensor 'transformer.proj_out.bias' is missing"
    assert extra == f"tensor '{lost}' is not expected"


def test_changed_shapes_are_what_is_compared():
    network = init_empty("strag", CONFIG)
    shapes = stored(network)
    name = "transformer.patch_embedding.bias"
    shapes[f"theirs.{name}"] = torch.ones(1, 32)
    plan = plan_of(network)
    assert len(mismatches(network, plan, shapes)) == 1
    squeezed = LoadPlan(sources=plan.sources, transforms={name: torch.flatten})
    assert mismatches(network, squeezed, shapes) == ()


def test_new_modules_are_always_the_same_and_disturb_no_other_chance():
    module = "transformer.blocks.1.guide_ffn"

    def filled() -> nn.Module:
        network = init_empty("strag", CONFIG)
        sources = {n: s for n, s in plan_of(network).sources.items() if not n.startswith(module)}
        plan = LoadPlan(sources=sources, new={module: lambda: MotionModulation(10, 32)})
        whole = STraG(CONFIG)
        assert mismatches(network, plan, {s: whole.state_dict()[n] for n, s in sources.items()}) == ()
        tensors = stored(whole)
        before = torch.random.get_rng_state()
        done = load_into(network, plan, tensors.__getitem__, device="cpu", dtype=torch.float32)
        assert torch.equal(torch.random.get_rng_state(), before)
        return done

    one, other = (filled().get_submodule(module) for _ in range(2))
    assert not one.gate.any()
    assert torch.equal(one.linear.weight, other.linear.weight)
    assert one.linear.weight.std() > 0


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.complex64])
def test_numbers_of_another_type_are_told_before_anything_is_read(kind):
    network = init_empty("strag", CONFIG)
    name = next(iter(stored(network)))
    shapes = stored(network)
    shapes[name] = shapes[name].to(kind)
    (problem,) = mismatches(network, plan_of(network), shapes)
    assert name in problem
    assert str(kind).removeprefix("torch.") in problem


def test_what_is_checked_must_be_there():
    network = init_empty("strag", CONFIG)
    plan = LoadPlan(sources=plan_of(network).sources, checks={"fixed": lambda _: None}, ignored=("fixed",))
    (problem,) = mismatches(network, plan, stored(network))
    assert problem == "tensor 'fixed' is missing"
    assert mismatches(network, plan, stored(network) | {"fixed": torch.ones(1)}) == ()


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float8_e5m2])
def test_numbers_that_are_none_are_refused_by_name(wrong, kind):
    network = init_empty("strag", CONFIG)
    tensors = stored(STraG(CONFIG))
    name = list(tensors)[5]
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[-1] = wrong
    tensors[name] = tensors[name].to(kind)
    with pytest.raises(NotFiniteError, match=name):
        load_into(network, plan_of(network), tensors.__getitem__, device="cpu", dtype=None)


def test_numbers_too_large_for_the_precision_asked_for_are_refused():
    tensors = stored(STraG(CONFIG))
    name = next(name for name in tensors if "ffn" in name)
    tensors[name] = torch.full_like(tensors[name], 1e5)
    for dtype in (torch.bfloat16, torch.float32):
        load_into(init_empty("strag", CONFIG), plan_of(STraG(CONFIG)), tensors.get, device="cpu", dtype=dtype)
    with pytest.raises(NotFiniteError, match="float16"):
        network = init_empty("strag", CONFIG)
        load_into(network, plan_of(network), tensors.get, device="cpu", dtype=torch.float16)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["a"], "tensor 'a' is"),
        (["a", "b"], "tensors 'a' and 'b' are"),
        (["a", "b", "c"], "tensors 'a', 'b' and 'c' are"),
        (list("abcde"), "tensors 'a', 'b', 'c' and 2 more are"),
    ],
)
def test_long_lists_are_cut(names, text):
    assert list_names("tensor", names) == text
