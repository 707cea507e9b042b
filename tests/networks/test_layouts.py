"""Published files and ours are told apart by their headers, and become the network that they mean, strictly."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from more4d.foundation.errors import WeightsError
from more4d.networks.layouts import open_network, recognise
from more4d.networks.published_keys import load_control, load_published
from more4d.networks.registry import BUILDERS
from more4d.networks.strag import STraG, STraGConfig
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.networks.wan import WanConfig
from more4d.networks.weights import load_network

TINY = Path(__file__).resolve().parents[2] / "models" / "tiny"


@pytest.fixture
def published(conformance, tmp_path: Path):
    """A folder with a transformer of a fixture, as it is published."""

    def make(name: str) -> Path:
        reference = conformance(name)
        folder = tmp_path / name
        folder.mkdir()
        save_file(reference.weights, folder / "diffusion_pytorch_model.safetensors")
        (folder / "config.json").write_text(json.dumps(reference.config))
        return folder

    return make


def same(one: torch.nn.Module, other: torch.nn.Module) -> None:
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


@pytest.mark.parametrize(
    ("file", "role"),
    [
        ("strag", "strag"),
        ("vism", "vism"),
        ("text_encoder", "text"),
        ("motion_features", "motion_features"),
        ("trajectory_codec", "trajectory_codec"),
        ("video_codec", "video_codec"),
    ],
)
def test_our_own_files_open_as_ever(file, role):
    path = TINY / f"{file}.safetensors"
    opened, loaded = open_network(path, role=role), load_network(path, BUILDERS)
    same(opened, loaded)
    assert opened.config == loaded.config
    assert not opened.training
    loaded_buffers = dict(loaded.named_buffers())
    assert all(torch.equal(tensor, loaded_buffers[name]) for name, tensor in opened.named_buffers())


def test_a_control_transformer_becomes_strag(conformance, published):
    reference, path = conformance("wan_fun_control"), published("wan_fun_control")
    found = recognise(path, role="strag")
    assert (found.layout, found.kind, found.problems) == ("wan-fun-control", "strag", ())
    assert found.config.wan.in_channels == 64
    assert found.config.wan.motion_feature_dim == 768
    opened = open_network(path, role="strag")
    expected = STraG(found.config)
    load_control(expected, reference.weights, where="fixture")
    news = tuple(found.new)
    for name, tensor in expected.state_dict().items():
        if not name.startswith(news):
            assert torch.equal(tensor, opened.state_dict()[name]), name
        elif name.endswith("gate"):
            assert not opened.state_dict()[name].any()


def test_new_modules_are_the_same_every_time(published):
    path = published("wan_fun_control")
    same(open_network(path, role="strag"), open_network(path, role="strag"))


def test_an_inpainting_transformer_becomes_vism(conformance, published):
    reference, path = conformance("wan_fun_inp"), published("wan_fun_inp")
    found = recognise(path)
    assert (found.layout, found.kind, found.problems) == ("wan-fun-inp", "vism", ())
    expected = ViSM(ViSMConfig(wan=WanConfig.from_published(reference.config, reference.weights)))
    load_published(expected, reference.weights, where="fixture")
    same(open_network(path, role="vism"), expected)


def test_the_wrong_kind_is_one_line(published):
    path = published("wan_fun_inp")
    with pytest.raises(WeightsError, match="vism") as error:
        open_network(path, role="strag")
    assert "\n" not in str(error.value)
