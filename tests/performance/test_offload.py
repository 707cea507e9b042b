"""Memory modes change where weights are, and (except for fp8) no result."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from more4d.networks.conditioners import ClipVision, ClipVisionConfig, TextEncoderConfig, UMT5TextEncoder
from more4d.networks.interface import STraGConditions
from more4d.networks.motion_perception import OmniMAEConfig, OmniMAETrunk
from more4d.networks.strag import STraG, STraGConfig
from more4d.networks.tiny_trajectory import TinyTrajectoryCodec, TinyTrajectoryConfig
from more4d.networks.video_vae import WanVideoVae, WanVideoVaeConfig
from more4d.networks.wan_config import WanConfig
from more4d.performance.config import MEMORY_MODES, Memory, StepCacheConfig
from more4d.performance.offload import (
    FP8_DTYPE,
    OffloadedModule,
    fp8_block_lists,
    module_tensors,
    offload_units,
    stack_owners,
    weight_bytes,
)
from more4d.performance.prepare import compile_blocks
from more4d.performance.step_cache import step_cache
from more4d.weights.load import load_into
from more4d.weights.registry import LoadPlan, named_tensors
from tests.networks.fake_device import FakeDevice, fake_device, is_offloaded

__all__ = ["fake_device"]

AWAY: tuple[Memory, ...] = ("model", "group", "sequential")
FP8_ERROR = 0.05
"""Relative error of a velocity with random weights: measured 0.038 (e4m3 has four bits of precision)."""

WAN = {
    "in_channels": 64, "dim": 96, "ffn_dim": 192, "heads": 4, "layers": 4, "freq_dim": 32, "text_dim": 32,
    "text_length": 24, "reference_tokens": True, "motion_feature_dim": 16, "image_dim": 20,
}  # fmt: skip


def random(*shape: int) -> Tensor:
    """Random numbers on the default device, the same on each."""
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), device="cpu")
    return made.to(torch.get_default_device())


def strag() -> STraG:
    network = STraG(STraGConfig(wan=WanConfig(**WAN)))
    with torch.no_grad():  # gates and heads begin at zero
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return network


def velocity(network: STraG) -> Tensor:
    conditions = STraGConditions(
        image_latents=random(1, 16, 2, 4, 6),
        depth_latents=random(1, 16, 2, 4, 6),
        text=random(1, 10, 32),
        reference_latents=random(1, 16, 4, 6),
        clip=random(1, 5, 20),
        motion_features=random(1, 16, 2, 2),
    )
    return network(random(1, 16, 2, 4, 6), torch.tensor([0.5]), conditions)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[Any], Tensor]]] = {
    "strag": (strag, velocity),
    "text": (
        lambda: UMT5TextEncoder(TextEncoderConfig(dim=16, layers=3, heads=2, head_dim=8, ff=32, length=24)),
        lambda network: network.encode_text(["it rolls", ""]),
    ),
    "clip": (
        lambda: ClipVision(ClipVisionConfig(dim=16, layers=4, heads=2, ff=32, patch=8, image_size=16)),
        lambda network: network.encode_image(random(1, 3, 20, 30).sigmoid()),
    ),
    "motion_features": (
        lambda: OmniMAETrunk(OmniMAEConfig(image_size=32, patch=16, dim=16, depth=3, heads=2)),
        lambda network: network(random(1, 3, 20, 30).sigmoid()),
    ),
    "video_codec": (
        lambda: WanVideoVae(WanVideoVaeConfig(base_dim=4, dim_mult=(1, 1, 1, 1), residual_blocks=1)),
        lambda network: network.decode_raw(random(1, 16, 2, 2, 3)),
    ),
}


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name][0]().eval()


def placed_in(memory: Memory, name: str = "strag") -> OffloadedModule:
    return OffloadedModule(made(name), memory, device=torch.device("cpu"), dtype=torch.float32)


@torch.inference_mode()
def used(placed: OffloadedModule, name: str) -> Tensor:
    """Its output, in the second call of the second time it is on the device."""
    for _ in range(2):
        with placed.on_device() as network:
            for _ in range(2):
                result = NETWORKS[name][1](network)
    return result


@pytest.mark.parametrize("memory", AWAY)
@pytest.mark.parametrize("name", NETWORKS)
def test_no_weight_is_used_that_is_offloaded(name: str, memory: Memory, fake_device: FakeDevice):
    with torch.inference_mode():
        expected = NETWORKS[name][1](made(name))
    placed = placed_in(memory, name)
    assert torch.equal(used(placed, name), expected)
    assert all(
        is_offloaded(tensor) for tensor in module_tensors(placed.network) if tensor.is_floating_point()
    )


@torch.inference_mode()
def test_an_offloaded_network_computes_nan(fake_device: FakeDevice):
    placed = placed_in("model")
    assert velocity(placed.network).isnan().all()  # so the laws of this file can fail


@pytest.mark.parametrize("memory", AWAY)
@pytest.mark.parametrize("name", ["strag", "text"])
def test_the_bytes_on_the_device_are_those_that_a_plan_counts(
    name: str, memory: Memory, fake_device: FakeDevice
):
    placed = placed_in(memory, name)
    used(placed, name)
    with torch.device("meta"):
        counted = weight_bytes(NETWORKS[name][0](), memory, torch.float32)
    # Counted are the two largest as if one came after the other, which in mode sequential need not be so.
    assert (
        counted.device_peak - slack(placed.network, memory) <= fake_device.peak_bytes <= counted.device_peak
    )


@pytest.mark.parametrize("memory", ["full", "model", "fp8"])
@pytest.mark.parametrize("name", NETWORKS)
def test_tensors_that_stay_in_single_precision_are_counted_so(name: str, memory: Memory):
    """A network as it is loaded in bfloat16, tensor by tensor."""
    network, state = made(name), dict(made(name).state_dict())
    plan = LoadPlan(sources={each: each for each in named_tensors(network)})
    loaded = load_into(network, plan, state.__getitem__, device="cpu", dtype=torch.bfloat16)
    assert torch.float32 in {tensor.dtype for tensor in module_tensors(loaded)} or name == "text"
    placed = OffloadedModule(loaded, memory, device=torch.device("cpu"), dtype=torch.bfloat16)
    with torch.device("meta"):
        counted = weight_bytes(NETWORKS[name][0](), memory, torch.bfloat16)
    stored = sum(tensor.nbytes for tensor in module_tensors(placed.network))
    assert stored == (counted.device_peak if memory == "full" else counted.host)


def slack(network: nn.Module, memory: Memory) -> int:
    if memory != "sequential":
        return 0
    units = [unit for owner in stack_owners(network) for unit in offload_units(owner, memory)]
    return max(sum(tensor.nbytes for tensor in module_tensors(unit)) for unit in units)


def test_group_and_sequential_need_less_than_the_whole():
    needed = [weight_bytes(made("strag"), memory, torch.float32).device_peak for memory in MEMORY_MODES]
    full, model, group, fp8, sequential = needed
    assert full == model > group > sequential
    assert fp8 < model / 2


def test_fp8_stores_the_linear_layers_of_blocks_and_nothing_else_in_eight_bits():
    placed = placed_in("fp8")
    with torch.inference_mode(), placed.on_device() as network:
        velocity(network)
    eight = {name for name, tensor in placed.network.named_parameters() if tensor.dtype == FP8_DTYPE}
    assert all(name.startswith("transformer.blocks.") for name in eight)
    kinds = {name.split(".", 3)[3] for name in eight}
    assert {"attn1.to_q.weight", "attn2.add_k_proj.weight", "ffn.net.0.proj.weight"} <= kinds
    assert "guide_ffn.linear.weight" in kinds
    assert not any(word in kind for kind in kinds for word in ("norm", "gate", "scale_shift_table"))
    stored = sum(tensor.nbytes for tensor in module_tensors(placed.network))
    with torch.device("meta"):
        assert weight_bytes(strag(), "fp8", torch.float32).host == stored


def test_fp8_changes_a_velocity_by_little():
    placed = placed_in("fp8")
    with torch.inference_mode():
        exact = velocity(made("strag"))
    error = (used(placed, "strag") - exact).norm() / exact.norm()
    assert 0 < error < FP8_ERROR


def test_fp8_leaves_networks_without_a_video_transformer_as_they_are():
    for name in ("text", "clip", "motion_features", "video_codec"):
        assert fp8_block_lists(made(name)) == []
    with torch.inference_mode():
        plain = NETWORKS["text"][1](made("text"))
    placed = placed_in("fp8", "text")
    assert torch.equal(used(placed, "text"), plain)


def test_codecs_are_moved_whole():
    assert stack_owners(made("video_codec")) == []
    assert stack_owners(TinyTrajectoryCodec(TinyTrajectoryConfig())) == []


@pytest.mark.parametrize("memory", AWAY)
def test_a_network_that_fails_is_offloaded(memory: Memory, fake_device: FakeDevice, monkeypatch):
    placed = placed_in(memory)

    def stop(*_: Any) -> Tensor:
        raise RuntimeError("stop")

    monkeypatch.setattr(placed.network.transformer.blocks[1].ffn, "forward", stop)
    with pytest.raises(RuntimeError, match="stop"), torch.inference_mode(), placed.on_device() as network:
        velocity(network)
    assert all(is_offloaded(tensor) for tensor in placed.network.parameters())


def test_on_device_may_be_nested(fake_device: FakeDevice):
    placed = placed_in("model")
    with placed.on_device():
        with placed.on_device():
            pass
        assert not any(is_offloaded(tensor) for tensor in placed.network.parameters())


CACHES = {
    "first-block": StepCacheConfig(kind="first-block", threshold=10.0),
    "teacache": StepCacheConfig(kind="teacache", threshold=0.5, warmup_steps=1, coefficients=(0.1, 0.1)),
    "magcache": StepCacheConfig(kind="magcache", threshold=0.2, warmup_steps=1, ratios=(0.98,) * 6),
    "taylorseer": StepCacheConfig(kind="taylorseer", interval=3, warmup_steps=2),
}


@torch.inference_mode()
def cached(placed: OffloadedModule, kind: str) -> tuple[Tensor, list[int]]:
    """Velocities of six steps with a step cache, and at which steps the last block computed."""
    computed: list[int] = []
    with placed.on_device() as network, step_cache(network.transformer, CACHES[kind], calls=6) as branch:
        last = network.transformer.blocks[-1].attn1
        handle = last.register_forward_hook(lambda *_: computed.append(len(found)))
        found: list[Tensor] = []
        for _ in range(6):
            with branch("cond"):
                found.append(velocity(network))
        handle.remove()
    return torch.stack(found), computed


@pytest.mark.parametrize("memory", ["group", "sequential"])
@pytest.mark.parametrize("kind", CACHES)
def test_step_caches_skip_as_much_from_the_first_sample_on(
    kind: str, memory: Memory, fake_device: FakeDevice
):
    expected, computed = cached(placed_in("full"), kind)
    placed = placed_in(memory)
    for _ in range(2):
        found, at_steps = cached(placed, kind)
        assert torch.equal(found, expected)
        assert at_steps == computed and len(computed) < 6
    assert all(is_offloaded(tensor) for tensor in placed.network.parameters())


@pytest.mark.gpu
@pytest.mark.parametrize("memory", ["group", "sequential"])
@pytest.mark.parametrize("kind", CACHES)
def test_step_caches_skip_as_much_on_a_gpu(kind: str, memory: Memory):
    expected, computed = cached(placed_in("full"), kind)
    device = torch.device("cuda")
    placed = OffloadedModule(made("strag"), memory, device=device, dtype=torch.float32)
    with torch.device(device):
        for _ in range(2):
            found, at_steps = cached(placed, kind)
            assert at_steps == computed
            assert (found.cpu() - expected).norm() <= 1e-3 * expected.norm()


@pytest.mark.gpu
def test_a_gpu_computes_the_same_compiled_in_mode_group():
    device = torch.device("cuda")
    with torch.inference_mode():
        expected = velocity(made("strag"))
    placed = OffloadedModule(made("strag"), "group", device=device, dtype=torch.float32)
    compile_blocks(placed.network.transformer, backend="aot_eager")
    with torch.device(device):
        result = used(placed, "strag").cpu()
    assert (result - expected).norm() <= 1e-3 * expected.norm()


def test_offloaded_groups_are_counted_as_they_are_pinned():
    counted = weight_bytes(made("strag"), "group", torch.float32)
    total = weight_bytes(made("strag"), "model", torch.float32).host
    assert counted.onload_once + counted.onload_per_call == total <= counted.host
    assert counted.host.bit_count() == 1  # one chunk


@pytest.mark.gpu
@pytest.mark.parametrize("memory", MEMORY_MODES)
@pytest.mark.parametrize("name", ["strag", "text"])
def test_a_gpu_computes_the_same_in_every_mode(name: str, memory: Memory):
    device = torch.device("cuda")
    with torch.inference_mode():
        expected = NETWORKS[name][1](made(name))
    network = made(name).to(device) if memory == "full" else made(name)
    placed = OffloadedModule(network, memory, device=device, dtype=torch.float32)
    with torch.device(device):
        result = used(placed, name).cpu()
    tolerance = FP8_ERROR if memory == "fp8" else 1e-3
    assert (result - expected).norm() <= tolerance * expected.norm()
