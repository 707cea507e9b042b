"""Every module has one name in each style, from which the module is found again."""

import pytest
import torch

from more4d.networks.strag import STraG, STraGConfig
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.networks.wan import WanConfig
from more4d.weights.lora.keys import WRITTEN_STYLES, module_of, parameter_of, styled_name
from more4d.weights.published_keys import network_names

NUMBERS = {"dim": 24, "ffn_dim": 24, "heads": 2, "layers": 12, "text_dim": 8, "freq_dim": 8, "image_dim": 8}


@pytest.fixture(scope="module")
def networks() -> list[STraG | ViSM]:
    wan = WanConfig(**NUMBERS, in_channels=64, reference_tokens=True, motion_feature_dim=8)
    with torch.device("meta"):
        return [STraG(STraGConfig(wan=wan)), ViSM(ViSMConfig(wan=WanConfig(**NUMBERS, in_channels=36)))]


def modules(network: STraG | ViSM) -> list[str]:
    """Names of modules with a weight: linear, convolution or norm."""
    return [
        name
        for name, module in network.named_modules()
        if "weight" in dict(module.named_parameters(recurse=False))
    ]


@pytest.mark.parametrize("style", WRITTEN_STYLES)
def test_a_written_name_is_read_as_its_module(networks, style):
    for network in networks:
        names = {module: styled_name(module, style) for module in modules(network)}
        assert len(names) > 100
        assert len(set(names.values())) == len(names)
        assert {module: module_of(name) for module, name in names.items()} == {name: name for name in names}


def test_a_flat_name_of_diffusers_is_understood(networks):
    for network in networks:
        for module in modules(network):
            flat = module.removeprefix("transformer.").replace(".", "_")
            assert module_of(f"lora_unet_{flat}") == module


def test_published_parameters_are_found_by_both_names(networks):
    for network in networks:
        for published, ours in network_names(network).items():
            assert parameter_of(published) == ours
            assert parameter_of(ours.removeprefix("transformer.")) == ours


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("lora_unet__blocks_1_cross_attn_k_img", "transformer.blocks.1.attn2.add_k_proj"),
        ("lora_unet_blocks_39_self_attn_o", "transformer.blocks.39.attn1.to_out.0"),
        ("diffusion_model.blocks.0.ffn.2", "transformer.blocks.0.ffn.net.2"),
        ("model.diffusion_model.head.head", "transformer.proj_out"),
        ("blocks.7.self_attn.q", "transformer.blocks.7.attn1.to_q"),
        ("transformer.blocks.7.attn1.to_q", "transformer.blocks.7.attn1.to_q"),
        ("base_model.model.blocks.7.attn1.to_q", "transformer.blocks.7.attn1.to_q"),
        ("base_model.model.transformer.blocks.7.attn1.to_q", "transformer.blocks.7.attn1.to_q"),
        ("diffusion_model.blocks.3.norm3", "transformer.blocks.3.norm2"),
        ("lora_unet__feature_adapter_0", "motion_adapter.first"),
        ("diffusion_model.control_adapter.residual_blocks.0.conv1", None),
        ("diffusion_model.double_blocks.0.img_attn.qkv", None),
        ("lora_unet_double_blocks_0_img_attn_qkv", None),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1", None),
        ("transformer.single_transformer_blocks.0.attn.to_q", None),
        ("blocks.x.self_attn.q", None),
    ],
)
def test_names_of_every_style_are_resolved_or_unknown(name, module):
    assert module_of(name) == module


def test_an_unknown_module_has_no_kohya_name():
    with pytest.raises(ValueError, match=r"transformer\.elsewhere"):
        styled_name("transformer.elsewhere", "kohya")
