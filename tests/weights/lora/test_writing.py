"""A LoRA in another style is the same LoRA, for us as for PEFT and diffusers."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import pad

from more4d.foundation.errors import ConfigError, WeightsError
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.networks.wan import WanConfig, WanTransformer
from more4d.weights.lora.io import PEFT_METADATA_KEY, convert_lora, lora_style, read_lora, write_lora
from more4d.weights.lora.keys import WRITTEN_STYLES, styled_name
from more4d.weights.lora.merge import LoraUpdates, LowRank, WeightDelta, merge_loras
from more4d.weights.state import read_tensors

NUMBERS = {"dim": 24, "ffn_dim": 24, "heads": 2, "layers": 2, "text_dim": 8, "freq_dim": 8, "in_channels": 36}


def network() -> ViSM:
    torch.manual_seed(0)
    network = ViSM(ViSMConfig(wan=WanConfig(**NUMBERS))).eval()
    torch.nn.init.normal_(network.transformer.proj_out.weight)  # zero in a new network
    return network


def updates() -> LoraUpdates:
    """Of different ranks, alphas and precisions."""
    random, linear = torch.Generator().manual_seed(1), {}
    for index, (name, module) in enumerate(network().named_modules()):
        if isinstance(module, torch.nn.Linear):
            rank, kind = (3 if index % 7 == 0 else 2), (torch.bfloat16 if index % 5 == 0 else torch.float32)
            linear[f"{name}.weight"] = LowRank(
                down=(torch.randn(rank, module.in_features, generator=random) / 4).to(kind),
                up=(torch.randn(module.out_features, rank, generator=random) / 4).to(kind),
                alpha=3.0 if index % 3 == 0 else 1.0,
                key=name,
            )
    return LoraUpdates(where="updates", by_parameter=linear)


def same(one: LoraUpdates, other: LoraUpdates) -> bool:
    first, second = one.by_parameter, other.by_parameter
    return first.keys() == second.keys() and all(
        update.alpha == second[name].alpha
        and all(
            getattr(update, factor).dtype == getattr(second[name], factor).dtype
            and torch.equal(getattr(update, factor), getattr(second[name], factor))
            for factor in ("down", "up")
        )
        for name, update in first.items()
    )


@pytest.mark.parametrize("style", WRITTEN_STYLES)
def test_what_is_written_is_read_again(style, tmp_path):
    path = tmp_path / "lora.safetensors"
    write_lora(path, updates(), style, {"step": "7"})
    assert same(read_lora(path), updates())
    assert lora_style(read_tensors(path)) == style
    with safe_open(path, "pt") as opened:
        assert opened.metadata()["step"] == "7"


@pytest.mark.parametrize("style", WRITTEN_STYLES)
@pytest.mark.parametrize("before", WRITTEN_STYLES)
def test_converting_keeps_every_bit(before, style, tmp_path):
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    write_lora(first, updates(), before, {"step": "7"})
    convert_lora(first, second, style)
    assert same(read_lora(second), updates())
    with safe_open(second, "pt") as opened:
        assert opened.metadata()["step"] == "7"
        assert (PEFT_METADATA_KEY in opened.metadata()) == (style == "peft")


def run(transformer: torch.nn.Module) -> Tensor:
    seed = torch.Generator().manual_seed(1)
    latents, text = torch.randn(1, 36, 2, 4, 4, generator=seed), torch.randn(1, 6, 8, generator=seed)
    with torch.no_grad():
        if isinstance(transformer, WanTransformer3DModel):  # diffusers' does not pad the text
            text = pad(text, (0, 0, 0, 506))
            return transformer(latents, torch.tensor([500.0]), text, return_dict=False)[0]
        return transformer(latents, torch.tensor([500.0]), text)


def merged() -> WanTransformer:
    changed = network()
    merge_loras(changed, [(updates(), 1.0)])
    return changed.transformer


def test_peft_opens_the_folder_and_computes_what_is_merged(tmp_path):
    write_lora(tmp_path / "kohya.safetensors", updates(), "kohya")
    convert_lora(tmp_path / "kohya.safetensors", tmp_path / "folder", "peft")
    assert same(read_lora(tmp_path / "folder"), updates())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theirs = PeftModel.from_pretrained(network().transformer, tmp_path / "folder").eval()
    assert not torch.allclose(run(theirs), run(network().transformer), atol=1e-2)
    torch.testing.assert_close(run(theirs), run(merged()), atol=1e-4, rtol=1e-4)


def in_diffusers(folder: Path) -> WanTransformer3DModel:
    """diffusers' transformer with our weights, into which diffusers has loaded a file in PEFT's style."""
    write_lora(folder / "lora.safetensors", updates(), "peft")
    transformer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=36,
        text_dim=8,
        freq_dim=8,
        ffn_dim=24,
        num_layers=2,
    ).eval()
    transformer.load_state_dict(network().transformer.state_dict())
    with safe_open(folder / "lora.safetensors", "pt") as opened:
        settings = json.loads(opened.metadata()[PEFT_METADATA_KEY])
    # diffusers takes only those settings that begin with the prefix of the tensors.
    transformer.load_lora_adapter(
        load_file(folder / "lora.safetensors"),
        prefix="base_model.model",
        metadata={f"base_model.model.{key}": value for key, value in settings.items()},
    )
    return transformer


def test_diffusers_opens_the_file_and_computes_what_is_merged(tmp_path):
    theirs = in_diffusers(tmp_path)
    torch.testing.assert_close(run(theirs), run(merged()), atol=1e-4, rtol=1e-4)


def test_what_diffusers_saves_is_read(tmp_path):
    in_diffusers(tmp_path).save_lora_adapter(tmp_path / "saved", adapter_name="default_0")
    again = network()
    merge_loras(again, [(read_lora(tmp_path / "saved"), 1.0)])
    torch.testing.assert_close(run(again.transformer), run(merged()), atol=1e-4, rtol=1e-4)


def differences() -> LoraUpdates:
    blocks = ("0.attn1.to_q.bias", "1.norm2.weight", "1.scale_shift_table", "0.guide_ffn.gate")
    names = ("scale_shift_table", *(f"blocks.{name}" for name in blocks))
    return LoraUpdates(
        where="distilled.safetensors",
        by_parameter={f"transformer.{name}": WeightDelta(tensor=torch.randn(4), key=name) for name in names},
    )


def test_differences_are_written_in_kohya_style(tmp_path):
    wanted = differences()
    write_lora(tmp_path / "x.safetensors", wanted, "kohya")
    found = read_lora(tmp_path / "x.safetensors").by_parameter
    assert found.keys() == wanted.by_parameter.keys()
    assert all(torch.equal(found[name].tensor, update.tensor) for name, update in wanted.by_parameter.items())


def test_differences_are_refused_in_peft_style(tmp_path):
    with pytest.raises(WeightsError, match=r"distilled.*'scale_shift_table'.*write it as kohya"):
        write_lora(tmp_path / "x.safetensors", differences(), "peft")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("target", "style", "words"),
    [
        ("x.safetensors", "diffusers", "in style 'diffusers'; give kohya or peft$"),
        ("folder", "kohya", r"folder; give the name of a \.safetensors file$"),
        ("x.pt", "peft", "or of a folder"),
    ],
)
def test_a_target_that_cannot_be_is_refused(target, style, words, tmp_path):
    write_lora(tmp_path / "lora.safetensors", updates(), "kohya")
    with pytest.raises(ConfigError, match=words):
        convert_lora(tmp_path / "lora.safetensors", tmp_path / target, style)


def test_modules_are_named_as_in_the_files():
    assert styled_name("transformer.blocks.0.attn1.to_q", "peft") == "base_model.model.blocks.0.attn1.to_q"
    assert styled_name("motion_adapter.first", "kohya") == "lora_unet__feature_adapter_0"
