"""What a LoRA file adds is what diffusers and PEFT make of it; every tensor in it is used once, or named."""

import json
import math

import pytest
import torch
from diffusers.loaders.lora_conversion_utils import (
    _convert_musubi_wan_lora_to_diffusers,
    _convert_non_diffusers_wan_lora_to_diffusers,
)
from torch import Tensor

from more4d.foundation.errors import WeightsError
from more4d.weights.lora.io import lora_style, parse_lora, read_lora
from more4d.weights.lora.merge import LowRank, WeightDelta
from more4d.weights.state import write_tensors

CPU = torch.device("cpu")
QUERY = "transformer.blocks.0.attn1.to_q.weight"
SHAPES = {
    **{
        f"blocks.{n}.{kind}_attn.{letter}": (8, 8)
        for n in (0, 1)
        for kind in ("self", "cross")
        for letter in "qkvo"
    },
    **{f"blocks.{n}.cross_attn.{letter}_img": (8, 8) for n in (0, 1) for letter in "kv"},
    **{f"blocks.{n}.ffn.0": (12, 8) for n in (0, 1)},
    **{f"blocks.{n}.ffn.2": (8, 12) for n in (0, 1)},
}


def factors(rows: int = 8, columns: int = 8, rank: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(rank, columns, generator=random), torch.randn(rows, rank, generator=random)


def shared_file(prefix: str, separator: str, *, alpha: float | None) -> dict[str, Tensor]:
    """A LoRA of all attention and feed-forward layers, as others share it for Wan."""
    tensors = {}
    for seed, (name, (rows, columns)) in enumerate(SHAPES.items()):
        styled_name = prefix + name.replace(".", separator)
        tensors[f"{styled_name}.lora_down.weight"], tensors[f"{styled_name}.lora_up.weight"] = factors(
            rows, columns, 2, seed
        )
        if alpha is not None:
            tensors[f"{styled_name}.alpha"] = torch.tensor(alpha)
    return tensors


@pytest.mark.parametrize(
    ("prefix", "separator", "alpha", "convert"),
    [
        ("diffusion_model.", ".", None, _convert_non_diffusers_wan_lora_to_diffusers),
        ("diffusion_model.", ".", 0.5, _convert_non_diffusers_wan_lora_to_diffusers),
        ("lora_unet_", "_", 0.5, _convert_musubi_wan_lora_to_diffusers),
    ],
)
def test_shared_files_mean_what_diffusers_makes_of_them(prefix, separator, alpha, convert):
    tensors = shared_file(prefix, separator, alpha=alpha)
    ours = parse_lora(tensors, where="lora")
    theirs = parse_lora(convert({name: t.clone() for name, t in tensors.items()}), where="converted")
    assert len(ours.by_parameter) == len(SHAPES)
    assert ours.by_parameter.keys() == theirs.by_parameter.keys()
    for name, update in ours.by_parameter.items():
        torch.testing.assert_close(update.delta(CPU), theirs.by_parameter[name].delta(CPU))


@pytest.mark.parametrize(
    ("name", "down", "up", "style"),
    [
        ("lora_unet__blocks_0_self_attn_q", "lora_down", "lora_up", "kohya"),
        ("lora_unet_blocks_0_self_attn_q", "lora_down", "lora_up", "kohya"),
        ("base_model.model.blocks.0.attn1.to_q", "lora_A", "lora_B", "peft"),
        ("base_model.model.blocks.0.self_attn.q", "lora_A.default", "lora_B.default", "peft"),
        ("transformer.blocks.0.attn1.to_q", "lora_A", "lora_B", "diffusers"),
        ("transformer.blocks.0.attn1.to_q", "lora.down", "lora.up", "diffusers"),
        ("diffusion_model.blocks.0.self_attn.q", "lora_A", "lora_B", "original"),
        ("diffusion_model.blocks.0.self_attn.q", "lora_down", "lora_up", "original"),
        ("blocks.0.self_attn.q", "lora_A.default", "lora_B.default", "original"),
        ("lora_unet_blocks_0.self_attn.q", "lora_down", "lora_up", "kohya"),
        ("lora_unet_blocks.0.self_attn_q", "lora_down", "lora_up", "kohya"),
        ("lora_transformer_blocks_0_attn1_to_q", "lora_down", "lora_up", "kohya"),
        ("pipe.dit.blocks.0.self_attn.q", "lora_A.default", "lora_B.default", "original"),
    ],
)
def test_every_style_is_known_and_adds_the_same(name, down, up, style):
    first, second = factors()
    tensors = {f"{name}.{down}.weight": first, f"{name}.{up}.weight": second}
    if style == "kohya":
        tensors[f"{name}.alpha"] = torch.tensor(2.0)
    assert lora_style(tensors) == style
    ((parameter, update),) = parse_lora(tensors, where="lora").by_parameter.items()
    assert parameter == QUERY
    assert torch.equal(update.delta(CPU), second @ first)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_factors_in_float8_are_added_in_float32(dtype):
    first, second = (factor.to(dtype) for factor in factors())
    tensors = {f"{KOHYA}.lora_down.weight": first, f"{KOHYA}.lora_up.weight": second}
    tensors[f"{KOHYA}.alpha"] = torch.tensor(4.0).to(dtype)
    ((_, update),) = parse_lora(tensors, where="lora").by_parameter.items()
    assert torch.equal(update.delta(CPU), (second.float() @ first.float()) * 2)
    tensors[f"{KOHYA}.lora_up.weight"] = torch.full((8, 2), torch.nan).to(dtype)
    with pytest.raises(WeightsError, match=r"lora_up.weight' is not finite"):
        parse_lora(tensors, where="lora")


def test_weights_of_a_network_are_no_lora():
    assert lora_style(["blocks.0.self_attn.q.weight", "head.modulation"]) is None
    assert lora_style([]) is None


PEFT = "base_model.model.blocks.0.attn1.to_q"


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({}, 1.0),
        ({"r": 2, "lora_alpha": 8}, 4.0),
        ({"lora_alpha": 8, "use_rslora": True}, 8 / math.sqrt(2)),
        ({"lora_alpha": 8, "alpha_pattern": {"to_q": 1}}, 0.5),
        ({"lora_alpha": 8, "alpha_pattern": {"^blocks.0.attn1.to_q": 1}}, 0.5),
        ({"lora_alpha": 8, "alpha_pattern": {r"blocks\.\d.attn1.*": 1}}, 0.5),
        ({"lora_alpha": 8, "alpha_pattern": {"to_k": 1, "o_q": 1}}, 4.0),
        ({"transformer.lora_alpha": 8, "transformer.alpha_pattern": {}}, 4.0),
    ],
)
def test_alpha_counts_as_peft_counts_it(settings, scale):
    down, up = factors()
    tensors = {f"{PEFT}.lora_A.weight": down, f"{PEFT}.lora_B.weight": up}
    update = parse_lora(tensors, settings, where="lora").by_parameter[QUERY]
    torch.testing.assert_close(update.delta(CPU), scale * up @ down)


def test_settings_are_found_in_the_header_and_beside_the_file(tmp_path):
    down, up = factors()
    tensors = {f"{PEFT}.lora_A.weight": down, f"{PEFT}.lora_B.weight": up}
    folder = tmp_path / "peft"
    write_tensors(folder / "adapter_model.safetensors", tensors, {})
    (folder / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 6}))
    write_tensors(
        tmp_path / "x.safetensors", tensors, {"lora_adapter_metadata": json.dumps({"lora_alpha": 6})}
    )
    torch.save(tensors, tmp_path / "x.pt")
    for path, scale in [
        ("peft", 3),
        ("peft/adapter_model.safetensors", 3),
        ("x.safetensors", 3),
        ("x.pt", 1),
    ]:
        assert read_lora(tmp_path / path).by_parameter[QUERY].scale == scale, path


def test_kernels_are_updated_by_kernels():
    down, up = torch.randn(2, 16, 1, 2, 2), torch.randn(8, 2, 1, 1, 1)
    name = "diffusion_model.patch_embedding"
    tensors = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
    ((parameter, update),) = parse_lora(tensors, where="lora").by_parameter.items()
    assert parameter == "transformer.patch_embedding.weight"
    expected = torch.einsum("or,rithw->oithw", up[..., 0, 0, 0], down)
    torch.testing.assert_close(update.delta(CPU), expected)


def test_differences_of_whole_tensors_are_added_as_they_are():
    keys = {
        "diffusion_model.blocks.0.self_attn.q.diff_b": "transformer.blocks.0.attn1.to_q.bias",
        "diffusion_model.blocks.0.norm3.diff": "transformer.blocks.0.norm2.weight",
        "diffusion_model.blocks.0.cross_attn.norm_k.diff": "transformer.blocks.0.attn2.norm_k.weight",
        "diffusion_model.blocks.1.diff_m": "transformer.blocks.1.scale_shift_table",
        "diffusion_model.head.diff_m": "transformer.scale_shift_table",
        "diffusion_model.blocks.1.modulation.diff": "transformer.blocks.1.scale_shift_table",
    }
    for key, parameter in keys.items():
        tensor = torch.randn(8)
        ((found, update),) = parse_lora({key: tensor}, where="lora").by_parameter.items()
        assert found == parameter
        assert isinstance(update, WeightDelta)
        assert torch.equal(update.delta(CPU), tensor)


def test_the_bias_of_an_update_counts_as_much_as_its_weight():
    down, up = factors()
    tensors = {
        f"{PEFT}.lora_B.bias": torch.ones(8),
        f"{PEFT}.lora_A.weight": down,
        f"{PEFT}.lora_B.weight": up,
    }
    updates = parse_lora(tensors, {"lora_alpha": 6}, where="lora").by_parameter
    assert isinstance(updates[QUERY], LowRank)
    assert torch.equal(updates["transformer.blocks.0.attn1.to_q.bias"].delta(CPU), torch.full((8,), 3.0))
    with pytest.raises(WeightsError, match=r"lora_B\.bias' stands without its weight"):
        parse_lora({f"{PEFT}.lora_B.bias": torch.ones(8)}, where="lora")


KOHYA = "lora_unet__blocks_0_self_attn_q"
WHOLE = dict(zip((f"{KOHYA}.lora_down.weight", f"{KOHYA}.lora_up.weight"), factors(), strict=True)) | {
    f"{KOHYA}.alpha": torch.tensor(2.0)
}
FLUX = "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight"


def without(part: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in WHOLE.items() if not name.endswith(part)}


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({}, "holds no LoRA"),
        ({FLUX: torch.ones(2, 2)} | WHOLE, f"'{FLUX}' updates nothing .* another network"),
        ({"blocks.0.self_attn.q.weight": torch.ones(8, 8)}, "'blocks.0.self_attn.q.weight' updates nothing"),
        ({"lora_te_mlp.lora_up.weight": torch.ones(8, 8)}, "'lora_te_mlp.lora_up.weight' updates nothing"),
        (WHOLE | {f"{KOHYA}.dora_scale": torch.ones(8)}, r"another method than LoRA \(dora_scale\)"),
        (WHOLE | {f"{KOHYA}.hada_w1_a": torch.ones(8)}, r"\(hada\)"),
        (without("alpha"), f"'{KOHYA}.alpha' is missing"),
        (without("lora_down.weight"), f"lora_down / lora_A of '{KOHYA}' is missing"),
        (without("lora_up.weight"), f"lora_up / lora_B of '{KOHYA}' is missing"),
        (WHOLE | {"diffusion_model.blocks.0.self_attn.q.lora_up.weight": torch.ones(8, 2)}, "a second time"),
        (WHOLE | {"diffusion_model.blocks.0.self_attn.q.diff": torch.ones(8, 8)}, "beside another update"),
        (WHOLE | {f"{KOHYA}.lora_up.weight": torch.ones(8, 3)}, r"\[8, 3\].*\[2, 8\] do not multiply"),
        (WHOLE | {f"{KOHYA}.lora_up.weight": torch.ones(8)}, r"\[8\].*do not multiply"),
        (WHOLE | {f"{KOHYA}.lora_up.weight": torch.ones(8, 2, 3)}, "do not multiply"),
        (WHOLE | {f"{KOHYA}.lora_up.weight": torch.full((8, 2), torch.nan)}, "lora_up.weight' is not finite"),
        (WHOLE | {f"{KOHYA}.alpha": torch.ones(2)}, "alpha' must be one number"),
        (WHOLE | {f"{KOHYA}.alpha": torch.zeros(())}, "alpha' must be one number, not 0"),
        (shared_file("", ".", alpha=None) | {"head.head.alpha": torch.ones(())}, r"q\.alpha' is missing"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tensors, words):
    with pytest.raises(WeightsError, match=words) as error:
        parse_lora(tensors, where="my.safetensors")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("my.safetensors")


@pytest.mark.parametrize(
    "settings",
    [{"lora_alpha": "much"}, {"alpha_pattern": {"(": 1}}, {"alpha_pattern": 3}, {"lora_alpha": []}],
)
def test_settings_that_make_no_sense_are_one_line(settings):
    down, up = factors()
    with pytest.raises(WeightsError, match=r"lora: its settings of alpha cannot be read"):
        parse_lora({f"{PEFT}.lora_A.weight": down, f"{PEFT}.lora_B.weight": up}, settings, where="lora")


def test_a_truncated_file_is_one_line(tmp_path):
    path = tmp_path / "lora.safetensors"
    write_tensors(path, WHOLE, {})
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(WeightsError, match=r"lora\.safetensors"):
        read_lora(path)
