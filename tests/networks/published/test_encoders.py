"""Published encoders become ours as the loaders that agree with the reference make them."""

from pathlib import Path

import pytest
import torch

from more4d.files.tensor_headers import TensorReader
from more4d.foundation.errors import WeightsError
from more4d.networks.conditioners import (
    ClipVision,
    ClipVisionConfig,
    UMT5TextEncoder,
    load_published_clip,
    load_published_text,
)
from more4d.networks.layouts import open_network, recognise
from more4d.networks.omnimae import OmniMAETrunk, load_published_trunk
from tests.networks.agreement import one_line, same


def test_the_motion_features_inside_strag_are_found(conformance, published_folder):
    reference, path = conformance("strag"), published_folder("strag")
    heads = {"heads": reference.config["omnimae"]["num_heads"]}
    network = open_network(path, role="motion_features", options=heads)
    inside = {
        name.removeprefix("omnimae_extractor."): tensor
        for name, tensor in reference.weights.items()
        if name.startswith("omnimae_extractor.")
    }
    expected = OmniMAETrunk(network.config)
    load_published_trunk(expected, inside, where="fixture")
    same(network, expected)


def test_the_published_trunk_is_recognised(conformance, pth):
    reference, path = conformance("omnimae_trunk"), pth("omnimae_trunk")
    network = open_network(path, role="motion_features", options={"heads": reference.config["num_heads"]})
    assert reference.agrees(network(reference.inputs["image"]).flatten(2).transpose(1, 2), "patch_features")


def test_positions_that_are_not_the_sinusoid_are_refused(conformance, tmp_path: Path):
    weights = dict(conformance("omnimae_trunk").weights)
    weights["trunk.pos_embed"] = weights["trunk.pos_embed"] + 1
    torch.save(weights, tmp_path / "w.torch")
    with pytest.raises(WeightsError) as error:
        open_network(tmp_path / "w.torch", role="motion_features", options={"heads": 4})
    one_line(error, "sinusoid", "w.torch")


def test_the_published_text_encoder_is_recognised(conformance, pth, tmp_path: Path):
    (tmp_path / "google" / "umt5-xxl").mkdir(parents=True)
    path = pth("t5_encoder")
    found = recognise(path, role="text")
    assert (found.layout, found.kind, found.problems) == ("umt5", "umt5-text-encoder", ())
    assert found.config.tokenizer == str(tmp_path / "google" / "umt5-xxl")
    expected = UMT5TextEncoder(found.config)
    load_published_text(expected, conformance("t5_encoder").weights, where="fixture")
    same(open_network(path, role="text"), expected)


def test_a_tokenizer_that_is_not_there_is_told_before_anything_is_read(pth, monkeypatch):
    monkeypatch.setattr(TensorReader, "__call__", lambda *_: pytest.fail("a tensor was read"))
    with pytest.raises(WeightsError) as error:
        open_network(pth("t5_encoder"), role="text")
    one_line(error, "tokenizer", "google/umt5-xxl")


def test_the_published_vision_tower_is_recognised(conformance, pth):
    reference, path = conformance("clip_visual"), pth("clip_visual")
    options = {"heads": reference.config["vision_heads"]}
    found = recognise(path, role="clip", options=options)
    assert (found.layout, found.kind, found.problems) == ("clip-vision", "clip-vision", ())
    assert found.config == ClipVisionConfig(dim=32, layers=4, heads=4, ff=128, patch=14, image_size=56)
    expected = ClipVision(found.config)
    load_published_clip(expected, reference.weights, where="fixture")
    same(open_network(path, role="clip", options=options), expected)


def test_heads_that_no_tensor_tells_are_asked_for(pth):
    (problem,) = recognise(pth("clip_visual"), role="clip").problems
    assert "heads" in problem
