"""Float8 weights with scales are multiplied out; other quantised weights are named for what they are."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import ByT5Tokenizer

from more4d.foundation.errors import WeightsError
from more4d.pipelines.preset_check import FileState
from more4d.weights.convert import convert
from more4d.weights.load import Checkpoint, inspect, load
from more4d.weights.published_keys import network_names
from tests import published_presets as published
from tests.networks.assertions import assert_one_line_error

HEADS = {"heads": published.HEADS}
QUERY = "blocks.0.self_attn.q.weight"
SPELLINGS = ["scale_weight", "weight_scale"]


def scaled(spelling: str = "scale_weight", *, rows: bool = False) -> dict[str, Tensor]:
    """An InP transformer as ComfyUI has it: matrices of the blocks in float8, their largest number 448."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in published.random(published.transformer(36), seed=36).items():
        if not name.startswith("blocks.") or tensor.ndim != 2:
            tensors[name] = tensor.half()
            continue
        largest = tensor.abs().amax(1, keepdim=True) if rows else tensor.abs().max()
        tensors[name] = (tensor / largest * 448).to(torch.float8_e4m3fn)
        module = name.removesuffix("weight")
        tensors[module + spelling] = largest / 448
        if spelling == "weight_scale":
            format_name = b'{"format": "float8_e4m3fn"}'
            tensors[f"{module}comfy_quant"] = torch.tensor(list(format_name), dtype=torch.uint8)
        else:
            tensors[f"{module}scale_input"] = torch.ones(())
    return tensors | (
        {} if spelling == "weight_scale" else {"scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn)}
    )


def expected(tensors: dict[str, Tensor], name: str) -> Tensor:
    module = name.removesuffix("weight")
    scale = next((tensors[module + each] for each in SPELLINGS if module + each in tensors), None)
    return tensors[name].float() if scale is None else tensors[name].float() * scale.float()


def inspected(path: Path, tensors: dict[str, Tensor]) -> Checkpoint:
    save_file(tensors, path)
    return inspect(path, role="vism", options=HEADS)


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, None])
def test_a_weight_is_its_numbers_times_its_scale(tmp_path: Path, spelling, rows, dtype):
    tensors = scaled(spelling, rows=rows)
    found = inspected(tmp_path / "w.safetensors", tensors)
    assert found.problems == () and "float8 with scales" in found.about
    network = load(found, dtype=dtype)
    state = network.state_dict()
    for name, ours in network_names(network).items():
        wanted = expected(tensors, name)
        assert torch.equal(state[ours], wanted.to(state[ours].dtype)), name
        if name == QUERY:  # rounded once, from float32
            assert state[ours].dtype == (dtype or torch.float32)


def test_the_prefix_of_comfyui_may_be_in_front_of_everything_but_the_marker(tmp_path: Path):
    tensors = scaled()
    renamed = {
        name if name == "scaled_fp8" else f"model.diffusion_model.{name}": tensor
        for name, tensor in tensors.items()
    }
    network = load(inspected(tmp_path / "w.safetensors", renamed))
    assert torch.equal(network.transformer.blocks[0].attn1.to_q.weight, expected(tensors, QUERY))


@pytest.mark.parametrize("name", ["scaled_fp8", QUERY.replace("weight", "scale_weight")])
def test_a_scale_that_is_lost_is_named(tmp_path: Path, name):
    tensors = scaled()
    scale = tensors.pop(name)
    found = inspected(tmp_path / "w.safetensors", tensors)
    if name == "scaled_fp8":  # scales are enough
        assert found.problems == ()
        tensors = {key: tensor for key, tensor in tensors.items() if "scale_weight" not in key}
        found = inspected(tmp_path / "w.safetensors", tensors | {name: scale})
    assert "scale_weight" in found.missing[0]
    assert str(found.problems[0]).startswith("tensor")
    assert FileState(path=found.path, found=found).state == "broken"


def test_float8_without_scales_is_taken_as_it_is(tmp_path: Path):
    tensors = {name: tensor for name, tensor in scaled().items() if "scale" not in name}
    network = load(inspected(tmp_path / "w.safetensors", tensors))
    assert torch.equal(network.transformer.blocks[0].attn1.to_q.weight, tensors[QUERY].float())


def test_a_scale_of_what_is_not_float8_is_not_expected(tmp_path: Path):
    tensors = {name: tensor.half() for name, tensor in scaled().items() if "scale_input" not in name}
    found = inspected(tmp_path / "w.safetensors", tensors)
    assert set(found.unexpected) >= {QUERY.replace("weight", "scale_weight")}


BLOCKS = torch.ones(published.DIM, 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"blocks.0.self_attn.q.weight_scale": BLOCKS}, "scales of blocks"),
        ({"blocks.0.self_attn.q.weight_scale": torch.ones(()).to(torch.uint8)}, "scales of blocks"),
        ({QUERY: torch.ones(24, 12, dtype=torch.uint8)}, "quantised to uint8"),
        (
            {QUERY: torch.ones(24, 12, dtype=torch.uint8), f"{QUERY}.absmax": torch.ones(9)}
            | {"blocks.0.self_attn.q.weight_scale": torch.ones(1)},
            "quantised to uint8",
        ),
        ({QUERY: torch.ones(24, 24, dtype=torch.int8), "blocks.0.self_attn.q.SCB": torch.ones(24)}, "int8"),
    ],
)
def test_other_quantisations_are_refused_for_what_they_are(tmp_path: Path, changes, words):
    found = inspected(tmp_path / "w.safetensors", scaled("weight_scale") | changes)
    assert len(found.problems) == 1
    assert FileState(path=found.path, found=found).state == "refused"
    with pytest.raises(WeightsError) as error:
        load(found)
    assert_one_line_error(error, words, QUERY.removesuffix("weight"), "give the same weights in bf16 or fp16")


@pytest.mark.parametrize("quantised", [False, True])
def test_a_text_encoder_of_comfyui_is_read(tmp_path: Path, quantised):
    from more4d.networks.conditioners import published_text_names

    ByT5Tokenizer().save_pretrained(tmp_path / "tokenizer")
    stored = published.random(published.text_encoder(), seed=2)
    tensors = {ours: stored[name].half() for name, ours in published_text_names(2).items()}
    wanted = {name: tensor.float() for name, tensor in tensors.items()}
    for name in [name for name in tensors if quantised and "SelfAttention.q." in name]:
        scale = torch.tensor(0.01)
        tensors[name] = (tensors[name] / scale).to(torch.float8_e4m3fn)
        tensors[name.replace("weight", "scale_weight")] = scale
        wanted[name] = tensors[name].float() * scale
    save_file(tensors | {"spiece_model": torch.ones(6, dtype=torch.uint8)}, tmp_path / "w.safetensors")
    found = inspect(tmp_path / "w.safetensors", role="text")
    assert (found.layout, found.problems) == ("transformers-umt5", ())
    state = load(found).encoder.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in wanted.items())


def test_float8_is_converted_with_its_scales_or_bit_for_bit(tmp_path: Path):
    for name, tensors in {"scaled": scaled(), "plain": scaled()}.items():
        if name == "plain":
            tensors = {key: tensor for key, tensor in tensors.items() if "scale" not in key}
        save_file(tensors, tmp_path / f"{name}.safetensors")
        convert(tmp_path / f"{name}.safetensors", tmp_path / name, role="vism", options=HEADS)
        kept = load(inspect(tmp_path / name, role="vism"), dtype=None).transformer.blocks[0].attn1.to_q.weight
        assert torch.equal(kept.float(), expected(tensors, QUERY))
        assert kept.dtype == (torch.float32 if name == "scaled" else torch.float8_e4m3fn)
