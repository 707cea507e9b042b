"""Published encoders become ours as the loaders that agree with the reference make them."""

import re
from pathlib import Path

import pytest
import torch

from more4d.files.checkpoint_headers import TensorReader
from more4d.foundation.errors import WeightsError
from more4d.networks.conditioners import (
    PUBLISHED_TEXT,
    ClipVisionConfig,
    published_clip_names,
    published_text_names,
)
from more4d.networks.motion_perception import OmniMAEConfig, published_trunk_names
from more4d.weights.load import inspect, load
from more4d.weights.registry import init_empty
from tests.networks.assertions import assert_one_line_error
from tests.networks.sparse_files import write_sparse_safetensors


def test_the_motion_features_inside_strag_are_found(conformance, published_folder):
    reference, path = conformance("strag"), published_folder("strag")
    heads = {"heads": reference.config["omnimae"]["num_heads"]}
    network = load(inspect(path, role="motion_features", options=heads))
    names, tensors = published_trunk_names(network.config), network.state_dict()
    assert set(names.values()) == tensors.keys()
    for name, ours in names.items():
        assert torch.equal(tensors[ours], reference.weights[f"omnimae_extractor.{name}"])


def test_the_published_trunk_is_recognised(conformance, pth):
    reference, path = conformance("omnimae_trunk"), pth("omnimae_trunk")
    network = load(inspect(path, role="motion_features", options={"heads": reference.config["num_heads"]}))
    assert reference.agrees(network(reference.inputs["image"]).flatten(2).transpose(1, 2), "patch_features")


def test_positions_that_are_not_the_sinusoid_are_refused(conformance, tmp_path: Path):
    weights = dict(conformance("omnimae_trunk").weights)
    weights["trunk.pos_embed"] = weights["trunk.pos_embed"] + 1
    torch.save(weights, tmp_path / "w.torch")
    with pytest.raises(WeightsError) as error:
        load(inspect(tmp_path / "w.torch", role="motion_features", options={"heads": 4}))
    assert_one_line_error(error, "sinusoid", "w.torch")


def test_a_trunk_without_its_positions_is_refused(conformance, tmp_path: Path):
    weights = dict(conformance("omnimae_trunk").weights)
    del weights["trunk.pos_embed"]
    torch.save(weights, tmp_path / "w.torch")
    (problem,) = inspect(tmp_path / "w.torch", role="motion_features", options={"heads": 4}).problems
    assert str(problem).startswith("tensor 'trunk.pos_embed' is missing; ")


def test_the_published_text_encoder_is_recognised(conformance, pth, tmp_path: Path):
    (tmp_path / "google" / "umt5-xxl").mkdir(parents=True)
    path = pth("t5_encoder")
    found = inspect(path, role="text")
    assert (found.layout, found.architecture, found.problems) == ("umt5", "umt5-text-encoder", ())
    assert found.config.tokenizer == str(tmp_path / "google" / "umt5-xxl")
    tensors = load(inspect(path, role="text")).encoder.state_dict()
    stored, names = conformance("t5_encoder").weights, published_text_names(found.config.layers)
    assert stored.keys() == names.keys()
    assert all(torch.equal(tensors[ours], stored[name]) for name, ours in names.items())


def test_a_tokenizer_that_is_not_there_is_told_before_anything_is_read(pth, monkeypatch):
    monkeypatch.setattr(TensorReader, "__call__", lambda *_: pytest.fail("a tensor was read"))
    with pytest.raises(WeightsError) as error:
        load(inspect(pth("t5_encoder"), role="text"))
    assert_one_line_error(error, "tokenizer", "google/umt5-xxl")


def test_the_published_vision_tower_is_recognised(conformance, pth):
    reference, path = conformance("clip_visual"), pth("clip_visual")
    options = {"heads": reference.config["vision_heads"]}
    found = inspect(path, role="clip", options=options)
    assert (found.layout, found.architecture, found.problems) == ("clip-vision", "clip-vision", ())
    assert found.config == ClipVisionConfig(dim=32, layers=4, heads=4, ff=128, patch=14, image_size=56)
    tensors = load(inspect(path, role="clip", options=options)).vision.state_dict()
    assert set(published_clip_names(found.config.layers - 1).values()) == tensors.keys()


def test_heads_that_no_tensor_tells_are_asked_for(pth):
    (problem,) = inspect(pth("clip_visual"), role="clip").problems
    assert "heads" in str(problem) and "options: {heads: N} of clip" in str(problem)


def test_what_a_file_lacks_is_told_before_what_nobody_tells(conformance, tmp_path: Path):
    for name, lost, role in (
        ("clip_visual", "visual.transformer.1.mlp.0.bias", "clip"),
        ("omnimae_trunk", "trunk.norm.weight", "motion_features"),
    ):
        weights = dict(conformance(name).weights)
        del weights[lost]
        torch.save(weights, tmp_path / "w.pth")
        for found in (inspect(tmp_path / "w.pth"), inspect(tmp_path / "w.pth", role=role)):
            assert found.config is None
            (problem,) = found.problems
            assert f"'{lost}' is missing" in str(problem)


@pytest.mark.parametrize(
    ("kind", "config", "role", "publish"),
    [
        ("umt5-text-encoder", PUBLISHED_TEXT, "text", lambda config: published_text_names(config.layers)),
        ("omnimae", OmniMAEConfig(), "motion_features", published_trunk_names),
    ],
)
def test_encoders_of_published_widths_have_all_their_blocks(tmp_path: Path, kind, config, role, publish):
    network = init_empty(kind, config)
    tensors = (network.encoder if role == "text" else network).state_dict()
    shapes = {name: tensors[ours] for name, ours in publish(config).items()}
    if role == "motion_features":
        shapes["trunk.pos_embed"] = torch.empty(1, 8 * 196, config.dim, device="meta")
    layers = config.layers if role == "text" else config.depth
    for kept in (layers, layers - 1):
        path = tmp_path / f"{kept}.safetensors"
        halves = {name: tensor.bfloat16() for name, tensor in shapes.items() if not last(name, kept)}
        write_sparse_safetensors(path, halves)
        problems = inspect(path, role=role).problems
        assert [f"has {kept} blocks" in str(problem) for problem in problems] == [True] * (kept < layers)


def last(name: str, block: int) -> bool:
    return f"blocks.{block}." in name


def test_a_vision_tower_without_its_last_block_is_refused(tmp_path: Path):
    """Its penultimate state would be the one before."""
    config = ClipVisionConfig()
    tensors = init_empty("clip-vision", config).vision.state_dict()
    shapes = {}
    for name, ours in published_clip_names(config.layers - 1).items():
        if ".attn.to_" in name:
            side = tensors[ours].shape
            name = re.sub(r"to_[qkv]\.", "to_qkv.", name)
            shapes[name] = torch.empty(3 * side[0], *side[1:], dtype=torch.bfloat16, device="meta")
        else:
            shapes[name] = tensors[ours].bfloat16()
    shapes["visual.cls_embedding"] = torch.empty(1, 1, 1280, dtype=torch.bfloat16, device="meta")
    shapes["visual.pos_embedding"] = torch.empty(1, 257, 1280, dtype=torch.bfloat16, device="meta")
    write_sparse_safetensors(tmp_path / "less.safetensors", shapes)
    (problem,) = inspect(tmp_path / "less.safetensors", role="clip").problems
    assert str(problem).startswith("has 31 blocks, and the published network of its width has 32; ")
    assert "{layers: 31}" in str(problem)
    shapes["visual.transformer.31.norm1.weight"] = torch.empty(1280, dtype=torch.bfloat16, device="meta")
    write_sparse_safetensors(tmp_path / "whole.safetensors", shapes)
    assert inspect(tmp_path / "whole.safetensors", role="clip").problems == ()
