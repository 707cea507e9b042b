"""Padding does not change texts, and published encoders agree with the reference."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import ByT5Tokenizer

from more4d.foundation.config import from_mapping
from more4d.foundation.errors import ConfigError, WeightsError
from more4d.networks.conditioners import (
    ClipVision,
    ClipVisionConfig,
    TextEncoderConfig,
    UMT5TextEncoder,
)
from more4d.weights.load import inspect, load
from more4d.weights.state import save_network

PROMPTS = ["the red truck drives toward the camera", "", "a ball – rolls"]
TINY = TextEncoderConfig(dim=32, layers=2, heads=2, head_dim=8, ff=48, length=64)


def text_encoder(config: TextEncoderConfig = TINY) -> UMT5TextEncoder:
    torch.manual_seed(0)
    return UMT5TextEncoder(config)


def test_embeddings_are_zero_beyond_the_end_of_each_text():
    embedded = text_encoder().encode_text(PROMPTS)
    assert embedded.shape == (3, 64, 32)
    for prompt, vectors in zip(PROMPTS, embedded, strict=True):
        length = len(prompt.encode()) + 1
        assert vectors[:length].abs().sum(-1).min() > 0
        assert not vectors[length:].any()


def test_a_text_does_not_depend_on_its_neighbours():
    encoder = text_encoder()
    together = encoder.encode_text(PROMPTS)
    for index, prompt in enumerate(PROMPTS):
        torch.testing.assert_close(encoder.encode_text([prompt])[0], together[index], rtol=0, atol=1e-5)


def test_bytes_are_numbered_as_byt5_numbers_them():
    tokens = text_encoder().tokenize(PROMPTS)
    tokenizer = ByT5Tokenizer()
    for row, prompt in zip(tokens.tolist(), PROMPTS, strict=True):
        expected = tokenizer(prompt)["input_ids"]
        assert row == expected + [0] * (tokens.shape[1] - len(expected))


def test_surplus_white_space_changes_nothing():
    encoder = text_encoder()
    assert torch.equal(encoder.tokenize(["  a \n red\tball "]), encoder.tokenize(["a red ball"]))


def test_a_long_prompt_is_cut_and_says_so(caplog):
    encoder = text_encoder()
    with caplog.at_level(logging.WARNING):
        tokens = encoder.tokenize(["x" * 100, "short"])
    assert tokens.shape == (2, 64)
    assert tokens[0, -1] == 1
    assert len(caplog.records) == 1
    assert "101 tokens" in caplog.text


def test_every_weight_learns():
    encoder = text_encoder()
    encoder.encode_text(PROMPTS).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_the_text_encoder_comes_back_from_its_file(tmp_path: Path):
    encoder = text_encoder()
    path = tmp_path / "text.safetensors"
    save_network(path, encoder, architecture="umt5-text-encoder", config=encoder.config)

    def build(values: dict[str, Any]) -> UMT5TextEncoder:
        return UMT5TextEncoder(from_mapping(TextEncoderConfig, values))

    loaded = load(inspect(path, architecture="umt5-text-encoder"))
    assert torch.equal(loaded.encode_text(PROMPTS), encoder.encode_text(PROMPTS))


def test_a_vocabulary_without_room_for_bytes_is_refused():
    with pytest.raises(ConfigError, match="259"):
        UMT5TextEncoder(TextEncoderConfig(vocab=100))


def test_a_missing_or_empty_tokenizer_folder_is_one_line(tmp_path: Path):
    for folder in (tmp_path / "nowhere", tmp_path):
        encoder = text_encoder(TextEncoderConfig(dim=8, layers=1, heads=1, tokenizer=str(folder)))
        with pytest.raises(WeightsError) as error:
            encoder.encode_text(["a"])
        assert str(folder) in str(error.value)
        assert "\n" not in str(error.value)


def test_published_text_encoder_agrees_with_the_reference(conformance, pth, tmp_path: Path):
    reference = conformance("t5_encoder")
    options = {"tokenizer": str(tmp_path), "length": 24}
    encoder = load(inspect(pth("t5_encoder"), role="text", options=options))
    valid = reference.inputs["attention_mask"].bool()
    embedded = encoder.embed(reference.inputs["input_ids"], valid)
    assert embedded.shape == (2, 24, reference.config["dim"])
    for index, length in enumerate(valid.sum(1).tolist()):
        assert reference.agrees(embedded[index, :length], f"embeds.{index}")
        assert not embedded[index, length:].any()


@pytest.mark.parametrize("change", ["drop", "add"])
def test_published_text_weights_are_strict(conformance, tmp_path: Path, change: str):
    reference = conformance("t5_encoder")
    tensors = dict(reference.weights)
    name = "blocks.1.ffn.fc1.weight"
    if change == "drop":
        del tensors[name]
    else:
        name = "blocks.7.norm1.weight"
        tensors[name] = torch.ones(reference.config["dim"])
    torch.save(tensors, tmp_path / "t5.pth")
    problems = " ".join(map(str, inspect(tmp_path / "t5.pth", role="text").problems))
    assert (name if change == "drop" else "missing") in problems


def test_published_clip_agrees_with_the_reference(conformance, pth):
    reference = conformance("clip_visual")
    heads = {"heads": reference.config["vision_heads"]}
    clip = load(inspect(pth("clip_visual"), role="clip", options=heads))
    image = reference.inputs["image"] / 2 + 0.5
    assert reference.agrees(clip.pixels(image), "pixel_values")
    assert reference.agrees(clip.encode_image(image), "penultimate_hidden")


@pytest.mark.parametrize(
    "name", ["visual.transformer.2.attn.to_qkv.bias", "visual.pre_norm.weight", "visual.cls_embedding"]
)
def test_published_clip_weights_are_strict(conformance, tmp_path: Path, name: str):
    reference, options = conformance("clip_visual"), {"heads": 4}
    tensors = {key: tensor for key, tensor in reference.weights.items() if key != name}
    torch.save(tensors, tmp_path / "clip.pth")
    (problem,) = inspect(tmp_path / "clip.pth", role="clip", options=options).problems
    assert str(problem) == f"tensor '{name}' is missing; fetch it again, or give the right file"
    torch.save(reference.weights | {"visual.surprise": torch.ones(1)}, tmp_path / "clip.pth")
    (problem,) = inspect(tmp_path / "clip.pth", role="clip", options=options).problems
    assert str(problem) == "tensor 'visual.surprise' is not expected; fetch it again, or give the right file"


def test_a_vision_tower_without_a_penultimate_state_is_refused():
    with pytest.raises(ConfigError, match="at least 2"):
        ClipVision(ClipVisionConfig(dim=8, heads=1, ff=8, layers=1))
