"""Published names and ours are two names of the same tensors."""

from pathlib import Path

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from safetensors.torch import save_file

from more4d.networks.interface import STraGConditions
from more4d.networks.strag import STraG, STraGConfig
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.networks.wan import WanConfig
from more4d.weights.load import inspect, load
from more4d.weights.published_keys import network_names, wan_names
from tests.networks.assertions import assert_same_state

NUMBERS = {"dim": 32, "ffn_dim": 48, "heads": 2, "layers": 2, "text_dim": 12, "freq_dim": 16}
FULL = STraGConfig(
    wan=WanConfig(
        **NUMBERS,
        in_channels=64,
        image_dim=20,
        reference_tokens=True,
        motion_feature_dim=10,
    )
)


def network(kind: str) -> STraG | ViSM:
    if kind == "strag":
        return STraG(FULL)
    return ViSM(ViSMConfig(wan=WanConfig(**NUMBERS, in_channels=36, cross_attn_norm=False)))


def to_published(network: STraG | ViSM) -> dict[str, torch.Tensor]:
    ours = network.state_dict()
    return {published: ours[name] for published, name in network_names(network).items()}


@pytest.mark.parametrize("kind", ["strag", "vism"])
def test_published_names_round_trip(kind, tmp_path: Path):
    """Every tensor goes out, and comes back into another network."""
    torch.manual_seed(0)
    original = network(kind)
    published = to_published(original)
    assert len(published) == len(original.state_dict())
    save_file(published, tmp_path / "w.safetensors")
    options = {"heads": 2, "cross_attn_norm": original.config.wan.cross_attn_norm}
    copy = load(inspect(tmp_path / "w.safetensors", role=kind, options=options))
    assert copy.config == original.config
    assert_same_state(copy, original)


@pytest.mark.parametrize("name", ["wan_fun_control", "wan_fun_inp"])
def test_names_are_those_of_diffusers_converter(conformance, published_folder, name):
    reference = conformance(name)
    config = inspect(published_folder(name)).config.wan
    converted = convert_wan_transformer_to_diffusers(dict(reference.weights))
    ours = {new: reference.weights[old] for old, new in wan_names(config).items()}
    assert ours.keys() == converted.keys()
    assert all(torch.equal(tensor, converted[key]) for key, tensor in ours.items())


@pytest.mark.parametrize(
    "name", ["blocks.1.ffn.2.bias", "blocks.0.spatial_guidance_ffn.gate", "ref_conv.bias"]
)
def test_a_missing_tensor_is_named(name, tmp_path: Path):
    published = to_published(network("strag"))
    del published[name]
    save_file(published, tmp_path / "w.safetensors")
    problems = inspect(tmp_path / "w.safetensors", options={"heads": 2, "reference_tokens": True}).problems
    assert [str(problem) for problem in problems] == [
        f"tensor '{name}' is missing; fetch it again, or give the right file"
    ]


@torch.no_grad()
def test_strag_starts_as_the_control_transformer_it_grows_from(conformance, published_folder):
    """The photo takes the slot of the control video; depth and motion features change nothing yet."""
    reference = conformance("wan_fun_control")
    given = reference.inputs
    options = {"image_channels": 32, "start_channels": 0, "motion_feature_dim": 10}
    strag = load(inspect(published_folder("wan_fun_control"), role="strag", options=options))
    text = torch.zeros(2, 61, strag.config.wan.text_dim)
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
