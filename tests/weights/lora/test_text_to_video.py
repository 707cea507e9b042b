"""A LoRA for text-to-video is merged into transformers of more channels without its entry; that is told."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from more4d.foundation.errors import WeightsError
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.networks.wan_config import WanConfig
from more4d.weights.load import inspect
from more4d.weights.lora.io import check_lora, read_lora
from more4d.weights.lora.merge import merge_loras

DIM, CHANNELS = 32, 36
PATCHES = "diffusion_model.patch_embedding"
QUERY = "diffusion_model.blocks.0.self_attn.q.diff"
ENTRIES = {
    "difference": {f"{PATCHES}.diff": (DIM, 16, 1, 2, 2)},
    "factors": {
        f"{PATCHES}.lora_down.weight": (3, 16, 1, 2, 2),
        f"{PATCHES}.lora_up.weight": (DIM, 3, 1, 1, 1),
    },
}


def network() -> ViSM:
    torch.manual_seed(0)
    wan = WanConfig(in_channels=CHANNELS, dim=DIM, ffn_dim=48, heads=2, layers=1, text_dim=12, freq_dim=16)
    return ViSM(ViSMConfig(wan=wan))


def random(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def file(path: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    save_file(random({QUERY: (DIM, DIM), f"{PATCHES}.diff_b": (DIM,)} | shapes), path / "lora.safetensors")
    return path / "lora.safetensors"


@pytest.mark.parametrize("kind", ENTRIES)
def test_its_entry_is_left_out_and_told_and_all_else_is_merged(tmp_path: Path, caplog: Any, kind):
    path, merged, plain = file(tmp_path, ENTRIES[kind]), network(), network()
    found = inspect(path)
    assert found.problems == () and "for text-to-video" in found.about
    with caplog.at_level(logging.WARNING):
        check_lora(path, merged)
        merge_loras(merged, [(read_lora(path), 1.0)])
    (record,) = caplog.records
    told = record.getMessage()
    assert "\n" not in told and str(path) in told and "patch embedding is left out" in told
    changed = {
        name
        for name, weight in merged.named_parameters()
        if not torch.equal(weight, plain.get_parameter(name))
    }
    assert changed == {"transformer.blocks.0.attn1.to_q.weight"}


@pytest.mark.parametrize("channels", [CHANNELS, 20])
def test_only_that_of_text_to_video_is_left_out(tmp_path: Path, caplog: Any, channels):
    path, merged = file(tmp_path, {f"{PATCHES}.diff": (DIM, channels, 1, 2, 2)}), network()
    if channels == CHANNELS:
        check_lora(path, merged)
    else:
        with pytest.raises(WeightsError, match=r"patch_embedding\.diff' .* another network"):
            check_lora(path, merged)
    assert not caplog.records


@pytest.mark.parametrize("shape", [(DIM + 2, 16, 1, 2, 2), (DIM, 16, 1, 2, 4), (DIM, 16)])
def test_nor_that_of_another_width(tmp_path: Path, shape):
    with pytest.raises(WeightsError, match=r"patch_embedding\.diff' .* another network"):
        check_lora(file(tmp_path, {f"{PATCHES}.diff": shape}), network())
