"""Files, published or ours, are told apart by their headers, and become what they mean, strictly."""

import json
import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from more4d.files.tensor_headers import TensorReader
from more4d.foundation.errors import ConfigError, WeightsError
from more4d.networks.conditioners import (
    ClipVision,
    ClipVisionConfig,
    UMT5TextEncoder,
    load_published_clip,
    load_published_text,
)
from more4d.networks.layouts import open_network, recognise
from more4d.networks.omnimae import OmniMAETrunk, load_published_trunk
from more4d.networks.published_keys import load_control, load_published
from more4d.networks.registry import BUILDERS
from more4d.networks.strag import STraG
from more4d.networks.trajectory_vae import WanTrajectoryVae, load_published_codec
from more4d.networks.video_vae import WanVideoVae, load_published_video_vae
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.networks.wan import WanConfig
from more4d.networks.weights import load_network, save_network
from tests import published_presets as published
from tests.networks.huge_files import inp_shapes, write_huge_safetensors, write_huge_torch

TINY = Path(__file__).resolve().parents[2] / "models" / "tiny"
TRANSFORMER = "diffusion_pytorch_model.safetensors"
ROLES = {
    "strag": "strag",
    "vism": "vism",
    "text_encoder": "text",
    "motion_features": "motion_features",
    "trajectory_codec": "trajectory_codec",
    "video_codec": "video_codec",
}


@pytest.fixture
def published_folder(conformance, tmp_path: Path):
    """A folder with a transformer of a fixture, as it is published."""

    def make(name: str) -> Path:
        reference = conformance(name)
        folder = tmp_path / name
        folder.mkdir()
        save_file(reference.weights, folder / TRANSFORMER)
        (folder / "config.json").write_text(json.dumps(reference.config))
        return folder

    return make


@pytest.fixture
def pth(conformance, tmp_path: Path):
    """The weights of a fixture as a file of torch.save."""

    def make(name: str) -> Path:
        torch.save(conformance(name).weights, tmp_path / f"{name}.pth")
        return tmp_path / f"{name}.pth"

    return make


@pytest.fixture(scope="module")
def fun(tmp_path_factory) -> Path:
    """Random Wan2.1-Fun folders. Not to be changed: they are shared."""
    folder = tmp_path_factory.mktemp("fun")
    published.write_fun(folder)
    return folder


def same(one: torch.nn.Module, other: torch.nn.Module) -> None:
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    buffers = dict(other.named_buffers())
    assert all(torch.equal(tensor, buffers[name]) for name, tensor in one.named_buffers())


def one_line(error: pytest.ExceptionInfo[Exception], *words: str) -> None:
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(("file", "role"), ROLES.items())
def test_our_own_files_open_as_ever(file, role):
    path = TINY / f"{file}.safetensors"
    opened, loaded = open_network(path, role=role), load_network(path, BUILDERS)
    same(opened, loaded)
    assert opened.config == loaded.config
    assert not opened.training
    assert not any(parameter.is_meta for parameter in opened.parameters())


def test_a_network_can_be_opened_in_another_precision_but_its_statistics_cannot():
    network = open_network(
        TINY / "trajectory_codec.safetensors", role="trajectory_codec", dtype=torch.bfloat16
    )
    loaded = load_network(TINY / "trajectory_codec.safetensors", BUILDERS, dtype=torch.bfloat16)
    kinds = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    assert kinds == {name: tensor.dtype for name, tensor in loaded.state_dict().items()}
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}


def test_a_control_transformer_becomes_strag(conformance, published_folder):
    reference, path = conformance("wan_fun_control"), published_folder("wan_fun_control")
    found = recognise(path, role="strag")
    assert (found.layout, found.kind, found.problems) == ("wan-fun-control", "strag", ())
    assert found.config.wan.in_channels == 64
    assert found.config.wan.motion_feature_dim == 768
    opened = open_network(path, role="strag")
    expected = STraG(found.config)
    load_control(expected, reference.weights, where="fixture")
    for name, tensor in expected.state_dict().items():
        if not name.startswith(found.new):
            assert torch.equal(tensor, opened.state_dict()[name]), name
        elif name.endswith("gate"):
            assert not opened.state_dict()[name].any()
        else:
            assert opened.state_dict()[name].any() == tensor.any(), name


def test_new_modules_are_the_same_every_time(published_folder):
    path = published_folder("wan_fun_control")
    same(open_network(path, role="strag"), open_network(path, role="strag"))


def test_motion_perception_can_be_left_out(published_folder):
    path = published_folder("wan_fun_control")
    network = open_network(path, role="strag", options={"motion_feature_dim": None})
    assert network.motion_adapter is None
    assert recognise(path, role="strag", options={"motion_feature_dim": None}).new == ()


def test_an_inpainting_transformer_becomes_vism(conformance, published_folder):
    reference, path = conformance("wan_fun_inp"), published_folder("wan_fun_inp")
    found = recognise(path)
    assert (found.layout, found.kind, found.problems) == ("wan-fun-inp", "vism", ())
    expected = ViSM(ViSMConfig(wan=WanConfig.from_published(reference.config, reference.weights)))
    load_published(expected, reference.weights, where="fixture")
    same(open_network(path, role="vism"), expected)


def test_the_released_strag_is_loaded_with_all_it_has(conformance, published_folder):
    reference, path = conformance("strag"), published_folder("strag")
    found = recognise(path, role="strag")
    assert (found.layout, found.kind, found.problems, found.new) == ("moge4d-strag", "strag", (), ())
    expected = STraG(found.config)
    load_published(expected, reference.weights, where="fixture")
    same(open_network(path, role="strag"), expected)


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


def test_the_published_video_vae_is_recognised(conformance, pth):
    path = pth("wan_vae")
    found = recognise(path, role="video_codec")
    assert (found.layout, found.kind, found.problems) == ("wan-vae", "wan-video-vae", ())
    assert (found.config.base_dim, found.config.dim_mult) == (6, (1, 2, 4, 4))
    expected = WanVideoVae(found.config)
    load_published_video_vae(expected, conformance("wan_vae").weights, where="fixture")
    same(open_network(path, role="video_codec"), expected)


def test_a_video_vae_alone_is_a_trajectory_codec_in_closed_form(conformance, pth):
    path = pth("wan_vae")
    network = open_network(path, role="trajectory_codec", options={"depth_style": "linear"})
    assert (network.config.adapters, network.config.depth_style) == ("closed", "linear")
    assert {name.partition(".")[0] for name, _ in network.named_parameters()} == {"video"}
    same(network.video, open_network(path, role="video_codec"))


@pytest.fixture
def codec_folder(conformance, tmp_path: Path) -> Path:
    """MoGe4D's three files."""
    adapters = conformance("trajectory_adapters").weights
    for folder in ("encoder_prompt", "decoder_prompt", "vae"):
        (tmp_path / "VAE" / folder).mkdir(parents=True)
        tensors = {
            name.removeprefix(f"{folder}."): tensor
            for name, tensor in adapters.items()
            if name.startswith(f"{folder}.")
        }
        vae = {f"model.{name}": tensor for name, tensor in conformance("wan_vae").weights.items()}
        torch.save(tensors or vae, tmp_path / "VAE" / folder / "pytorch_model.bin")
    return tmp_path / "VAE"


@pytest.mark.parametrize("statistics", ["released", "none"])
def test_the_released_codec_is_recognised(codec_folder, statistics):
    options = {} if statistics == "released" else {"trajectory_statistics": "none"}
    found = recognise(codec_folder, role="trajectory_codec", options=options)
    assert (found.layout, found.kind, found.problems) == ("moge4d-codec", "wan-trajectory-vae", ())
    expected = WanTrajectoryVae(found.config)
    load_published_codec(expected, codec_folder, released=statistics == "released")
    same(open_network(codec_folder, role="trajectory_codec", options=options), expected)


def test_a_codec_folder_that_lacks_a_file_or_a_tensor_is_one_line(codec_folder):
    path = codec_folder / "decoder_prompt" / "pytorch_model.bin"
    tensors = torch.load(path, weights_only=True)
    torch.save({name: tensor for name, tensor in tensors.items() if name != "conv_out.bias"}, path)
    (problem,) = recognise(codec_folder).problems
    assert problem == "tensor 'decoder_adapter.conv_out.bias' is missing"
    path.unlink()
    with pytest.raises(WeightsError) as error:
        open_network(codec_folder, role="trajectory_codec")
    one_line(error, "decoder_prompt")


def test_a_lora_is_recognised_but_not_opened_as_a_network(tmp_path: Path):
    save_file(published.lora(), tmp_path / "lora.safetensors")
    found = recognise(tmp_path / "lora.safetensors")
    assert (found.layout, found.kind, found.problems) == ("kohya-lora", "lora", ())
    assert "rank 3" in found.about
    with pytest.raises(WeightsError) as error:
        open_network(tmp_path / "lora.safetensors", role="vism")
    one_line(error, "lora")


@pytest.mark.parametrize(
    "role", ["strag", "text", "clip", "motion_features", "video_codec", "trajectory_codec"]
)
def test_the_wrong_kind_is_one_line(published_folder, role):
    path = published_folder("wan_fun_inp")
    with pytest.raises(WeightsError) as error:
        open_network(path, role=role)
    one_line(error, "InP", role)


@pytest.mark.parametrize("damage", ["missing", "extra", "misshapen"])
def test_missing_extra_and_misshapen_tensors_are_named_in_one_line(fun, tmp_path: Path, damage):
    tensors = load_file(fun / published.FUN[1] / TRANSFORMER)
    blocks = [f"blocks.{block}.ffn.{layer}.bias" for block in range(2) for layer in (0, 2)]
    for name in blocks:
        if damage == "missing":
            del tensors[name]
        elif damage == "extra":
            tensors[f"{name}.more"] = torch.ones(1)
        else:
            tensors[name] = torch.ones(1)
    save_file(tensors, tmp_path / TRANSFORMER)
    (tmp_path / "config.json").write_text(json.dumps(published.fun_config(36)))
    with pytest.raises(WeightsError) as error:
        open_network(tmp_path / TRANSFORMER, role="vism")
    one_line(
        error, "blocks.0.ffn.0.bias", {"missing": "1 more", "extra": "1 more", "misshapen": "3 more"}[damage]
    )


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.999])
def test_a_truncated_file_is_one_line(fun, tmp_path: Path, keep):
    content = (fun / published.FUN[1] / TRANSFORMER).read_bytes()
    (tmp_path / TRANSFORMER).write_bytes(content[: int(keep * len(content))])
    with pytest.raises(WeightsError) as error:
        open_network(tmp_path / TRANSFORMER, role="vism")
    one_line(error, TRANSFORMER, "truncated" if keep else "empty")


def test_a_lost_shard_is_one_line(fun, tmp_path: Path):
    for path in (fun / published.FUN[0]).glob("*"):
        if path.suffix in (".json", ".safetensors"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert recognise(tmp_path).problems == ()
    (tmp_path / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(WeightsError) as error:
        open_network(tmp_path, role="strag")
    one_line(error, "diffusion_pytorch_model-00002-of-00002.safetensors")


def test_a_configuration_of_another_network_beside_it_is_noticed(fun, tmp_path: Path):
    (tmp_path / TRANSFORMER).write_bytes((fun / published.FUN[1] / TRANSFORMER).read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(published.fun_config(36) | {"num_layers": 30}))
    (problem,) = recognise(tmp_path).problems
    assert "num_layers 2" in problem
    assert "30" in problem


def test_tensors_of_nobody_are_one_line(tmp_path: Path):
    save_file({"model.layers.0.weight": torch.ones(2)}, tmp_path / "other.safetensors")
    assert recognise(tmp_path / "other.safetensors").layout == "unknown"
    with pytest.raises(WeightsError) as error:
        open_network(tmp_path / "other.safetensors", role="vism")
    one_line(error, "other.safetensors", "no network")


@pytest.mark.parametrize("options", [{"hedas": 3}, {"heads": 5}, {"heads": "many"}])
def test_impossible_options_are_one_line(published_folder, options: dict[str, Any]):
    with pytest.raises(ConfigError) as error:
        recognise(published_folder("wan_fun_inp"), role="vism", options=options)
    one_line(error, next(iter(options)))


def test_an_unknown_role_is_refused():
    with pytest.raises(ConfigError, match="role"):
        recognise(TINY / "vism.safetensors", role="vims")


def test_our_files_take_options_too(tmp_path: Path):
    network = open_network(TINY / "vism.safetensors", role="vism")
    changed = open_network(TINY / "vism.safetensors", role="vism", options={"eps": 1e-5})
    wan = replace(network.config.wan, eps=1e-5)
    assert changed.config == replace(network.config, wan=wan)


def test_a_file_of_ours_from_a_newer_version_is_one_line(tmp_path: Path):
    network = open_network(TINY / "vism.safetensors", role="vism")
    save_network(tmp_path / "v.safetensors", network, kind="vism", config={"wan": {"new": 1}})
    with pytest.raises(WeightsError) as error:
        open_network(tmp_path / "v.safetensors", role="vism")
    one_line(error, "configuration", "version")


def test_one_tensor_of_the_file_is_in_memory_at_a_time(fun, monkeypatch):
    read, alive = TensorReader.__call__, []

    def watched(self: TensorReader, name: str) -> torch.Tensor:
        assert [tensor for tensor in alive if tensor() is not None] == []
        tensor = read(self, name)
        alive.append(weakref.ref(tensor))
        return tensor

    monkeypatch.setattr(TensorReader, "__call__", watched)
    open_network(fun / published.FUN[0], role="strag", dtype=torch.bfloat16)
    assert len(alive) > 80


@pytest.mark.parametrize(
    ("name", "write"), [("huge.safetensors", write_huge_safetensors), ("huge.pth", write_huge_torch)]
)
def test_thirty_gigabytes_are_recognised_by_their_header(tmp_path: Path, name, write):
    """The numbers are a hole in the file: to read them all would take many seconds, on any machine."""
    path = tmp_path / name
    write(path, inp_shapes())
    assert path.stat().st_size > 32e9
    assert path.stat().st_blocks * 512 < 1e8
    before, begun = bytes_read(), time.process_time()
    found = recognise(path, role="vism")
    assert time.process_time() - begun < 1
    assert bytes_read() - before < 1e7
    assert (found.layout, found.problems) == ("wan-fun-inp", ())
    assert "14B" in found.about
    assert found.parameters == 16_394_878_784
    with path.open("rb+") as file:
        file.truncate(12_000_000_000)
    (problem,) = recognise(path, role="vism").problems
    assert "truncated" in problem


def bytes_read() -> int:
    """What this process has asked the system to read."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])
