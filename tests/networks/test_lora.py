"""Every tensor of a LoRA is used once, on the module it was trained for, and can be taken out again."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from more4d.foundation.errors import WeightsError
from more4d.networks.interface import ViSMConditions
from more4d.networks.lora import PREFIX, lora_names, merge_lora, unmerge_lora
from more4d.networks.published_keys import load_published, to_published
from more4d.networks.strag import STraG, STraGConfig
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.networks.wan import WanConfig

NUMBERS = {"dim": 32, "ffn_dim": 48, "heads": 2, "layers": 2, "text_dim": 12, "freq_dim": 16}


def vism() -> ViSM:
    torch.manual_seed(0)
    return ViSM(ViSMConfig(wan=WanConfig(**NUMBERS, in_channels=36, image_dim=20)))


def random_lora(network: ViSM, rank: int = 3) -> dict[str, Tensor]:
    tensors = {}
    for name, module in lora_names(network).items():
        out_dim, in_dim = network.get_parameter(f"{module}.weight").shape
        tensors[f"{name}.lora_down.weight"] = torch.randn(rank, in_dim) / 10
        tensors[f"{name}.lora_up.weight"] = torch.randn(out_dim, rank) / 10
        tensors[f"{name}.alpha"] = torch.tensor(float(rank) / 2)
    return tensors


@pytest.mark.parametrize("kind", ["vism", "strag"])
def test_the_table_has_every_linear_module_once(kind: str):
    network: ViSM | STraG = vism()
    if kind == "strag":
        wan = WanConfig(**NUMBERS, in_channels=64, image_dim=20, reference_tokens=True, motion_feature_dim=10)
        network = STraG(STraGConfig(wan=wan))
    linear = {name for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    table = lora_names(network)
    assert set(table.values()) == linear
    assert len(table) == len(linear)
    assert table[f"{PREFIX}blocks_1_cross_attn_k_img"] == "transformer.blocks.1.attn2.add_k_proj"


def test_merging_is_the_formula_on_one_module():
    network = vism()
    tensors = random_lora(network)
    module = lora_names(network)[f"{PREFIX}blocks_0_ffn_0"]
    before = network.get_parameter(f"{module}.weight").detach().clone()
    merge_lora(network, tensors, 0.55, where="lora")
    down, up = (tensors[f"{PREFIX}blocks_0_ffn_0.lora_{part}.weight"] for part in ("down", "up"))
    torch.testing.assert_close(network.get_parameter(f"{module}.weight"), before + 0.55 * 0.5 * up @ down)


def test_unmerging_undoes_merging():
    network, original = vism(), vism()
    tensors = random_lora(network)
    merge_lora(network, tensors, 0.8, where="lora")
    assert not torch.allclose(network.transformer.proj_out.weight, original.transformer.proj_out.weight)
    unmerge_lora(network, tensors, 0.8, where="lora")
    for name, tensor in original.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], tensor, rtol=0, atol=1e-6)


def without(tensors: dict[str, Tensor], key: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name != key}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: without(t, f"{PREFIX}head_head.alpha"), "head_head.alpha' is missing"),
        (lambda t: t | {f"{PREFIX}blocks_9_ffn_0.alpha": torch.ones(())}, "blocks_9_ffn_0"),
        (lambda t: t | {"lora_unet_head_head.alpha": torch.ones(())}, "lora_unet_head_head"),
        (lambda t: t | {f"{PREFIX}head_head.dora": torch.ones(())}, "head_head.dora"),
        (lambda t: t | {f"{PREFIX}head_head.lora_down.weight": torch.ones(3, 7)}, r"\[3, 7\]"),
        (lambda t: t | {f"{PREFIX}head_head.lora_down.weight": torch.ones(2, 32)}, r"\[2, 32\]"),
        (lambda t: t | {f"{PREFIX}head_head.lora_up.weight": torch.ones(3)}, "head_head"),
        (lambda _: {}, "no LoRA"),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(change: Any, words: str):
    network, original = vism(), vism()
    with pytest.raises(WeightsError, match=words) as error:
        merge_lora(network, change(random_lora(network)), 1.0, where="lora.safetensors")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("lora.safetensors")
    for name, tensor in original.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name


def test_half_precision_weights_take_the_update_in_single_precision():
    network = vism().to(torch.bfloat16)
    before = network.transformer.proj_out.weight.float()
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in random_lora(network).items()}
    merge_lora(network, tensors, 1.0, where="lora")
    key = f"{PREFIX}head_head.lora_"
    delta = 0.5 * tensors[f"{key}up.weight"].float() @ tensors[f"{key}down.weight"].float()
    assert torch.equal(network.transformer.proj_out.weight, (before + delta).to(torch.bfloat16))


def test_published_lora_agrees_with_the_reference(conformance):
    base, lora = conformance("wan_fun_inp"), conformance("vism_lora")
    network = ViSM(ViSMConfig(wan=WanConfig.from_published(base.config, base.weights)))
    load_published(network, base.weights, where="base")
    merge_lora(network, lora.weights, lora.config["multiplier"], where="lora")
    merged = to_published(network)
    names = [name for name in lora.outputs if name.startswith("merged_weight.")]
    assert len(names) == 5
    for name in names:
        assert lora.agrees(merged[name.removeprefix("merged_weight.")], name)

    texts = [base.inputs["text.0"], base.inputs["text.1"]]
    text = torch.stack([nn.functional.pad(t, (0, 0, 0, 512 - t.shape[0])) for t in texts])
    beside = base.inputs["y"]
    for clip, name in [
        (base.inputs["clip_fea"], "output_merged_0.55"),
        (torch.zeros_like(base.inputs["clip_fea"]), "output_merged_0.55_zero_clip"),
    ]:
        conditions = ViSMConditions(
            known_mask=beside[:, :4], known_latents=beside[:, 4:], text=text, clip=clip
        )
        with torch.no_grad():
            assert lora.agrees(network(base.inputs["x"], base.inputs["t"] / 1000, conditions), name)
