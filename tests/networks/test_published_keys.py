"""Published names and ours are two names of the same tensors."""

from dataclasses import replace

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

from more4d.foundation.errors import WeightsError
from more4d.networks.interface import STraGConditions
from more4d.networks.published_keys import load_control, load_published, to_published, wan_names
from more4d.networks.strag import STraG, STraGConfig
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.networks.wan import WanConfig

NUMBERS = {"dim": 32, "ffn_dim": 48, "heads": 2, "layers": 2, "text_dim": 12, "freq_dim": 16}
FULL = STraGConfig(
    wan=WanConfig(
        **NUMBERS,
        in_channels=64,
        image_dim=20,
        reference_tokens=True,
        control_adapter=True,
        motion_feature_dim=10,
    )
)


def network(kind: str) -> STraG | ViSM:
    if kind == "strag":
        return STraG(FULL)
    return ViSM(ViSMConfig(wan=WanConfig(**NUMBERS, in_channels=36, cross_attn_norm=False)))


@pytest.mark.parametrize("kind", ["strag", "vism"])
def test_published_names_round_trip(kind):
    """Every tensor goes out, and comes back into another network."""
    torch.manual_seed(0)
    original, copy = network(kind), network(kind)
    published = to_published(original)
    assert len(published) == len(original.state_dict())
    load_published(copy, published, where="test")
    for name, tensor in original.state_dict().items():
        assert torch.equal(copy.state_dict()[name], tensor), name


@pytest.mark.parametrize("name", ["wan_fun_control", "wan_fun_inp"])
def test_names_are_those_of_diffusers_converter(conformance, name):
    reference = conformance(name)
    config = WanConfig.from_published(reference.config, reference.weights)
    converted = convert_wan_transformer_to_diffusers(dict(reference.weights))
    ours = {new: reference.weights[old] for old, new in wan_names(config).items()}
    assert ours.keys() == converted.keys()
    assert all(torch.equal(tensor, converted[key]) for key, tensor in ours.items())


@pytest.mark.parametrize(
    "name", ["blocks.1.ffn.2.bias", "blocks.0.spatial_guidance_ffn.gate", "ref_conv.bias"]
)
def test_a_missing_tensor_is_an_error_that_names_it(name):
    published = to_published(network("strag"))
    del published[name]
    with pytest.raises(WeightsError, match=r"'transformer\..*' is missing"):
        load_published(network("strag"), published, where="file.safetensors")


def test_an_unknown_tensor_is_an_error_that_names_it():
    published = to_published(network("vism")) | {"blocks.0.extra.weight": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"file\.safetensors.*blocks\.0\.extra\.weight"):
        load_published(network("vism"), published, where="file.safetensors")


@torch.no_grad()
def test_strag_starts_as_the_control_transformer_it_grows_from(conformance):
    """The photo takes the slot of the control video; depth and motion features change nothing yet."""
    reference = conformance("wan_fun_control")
    given = reference.inputs
    wan = WanConfig.from_published(reference.config, reference.weights)
    strag = STraG(
        STraGConfig(
            wan=replace(wan, in_channels=64, motion_feature_dim=10), image_channels=32, start_channels=0
        )
    )
    load_control(strag, reference.weights, where="fixture")
    text = torch.zeros(2, 61, wan.text_dim)
    for sample in range(2):
        text[sample, : len(given[f"text.{sample}"])] = given[f"text.{sample}"]
    conditions = STraGConditions(
        image_latents=given["y"],
        depth_latents=torch.randn(2, 16, 3, 6, 10),
        text=text,
        reference_latents=given["full_ref"],
        clip=given["clip_fea"],
        motion_features=torch.randn(2, 10, 4, 4),
    )
    assert reference.agrees(strag(given["x"], given["t"] / 1000, conditions), "output")


def test_a_control_file_of_another_size_is_refused(conformance):
    weights = conformance("wan_fun_control").weights
    with pytest.raises(WeightsError, match=r"file\.safetensors"):
        load_control(STraG(FULL), weights, where="file.safetensors")
