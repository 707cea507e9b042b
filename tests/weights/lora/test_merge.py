"""Every update of a LoRA is added to the weight it was trained for, in every precision and memory mode."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from more4d.foundation.errors import WeightsError
from more4d.networks.interface import ViSMConditions
from more4d.networks.strag import STraG, STraGConfig
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.networks.wan import WanConfig
from more4d.performance.offload import Memory, OffloadedModule
from more4d.weights.load import inspect, load
from more4d.weights.lora.io import check_lora, parse_lora
from more4d.weights.lora.keys import KOHYA_PREFIX
from more4d.weights.lora.merge import LoraUpdates, lora_names, merge_loras
from more4d.weights.published_keys import network_names
from more4d.weights.registry import init_empty
from more4d.weights.state import write_tensors

NUMBERS = {"dim": 32, "ffn_dim": 48, "heads": 2, "layers": 2, "text_dim": 12, "freq_dim": 16}
HEAD = f"{KOHYA_PREFIX}head_head"


def vism(dtype: torch.dtype = torch.float32) -> ViSM:
    torch.manual_seed(0)
    return ViSM(ViSMConfig(wan=WanConfig(**NUMBERS, in_channels=36, image_dim=20))).to(dtype)


def random_tensors(network: ViSM, rank: int = 3, seed: int = 1) -> dict[str, Tensor]:
    random, tensors = torch.Generator().manual_seed(seed), {}
    for name, module in lora_names(network).items():
        rows, columns = network.get_parameter(f"{module}.weight").shape
        tensors[f"{name}.lora_down.weight"] = torch.randn(rank, columns, generator=random) / 10
        tensors[f"{name}.lora_up.weight"] = torch.randn(rows, rank, generator=random) / 10
        tensors[f"{name}.alpha"] = torch.tensor(float(rank) / 2)
    return tensors


def lora(network: ViSM, rank: int = 3, seed: int = 1) -> LoraUpdates:
    return parse_lora(random_tensors(network, rank, seed), where="lora.safetensors")


def on_cpu(network: ViSM, memory: Memory = "full") -> OffloadedModule:
    return OffloadedModule(network.eval(), memory, device=torch.device("cpu"), dtype=torch.float32)


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in network.named_parameters()}


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and torch.equal(one[name].view(torch.uint8), other[name].view(torch.uint8))
        for name in one
    )


@pytest.mark.parametrize("kind", ["vism", "strag"])
def test_every_linear_module_has_a_name(kind: str):
    network: ViSM | STraG = vism()
    if kind == "strag":
        wan = WanConfig(**NUMBERS, in_channels=64, image_dim=20, reference_tokens=True, motion_feature_dim=10)
        network = STraG(STraGConfig(wan=wan))
    linear = {name for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    table = lora_names(network)
    assert set(table.values()) == linear
    assert len(table) == len(linear)
    assert table[f"{KOHYA_PREFIX}blocks_1_cross_attn_k_img"] == "transformer.blocks.1.attn2.add_k_proj"


def test_merging_is_the_formula_on_one_module():
    network, tensors = vism(), random_tensors(vism())
    before = network.transformer.proj_out.weight.detach().clone()
    merge_loras(network, [(parse_lora(tensors, where="lora"), 0.55)])
    delta = tensors[f"{HEAD}.lora_up.weight"] @ tensors[f"{HEAD}.lora_down.weight"]
    torch.testing.assert_close(network.transformer.proj_out.weight, before + 0.55 * 0.5 * delta)


def test_weights_stored_in_float8_are_updated_and_rounded_once():
    network = vism()
    placed = on_cpu(network, "fp8")
    weight = network.transformer.blocks[0].ffn.net[2].weight
    assert weight.dtype == torch.float8_e4m3fn
    update, plain = lora(network), velocity(placed)
    added = update.by_parameter["transformer.blocks.0.ffn.net.2.weight"].delta(torch.device("cpu"))
    expected = (weight.float() + added).to(torch.float8_e4m3fn)
    merge_loras(network, [(update, 1.0)])
    assert torch.equal(weight.float(), expected.float())
    assert not torch.equal(velocity(placed), plain)


@pytest.mark.parametrize("memory", ["full", "model", "group", "sequential"])
def test_a_merge_reaches_offloaded_weights(memory: Any):
    network, merged = vism(), vism()
    merge_loras(merged, [(lora(merged), 1.0)])
    placed = on_cpu(network, memory)
    merge_loras(network, [(lora(network), 1.0)])
    assert torch.equal(velocity(placed), velocity(on_cpu(merged)))


def test_float8_weights_saturate():
    network = vism()
    network.transformer.proj_out.to(torch.float8_e4m3fn)
    merge_loras(network, [(lora(network), 1e6)])
    merged = network.transformer.proj_out.weight.float()
    assert merged.abs().max() == 448
    assert merged.isfinite().all()


def test_strengths_add():
    once, twice, both, apart = vism(), vism(), vism(), vism()
    first, second = lora(once), lora(once, rank=4, seed=2)
    merge_loras(once, [(first, 1.0)])
    merge_loras(twice, [(first, 0.3), (first, 0.7)])
    for name, weight in twice.named_parameters():
        torch.testing.assert_close(weight, once.get_parameter(name))
    merge_loras(both, [(first, 0.5), (second, 2.0)])
    merge_loras(apart, [(second, 2.0)])
    merge_loras(apart, [(first, 0.5)])
    for name, weight in both.named_parameters():
        torch.testing.assert_close(weight, apart.get_parameter(name))


def test_several_are_rounded_once():
    """Two halves of a step too small for bfloat16 are together a step."""
    network = vism(torch.bfloat16)
    with torch.no_grad():
        network.transformer.proj_out.weight.fill_(1.0)
    tensors = {
        f"{HEAD}.lora_down.weight": torch.ones(1, 32),
        f"{HEAD}.lora_up.weight": torch.full((64, 1), 2**-8 * 1.1),
        f"{HEAD}.alpha": torch.tensor(1.0),
    }
    half = parse_lora(tensors, where="lora")
    merge_loras(network, [(half, 0.7), (half, 0.7)])
    assert (network.transformer.proj_out.weight == 1 + 2**-7).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda t: {f"{KOHYA_PREFIX}blocks_9_ffn_0.diff_b": torch.ones(48)},
            "'lora_unet__blocks_9_ffn_0.diff_b'",
        ),
        (lambda t: t | {f"{HEAD}.lora_down.weight": torch.ones(3, 7)}, r"head_head.lora_down.*\[64, 7\]"),
        (lambda t: t | {f"{HEAD}.diff_b": torch.ones(3)}, r"head_head.diff_b.*\[3\].*\[64\]"),
    ],
)
def test_a_lora_for_another_network_is_named_by_its_first_key_and_changes_nothing(change: Any, words: str):
    network = vism()
    before = snapshot(network)
    updates = parse_lora(change(random_tensors(network)), where="lora.safetensors")
    with pytest.raises(WeightsError, match=rf"^lora.safetensors: .*{words}.*another") as error:
        merge_loras(network, [(lora(network), 1.0), (updates, 1.0)])
    assert "\n" not in str(error.value)
    assert same_bits(snapshot(network), before)


def test_a_file_is_checked_by_its_header_alone(tmp_path):
    path, config = tmp_path / "lora.safetensors", vism().config
    fits = random_tensors(vism())
    write_tensors(path, fits, {})
    network = init_empty("vism", config)
    assert next(network.parameters()).is_meta
    check_lora(path, network)
    write_tensors(path, fits | {f"{HEAD}.lora_down.weight": torch.ones(3, 7)}, {})
    with pytest.raises(WeightsError, match=r"head_head.lora_down.*another network"):
        check_lora(path, network)
    write_tensors(path, {"blocks.0.ffn.0.weight": torch.ones(3, 7)}, {})
    with pytest.raises(WeightsError, match=r"'blocks.0.ffn.0.weight' updates nothing"):
        check_lora(path, network)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"lora\.safetensors is truncated"):
        check_lora(path, network)


def velocity(placed: OffloadedModule) -> Tensor:
    seed = torch.Generator().manual_seed(1)
    conditions = ViSMConditions(
        text=torch.randn(1, 7, 12, generator=seed),
        known_mask=torch.ones(1, 4, 2, 4, 4),
        known_latents=torch.randn(1, 16, 2, 4, 4, generator=seed),
        clip=torch.randn(1, 5, 20, generator=seed),
    )
    with torch.no_grad(), placed.on_device() as network:
        return network(torch.randn(1, 16, 2, 4, 4, generator=seed), torch.tensor([0.5]), conditions)


def test_published_lora_agrees_with_the_reference(conformance, published_folder):
    base, lora = conformance("wan_fun_inp"), conformance("vism_lora")
    network = load(inspect(published_folder("wan_fun_inp"), role="vism"))
    merge_loras(network, [(parse_lora(lora.weights, where="lora"), lora.config["multiplier"])])
    ours = network.state_dict()
    merged = {published: ours[name] for published, name in network_names(network).items()}
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
