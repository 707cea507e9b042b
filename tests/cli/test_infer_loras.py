"""LoRAs on the command line: several for a network, each at its strength, in any style of file."""

import json

import pytest
import torch

from more4d.weights.load import inspect, load
from more4d.weights.lora.io import convert_lora
from more4d.weights.lora.merge import lora_names
from more4d.weights.state import read_tensors, write_tensors


@pytest.fixture
def lora(random_preset, tmp_path):
    """A file that updates everything in the preset's 4D-STraG."""
    network = load(inspect(random_preset / "strag.safetensors"))
    tensors, random = {}, torch.Generator().manual_seed(0)
    for name, module in lora_names(network).items():
        rows, columns = network.get_submodule(module).weight.shape
        tensors[f"{name}.lora_down.weight"] = torch.randn(2, columns, generator=random)
        tensors[f"{name}.lora_up.weight"] = torch.randn(rows, 2, generator=random)
        tensors[f"{name}.alpha"] = torch.tensor(2.0)
    write_tensors(tmp_path / "lora.safetensors", tensors, {})
    return tmp_path / "lora.safetensors"


def test_loras_are_merged_and_recorded(command, photo, lora, tmp_path):
    convert_lora(lora, tmp_path / "folder", "peft")
    job = (photo, "--prompt", "it rolls", "--camera", "static", "--frames", "5")
    plain = command(*job)
    result = command(
        *job, "--strag-lora", f"{lora}:0.5", "--strag-lora", tmp_path / "folder", output=tmp_path / "two"
    )
    assert plain.code == result.code == 0, result.err
    assert (tmp_path / "two/ball/tracks.safetensors").read_bytes() != (
        tmp_path / "out/ball/tracks.safetensors"
    ).read_bytes()
    recorded = json.loads((tmp_path / "two/ball/run.json").read_text())
    assert recorded["loras"]["strag"] == [
        {"file": str(lora), "strength": 0.5},
        {"file": str(tmp_path / "folder"), "strength": 1.0},
    ]


def test_a_lora_in_float8_is_merged(command, photo, lora, tmp_path):
    tensors = {
        name: tensor.to(torch.float8_e4m3fn) if "lora_" in name.rpartition(".lora_")[1] else tensor
        for name, tensor in read_tensors(lora).items()
    }
    assert torch.float8_e4m3fn in {tensor.dtype for tensor in tensors.values()}
    write_tensors(tmp_path / "fp8.safetensors", tensors, {})
    job = (photo, "--prompt", "it rolls", "--camera", "static", "--frames", "5")
    result = command(*job, "--strag-lora", tmp_path / "fp8.safetensors")
    assert result.code == 0, result.err


def test_a_lora_of_another_network_is_one_line(command, photo, lora):
    result = command(photo, "--prompt", "it rolls", "--vism-lora", lora)
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "lora.safetensors: 'lora_unet__" in result.err and "another network" in result.err


def test_an_impossible_strength_is_refused(command, photo):
    result = command(photo, "--prompt", "it rolls", "--vism-lora", "lora.safetensors:1000")
    assert result.code == 2 and "strength must lie between" in result.err
