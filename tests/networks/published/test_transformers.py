"""Published transformers become ours as the loaders that agree with the reference make them."""

import torch

from more4d.networks.layouts import open_network, recognise
from more4d.networks.published_keys import load_control, load_published
from more4d.networks.strag import STraG
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.networks.wan import WanConfig
from tests.networks.agreement import same


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
