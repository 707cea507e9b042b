"""Weights and LoRAs as other programs share them are read, or refused for what they are."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import ByT5Tokenizer

from more4d.foundation.errors import WeightsError
from more4d.networks.conditioners import published_text_names
from more4d.networks.vism import ViSM
from more4d.pipelines.preset_check import FileState
from more4d.weights.load import inspect, load
from more4d.weights.lora.io import check_lora, read_lora
from more4d.weights.lora.merge import merge_loras
from more4d.weights.published_keys import network_names
from tests import published_presets as published

HEADS = {"heads": published.HEADS}
PREFIX = "model.diffusion_model."
REFUSED_LORAS = {
    "dora": ("refused", "dora_scale"),
    "kohya_noalpha": ("broken", ".alpha' is missing"),
    "vace": ("refused", "vace_blocks"),
    "with_te": ("refused", "lora_te_"),
}
TRANSFORMERS = ["comfy_prefix", "comfy_fp8_scaled", "comfy_quant"]
TEXT_ENCODERS = ["umt5_xxl_fp16_comfy", "umt5_xxl_fp8_e4m3fn_scaled"]


@pytest.fixture
def field_cases(shared: Path) -> Path:
    folder = shared / "data" / "field-cases"
    if not folder.is_dir():
        pytest.skip(f"no real test data at {folder}")
    return folder


@pytest.fixture
def inpainting(tmp_path: Path) -> ViSM:
    """The network that the LoRAs of the field cases were made for."""
    save_file(published.random(published.transformer(36), seed=36), tmp_path / "inp.safetensors")
    return load(inspect(tmp_path / "inp.safetensors", role="vism", options=HEADS))


def weight(tensors: dict[str, Tensor], name: str) -> Tensor:
    """As the file means it: its numbers times the scale beside them, if there is one."""
    module = name.removesuffix("weight")
    scales = (module + each for each in ("scale_weight", "weight_scale"))
    scale = next((tensors[each] for each in scales if each in tensors), torch.ones(()))
    return tensors[name].float() * scale


def state_of(path: Path) -> str:
    return FileState(path=path, found=inspect(path)).state


def prefixed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {PREFIX + name: tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("file", TRANSFORMERS)
def test_a_transformer_of_comfyui_is_read(field_cases, file):
    path = field_cases / "weights-comfyui" / f"{file}.safetensors"
    state = load(inspect(path, role="vism", options=HEADS)).state_dict()
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in load_file(path).items()}
    network = load(inspect(path, role="vism", options=HEADS))
    for name, ours in network_names(network).items():
        assert torch.equal(state[ours], weight(tensors, name)), name


@pytest.mark.parametrize("file", TEXT_ENCODERS)
def test_a_text_encoder_of_comfyui_is_read(field_cases, tmp_path: Path, file):
    path = field_cases / "weights-comfyui" / f"{file}.safetensors"
    assert state_of(path) == "ok"
    ByT5Tokenizer().save_pretrained(tmp_path)
    state = load(inspect(path, role="text", options={"tokenizer": str(tmp_path)})).encoder.state_dict()
    tensors = load_file(path)
    for name in published_text_names(2).values():
        assert torch.equal(state[name], weight(tensors, name)), name


@pytest.mark.parametrize("name", ["wan.gguf", "wan.safetensors", "wan"])
def test_gguf_is_refused_for_what_it_is(tmp_path: Path, name):
    path = tmp_path / name
    path.write_bytes(b"GGUF" + bytes([3, 0, 0, 0]) + bytes(200))
    assert state_of(path) == "refused"
    with pytest.raises(WeightsError, match=r"is a GGUF file.* as safetensors in bf16, fp16 or fp8$"):
        load(inspect(path))


def test_a_folder_with_nothing_but_gguf_says_so(tmp_path: Path):
    (tmp_path / "wan.gguf").write_bytes(b"GGUF" + bytes(200))
    with pytest.raises(WeightsError, match=r"wan\.gguf is a GGUF file"):
        inspect(tmp_path)


def test_the_gguf_of_the_field_is_refused(field_cases):
    assert state_of(field_cases / "weights-comfyui" / "wan.gguf") == "refused"


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "diffusion_model."])
def test_a_prefix_makes_no_difference(tmp_path: Path, inpainting, prefix):
    tensors = published.random(published.transformer(36), seed=36)
    renamed = {prefix + name: tensor for name, tensor in tensors.items()}
    save_file(renamed, tmp_path / "w.safetensors")
    found = inspect(tmp_path / "w.safetensors", role="vism", options=HEADS)
    state, plain = load(found).state_dict(), inpainting.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in plain.items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {n: t[n] for n in t if "head.bias" not in n}, f"'{PREFIX}head.head.bias' is missing"),
        (lambda t: t | {"head.head.bias": torch.ones(64)}, "'head.head.bias' is not expected"),
        (lambda t: t | {f"{PREFIX}more": torch.ones(64)}, f"'{PREFIX}more' is not expected"),
    ],
)  # fmt: skip
def test_behind_a_prefix_all_is_as_strict(tmp_path: Path, change: Callable, words):
    tensors = prefixed(published.random(published.transformer(36), seed=36))
    save_file(change(tensors), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError) as error:
        load(inspect(tmp_path / "w.safetensors", role="vism", options=HEADS))
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "file",
    [
        "lora-fp8/fp8_lora",
        "lora-mixed-dots/diffsynth_pipe_dit",
        "lora-mixed-dots/mixed_dots_869",
        "lora-of-other-channels/lightx2v_t2v_patch16",
        "lora-of-other-channels/t2v_patch_lora16",
    ],
)
def test_a_lora_of_the_field_is_merged(field_cases, inpainting, file):
    path = field_cases / f"{file}.safetensors"
    assert state_of(path) == "ok"
    before = {name: tensor.clone() for name, tensor in inpainting.state_dict().items()}
    check_lora(path, inpainting)
    merge_loras(inpainting, [(read_lora(path), 1.0)])
    changed = {
        name for name, tensor in inpainting.state_dict().items() if not torch.equal(tensor, before[name])
    }
    queries = {f"transformer.blocks.{block}.attn1.to_q.weight" for block in range(published.LAYERS)}
    assert queries <= changed
    assert not {name for name in changed if "patch_embedding" in name}


@pytest.mark.parametrize("file", REFUSED_LORAS)
def test_what_check_calls_a_lora_of_the_field_is_what_loading_makes_of_it(field_cases, inpainting, file):
    path, (state, words) = field_cases / "lora-check-says-ok" / f"{file}.safetensors", REFUSED_LORAS[file]
    assert state_of(path) == state
    (problem,) = inspect(path).problems
    for read in (lambda: check_lora(path, inpainting), lambda: read_lora(path)):
        with pytest.raises(WeightsError) as error:
            read()
        assert str(error.value) == f"{path}: {problem}"
        assert words in str(error.value)


QUERY = "diffusion_model.blocks.0.self_attn.q"


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({}, "ok"),
        ({f"{QUERY}.dora_scale": torch.ones(24, 1)}, "refused"),
        ({"diffusion_model.vace_blocks.0.self_attn.q.diff": torch.ones(1)}, "refused"),
        ({"lora_te_mlp.lora_down.weight": torch.ones(3, 24)}, "refused"),
        ({"lora_unet_blocks_0_self_attn_k.lora_down.weight": torch.ones(3, 24)}, "broken"),
        ({f"{QUERY}.alpha": torch.ones(2)}, "broken"),
        ({f"{QUERY}.lora_up.weight": torch.ones(24, 4)}, "broken"),
    ],
)
def test_check_and_loading_share_one_judgement_of_loras(tmp_path: Path, more, state):
    path = tmp_path / "lora.safetensors"
    factors = {f"{QUERY}.lora_down.weight": torch.ones(3, 24), f"{QUERY}.lora_up.weight": torch.ones(24, 3)}
    save_file(factors | more, path)
    assert state_of(path) == state
    if state == "ok":
        assert len(read_lora(path).by_parameter) == 1
    else:
        with pytest.raises(WeightsError) as error:
            read_lora(path)
        assert str(error.value) == f"{path}: {inspect(path).problems[0]}"


def test_settings_that_cannot_be_read_are_told_by_check_too(tmp_path: Path):
    factors = {f"{QUERY}.lora_A.weight": torch.ones(3, 24), f"{QUERY}.lora_B.weight": torch.ones(24, 3)}
    save_file(factors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": "much"}')
    (problem,) = inspect(tmp_path).problems
    with pytest.raises(WeightsError) as error:
        read_lora(tmp_path)
    assert str(error.value) == problem.line(tmp_path)
