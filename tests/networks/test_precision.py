"""Tensors that must not be rounded are float32 in a network of a lower precision."""

from functools import partial

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTimeTextImageEmbedding
from torch import Tensor, nn

from more4d.networks.conditioners import CLIP_MEAN, ClipVision, ClipVisionConfig
from more4d.networks.motion_perception import (
    MotionModulation,
    OmniMAEConfig,
    OmniMAETrunk,
    TokenSpan,
    sinusoid,
)
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.networks.wan_config import WanConfig
from more4d.networks.wan_layers import timestep_sinusoid
from more4d.weights.load import load_into
from more4d.weights.registry import LoadPlan, init_empty

SMALL = {"dim": 24, "ffn_dim": 48, "heads": 2, "layers": 2, "freq_dim": 16, "text_dim": 16, "text_length": 8}
VISM = ViSMConfig(wan=WanConfig(in_channels=36, **SMALL))
KEPT = ("time_embedder", "scale_shift_table")
CLIP = ClipVisionConfig(dim=16, layers=2, heads=2, ff=32, patch=4, image_size=16)
TRUNK = OmniMAEConfig(image_size=32, patch=8, dim=24, depth=1, heads=2)


def loaded(kind: str, network: nn.Module, config: object, dtype: torch.dtype) -> nn.Module:
    """As `load` fills it."""
    tensors = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    plan = LoadPlan(sources={name: name for name in tensors})
    return load_into(init_empty(kind, config), plan, tensors.__getitem__, device="cpu", dtype=dtype)


def vism(dtype: torch.dtype) -> ViSM:
    torch.manual_seed(0)
    return loaded("vism", ViSM(VISM), VISM, dtype)


def test_tensors_of_time_are_loaded_as_they_are_stored():
    exact, half = vism(torch.float32).state_dict(), vism(torch.bfloat16).state_dict()
    for name, tensor in half.items():
        if any(part in name for part in KEPT):
            assert torch.equal(tensor, exact[name]), name
        else:
            assert tensor.dtype == torch.bfloat16, name


def times(network: ViSM, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return network.transformer.condition_embedder.embed_time(torch.tensor([431.7]), dtype)


def test_the_timestep_reaches_the_head_without_rounding_and_the_blocks_with_little():
    time, modulation = times(vism(torch.float32), torch.float32)
    half_time, half_modulation = times(vism(torch.bfloat16), torch.bfloat16)
    assert torch.equal(half_time, time)
    assert (half_modulation.float() - modulation).norm() < 0.003 * modulation.norm()


def test_in_float32_time_is_what_diffusers_makes_of_it():
    network, timestep = vism(torch.float32), torch.tensor([431.7])
    stock = WanTimeTextImageEmbedding(24, time_freq_dim=16, time_proj_dim=6 * 24, text_embed_dim=16)
    stock.load_state_dict(network.transformer.condition_embedder.state_dict())
    stock.timesteps_proj.forward = partial(timestep_sinusoid, channels=16)  # ours is computed in float64
    with torch.no_grad():
        time, modulation, *_ = stock(timestep, torch.zeros(1, 8, 16))
        modulation = modulation.unflatten(1, (6, -1))
    assert all(
        torch.equal(*pair) for pair in zip(times(network, torch.float32), (time, modulation), strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_generator_computes_in_either_precision(dtype):
    network = vism(dtype).transformer
    with torch.no_grad():
        nn.init.normal_(network.proj_out.weight, std=0.1)
        found = network(torch.ones(1, 36, 1, 4, 4), torch.tensor([500.0]), torch.ones(1, 8, 16))
    assert found.dtype == dtype and bool(found.isfinite().all()) and found.abs().sum() > 0


def test_a_small_gate_guides_tokens_of_low_precision():
    torch.manual_seed(0)
    guidance, tokens = MotionModulation(4, 8).bfloat16(), torch.full((1, 6, 8), 100.0, dtype=torch.bfloat16)
    with torch.no_grad():
        guidance.linear.weight.zero_()
        guidance.linear.bias.copy_(torch.cat([torch.ones(8), torch.full((8,), 100.0)]))
        guidance.gate.fill_(0.0015)  # less than half a step of bfloat16 beyond 1; twice it is more
        found = guidance(tokens, torch.zeros(1, 6, 4, dtype=torch.bfloat16), TokenSpan(0, 6))
    expected = (100 * (1 + guidance.gate.float()) + 100 * guidance.gate.float()).bfloat16()
    assert torch.equal(found, expected.expand(1, 6, 8)) and not torch.equal(found, tokens)


def test_clip_prepares_photos_in_single_precision():
    torch.manual_seed(0)
    image, network = torch.rand(1, 3, 20, 30), ClipVision(CLIP)
    half = loaded("clip-vision", network, CLIP, torch.bfloat16)
    assert torch.equal(half.pixels(image), network.pixels(image))
    assert torch.equal(half.mean.flatten(), torch.tensor(CLIP_MEAN))
    assert half.encode_image(image).dtype == torch.bfloat16


def test_fixed_positions_of_the_trunk_are_not_rounded():
    torch.manual_seed(0)
    image, network = torch.rand(1, 3, 20, 30), OmniMAETrunk(TRUNK)
    half = loaded("omnimae", network, TRUNK, torch.bfloat16)
    assert torch.equal(half.positions, sinusoid(16, 24))
    exact, found = network(image), half(image)
    assert found.dtype == torch.bfloat16
    assert (found.float() - exact).norm() < 0.01 * exact.norm()
