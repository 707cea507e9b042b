"""Published transformers become ours as the loaders that agree with the reference make them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from more4d.foundation.errors import WeightsError
from more4d.networks.strag import STraG
from more4d.networks.vism import ViSM
from more4d.networks.wan_config import PUBLISHED
from more4d.weights.load import inspect, load
from more4d.weights.published_keys import network_names
from tests.networks.assertions import assert_one_line_error, assert_same_state
from tests.networks.sparse_files import shapes_of, write_sparse_safetensors

WAN = {1536: PUBLISHED["inp-1.3b"], 5120: PUBLISHED["inp-14b"]}


def holds(network: STraG | ViSM, published: dict[str, torch.Tensor]) -> None:
    """Every tensor of a file is in the network, where it belongs."""
    tensors, names = network.state_dict(), network_names(network)
    assert sorted(names.values()) == sorted(tensors)
    assert {n for n in published if not n.startswith("omnimae_extractor.")} == names.keys()
    assert all(torch.equal(tensors[ours], published[name]) for name, ours in names.items())


def test_a_control_transformer_becomes_strag(conformance, published_folder):
    reference, path = conformance("wan_fun_control"), published_folder("wan_fun_control")
    found = inspect(path, role="strag")
    assert (found.layout, found.architecture, found.problems) == ("wan-fun-control", "strag", ())
    assert found.config.wan.in_channels == 64
    assert found.config.wan.motion_feature_dim == 768
    opened = load(inspect(path, role="strag"))
    tensors = opened.state_dict()
    patches = tensors["transformer.patch_embedding.weight"]
    assert torch.equal(patches[:, :48], reference.weights["patch_embedding.weight"])
    assert not patches[:, 48:].any()
    for published, name in network_names(opened).items():
        if not name.startswith((*found.new, "transformer.patch_embedding.weight")):
            assert torch.equal(tensors[name], reference.weights[published]), name
        elif name.endswith("gate"):
            assert not tensors[name].any()
    assert any(name.endswith("gate") for name in tensors)


def test_new_modules_are_the_same_every_time(published_folder):
    path = published_folder("wan_fun_control")
    assert_same_state(load(inspect(path, role="strag")), load(inspect(path, role="strag")))


def test_motion_perception_can_be_left_out(published_folder):
    path = published_folder("wan_fun_control")
    network = load(inspect(path, role="strag", options={"motion_feature_dim": None}))
    assert network.motion_adapter is None
    assert inspect(path, role="strag", options={"motion_feature_dim": None}).new == ()


def test_an_inpainting_transformer_becomes_vism(conformance, published_folder):
    reference, path = conformance("wan_fun_inp"), published_folder("wan_fun_inp")
    found = inspect(path)
    assert (found.layout, found.architecture, found.problems) == ("wan-fun-inp", "vism", ())
    holds(load(inspect(path, role="vism")), reference.weights)


def test_the_released_strag_is_loaded_with_all_it_has(conformance, published_folder):
    reference, path = conformance("strag"), published_folder("strag")
    found = inspect(path, role="strag")
    assert (found.layout, found.architecture, found.problems, found.new) == ("moge4d-strag", "strag", (), ())
    holds(load(inspect(path, role="strag")), reference.weights)


@pytest.mark.parametrize(
    ("part", "described"), [("spatial_guid", True), ("spatial_guid", False), ("ref_conv", True)]
)
def test_strag_without_what_belongs_to_it_is_refused(conformance, tmp_path: Path, part, described):
    reference = conformance("strag")
    kept = {n: t for n, t in reference.weights.items() if part not in n and "feature_adapter" not in n}
    save_file(kept, tmp_path / "w.safetensors")
    if described:
        (tmp_path / "config.json").write_text(json.dumps(reference.config))
    with pytest.raises(WeightsError) as error:
        load(inspect(tmp_path / "w.safetensors", role="strag", options={"heads": 3}))
    assert_one_line_error(error, part, "missing")


def test_what_a_file_lacks_is_told_before_what_nobody_tells(conformance, tmp_path: Path):
    weights = dict(conformance("wan_fun_inp").weights)
    del weights["blocks.0.ffn.0.weight"]
    save_file(weights, tmp_path / "w.safetensors")
    problems = inspect(tmp_path / "w.safetensors").problems
    assert "'blocks.0.ffn.0.weight' is missing" in str(problems[0])
    assert not any("heads" in str(problem) for problem in problems)


@pytest.mark.parametrize(("option", "part"), [("image_dim", "img"), ("motion_feature_dim", "guid")])
def test_a_part_can_be_left_out_if_the_preset_says_so(conformance, tmp_path: Path, option, part):
    """The opt-outs that docs/weights.md names."""
    reference = conformance("strag")
    lost = (part, "feature_adapter") if part == "guid" else (part,)
    kept = {n: t for n, t in reference.weights.items() if not any(word in n for word in lost)}
    save_file(kept, tmp_path / "w.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(reference.config))
    assert part in str(inspect(tmp_path / "w.safetensors", role="strag").problems[0])
    network = load(inspect(tmp_path / "w.safetensors", role="strag", options={option: None}))
    assert getattr(network.config.wan, option) is None


def test_strag_without_motion_perception_can_be_asked_for(conformance, tmp_path: Path):
    reference = conformance("strag")
    words = ("feature_adapter", "spatial_guid", "omnimae")
    kept = {n: t for n, t in reference.weights.items() if not any(word in n for word in words)}
    save_file(kept, tmp_path / "w.safetensors")
    options = {"heads": reference.config["num_heads"], "motion_feature_dim": None}
    network = load(inspect(tmp_path / "w.safetensors", role="strag", options=options))
    assert network.motion_adapter is None


@pytest.mark.parametrize("part", ["img_emb", "norm3", ".k_img"])
def test_an_inpainting_transformer_that_has_lost_a_part_everywhere_is_refused(
    conformance, tmp_path: Path, part
):
    reference = conformance("wan_fun_inp")
    kept = {name: tensor for name, tensor in reference.weights.items() if part not in name}
    save_file(kept, tmp_path / "w.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(reference.config))
    with pytest.raises(WeightsError) as error:
        load(inspect(tmp_path / "w.safetensors", role="vism"))
    assert_one_line_error(error, part, "missing")


@pytest.mark.parametrize(
    "wrong",
    [{"freq_dim": 64}, {"text_dim": 4096}, {"out_dim": 32}, {"patch_size": [1, 4, 4]}, {"ffn_dim": 3}],
)
def test_every_number_of_the_configuration_beside_it_must_agree(published_folder, wrong):
    path = published_folder("wan_fun_inp")
    described = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(described | wrong))
    (problem,) = inspect(path, role="vism").problems
    assert next(iter(wrong)) in str(problem)


def test_omnimae_belongs_inside_strag_only(conformance, published_folder):
    path = published_folder("wan_fun_inp")
    inside = {n: t for n, t in conformance("strag").weights.items() if n.startswith("omnimae")}
    save_file({**conformance("wan_fun_inp").weights, **inside}, path / "diffusion_pytorch_model.safetensors")
    (problem,) = inspect(path, role="vism").problems
    assert "omnimae" in str(problem)
    assert "not expected" in str(problem)


@pytest.mark.parametrize("width", [1536, 5120])
def test_transformers_of_published_widths_have_all_blocks_and_see_photos(tmp_path: Path, width):
    wan = WAN[width]
    shapes = shapes_of(wan)
    write_sparse_safetensors(tmp_path / "whole.safetensors", shapes)
    assert inspect(tmp_path / "whole.safetensors", role="vism").problems == ()
    last = f"blocks.{wan.layers - 1}."
    less = {name: tensor for name, tensor in shapes.items() if not name.startswith(last)}
    write_sparse_safetensors(tmp_path / "less.safetensors", less)
    (problem,) = inspect(tmp_path / "less.safetensors", role="vism").problems
    assert f"has {wan.layers - 1} blocks" in str(problem)
    chosen = {"layers": wan.layers - 1}
    assert inspect(tmp_path / "less.safetensors", role="vism", options=chosen).problems == ()
    blind = {name: tensor for name, tensor in shapes.items() if "img" not in name}
    write_sparse_safetensors(tmp_path / "blind.safetensors", blind)
    (problem,) = inspect(tmp_path / "blind.safetensors", role="vism").problems
    assert "img_emb.proj.0.weight" in str(problem)
