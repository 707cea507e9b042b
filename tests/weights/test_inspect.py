"""Files, published or ours, are told apart by their headers, and become what they mean, strictly."""

import json
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from more4d.files.checkpoint_headers import TensorReader
from more4d.foundation.errors import ConfigError, WeightsError
from more4d.weights.load import inspect, load
from more4d.weights.registry import CheckpointSource, Layout
from more4d.weights.state import save_network
from tests import published_presets as published
from tests.networks.assertions import assert_one_line_error, assert_same_state
from tests.networks.sparse_files import inp_shapes, write_sparse_safetensors, write_sparse_torch

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


@pytest.fixture(scope="module")
def fun(tmp_path_factory) -> Path:
    """Random Wan2.1-Fun folders. Not to be changed: they are shared."""
    folder = tmp_path_factory.mktemp("fun")
    published.write_fun(folder)
    return folder


@pytest.mark.parametrize(("file", "role"), ROLES.items())
def test_our_own_files_open_as_ever(file, role):
    path = TINY / f"{file}.safetensors"
    opened, loaded = load(inspect(path, role=role)), load(inspect(path))
    assert_same_state(opened, loaded)
    assert opened.config == loaded.config
    assert not opened.training
    assert not any(parameter.is_meta for parameter in opened.parameters())


def test_a_network_can_be_opened_in_another_precision_but_its_statistics_cannot():
    network = load(
        inspect(TINY / "trajectory_codec.safetensors", role="trajectory_codec"), dtype=torch.bfloat16
    )
    loaded = load(inspect(TINY / "trajectory_codec.safetensors"), dtype=torch.bfloat16)
    kinds = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    assert kinds == {name: tensor.dtype for name, tensor in loaded.state_dict().items()}
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}


def test_a_lora_is_recognised_but_not_opened_as_a_network(tmp_path: Path):
    save_file(published.lora(), tmp_path / "lora.safetensors")
    found = inspect(tmp_path / "lora.safetensors")
    assert (found.layout, found.architecture, found.problems) == ("kohya-lora", "lora", ())
    assert "rank 3" in found.about
    with pytest.raises(WeightsError) as error:
        load(inspect(tmp_path / "lora.safetensors", role="vism"))
    assert_one_line_error(error, "lora")


@pytest.mark.parametrize(
    "role", ["strag", "text", "clip", "motion_features", "video_codec", "trajectory_codec"]
)
def test_the_wrong_kind_is_one_line(published_folder, role):
    path = published_folder("wan_fun_inp")
    with pytest.raises(WeightsError) as error:
        load(inspect(path, role=role))
    assert_one_line_error(error, "InP", role)


@pytest.mark.parametrize("role", ["strag", "text", "trajectory_codec"])
def test_what_a_file_is_matters_more_than_what_nobody_tells_about_it(fun, tmp_path: Path, role):
    (tmp_path / TRANSFORMER).write_bytes((fun / published.FUN[1] / TRANSFORMER).read_bytes())
    with pytest.raises(WeightsError) as error:
        load(inspect(tmp_path / TRANSFORMER, role=role, options={"eps": 1e-5} if role == "strag" else {}))
    assert_one_line_error(error, "InP", f"{role} needs", "give another file")
    assert "heads" not in str(error.value)


def test_only_what_may_be_damaged_is_to_be_fetched_again(fun, tmp_path: Path):
    (tmp_path / TRANSFORMER).write_bytes((fun / published.FUN[1] / TRANSFORMER).read_bytes())
    with pytest.raises(WeightsError) as error:
        load(inspect(tmp_path / TRANSFORMER, role="vism", options={"motion_token_alignment": "moge4d"}))
    assert_one_line_error(error, TRANSFORMER, "put its config.json, ", "{heads: N} of vism")
    assert "fetch" not in str(error.value)


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
        load(inspect(tmp_path / TRANSFORMER, role="vism"))
    assert_one_line_error(
        error, "blocks.0.ffn.0.bias", {"missing": "1 more", "extra": "1 more", "misshapen": "3 more"}[damage]
    )


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.999])
def test_a_truncated_file_is_one_line(fun, tmp_path: Path, keep):
    content = (fun / published.FUN[1] / TRANSFORMER).read_bytes()
    (tmp_path / TRANSFORMER).write_bytes(content[: int(keep * len(content))])
    with pytest.raises(WeightsError) as error:
        load(inspect(tmp_path / TRANSFORMER, role="vism"))
    assert_one_line_error(error, TRANSFORMER, "truncated" if keep else "empty")


def test_a_lost_shard_is_one_line(fun, tmp_path: Path):
    for path in (fun / published.FUN[0]).glob("*"):
        if path.suffix in (".json", ".safetensors"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert inspect(tmp_path).problems == ()
    (tmp_path / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(WeightsError) as error:
        load(inspect(tmp_path, role="strag"))
    assert_one_line_error(error, "diffusion_pytorch_model-00002-of-00002.safetensors")


def test_a_configuration_of_another_network_beside_it_is_noticed(fun, tmp_path: Path):
    (tmp_path / TRANSFORMER).write_bytes((fun / published.FUN[1] / TRANSFORMER).read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(published.fun_config(36) | {"num_layers": 30}))
    (problem,) = inspect(tmp_path).problems
    assert "num_layers 2" in str(problem)
    assert "30" in str(problem)


@pytest.mark.parametrize("content", ["", "{", "[1]", "null"])
def test_a_damaged_configuration_beside_weights_is_one_line(fun, tmp_path: Path, content):
    (tmp_path / TRANSFORMER).write_bytes((fun / published.FUN[1] / TRANSFORMER).read_bytes())
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(WeightsError) as error:
        inspect(tmp_path / TRANSFORMER, role="vism")
    assert_one_line_error(error, "config.json")


@pytest.mark.parametrize("damage", ["nan", "whole numbers"])
def test_a_damaged_tensor_is_one_line(fun, tmp_path: Path, damage):
    tensors = load_file(fun / published.FUN[1] / TRANSFORMER)
    name = "blocks.1.ffn.2.weight"
    tensors[name] = torch.full_like(tensors[name], torch.nan) if damage == "nan" else tensors[name].long()
    save_file(tensors, tmp_path / TRANSFORMER)
    with pytest.raises(WeightsError) as error:
        load(inspect(tmp_path / TRANSFORMER, role="vism", options={"heads": published.HEADS}))
    assert_one_line_error(error, name, "finite" if damage == "nan" else "int64", TRANSFORMER)


def test_tensors_of_nobody_are_one_line(tmp_path: Path):
    save_file({"model.layers.0.weight": torch.ones(2)}, tmp_path / "other.safetensors")
    assert inspect(tmp_path / "other.safetensors").layout == "unknown"
    with pytest.raises(WeightsError) as error:
        load(inspect(tmp_path / "other.safetensors", role="vism"))
    assert_one_line_error(error, "other.safetensors", "no network")


@pytest.mark.parametrize("options", [{"hedas": 3}, {"heads": 5}, {"heads": "many"}])
def test_impossible_options_are_one_line(published_folder, options: dict[str, Any]):
    with pytest.raises(ConfigError) as error:
        inspect(published_folder("wan_fun_inp"), role="vism", options=options)
    assert_one_line_error(error, next(iter(options)))


@pytest.mark.parametrize("name", ["patch_embedding.weight", "blocks.0.ffn.0.weight", "img_emb.proj.0.weight"])
def test_a_tensor_without_the_axes_that_tell_sizes_is_one_line(tmp_path: Path, name):
    tensors = published.random(published.transformer(36), seed=1)
    save_file(tensors | {name: torch.zeros(())}, tmp_path / TRANSFORMER)
    with pytest.raises(WeightsError) as error:
        load(inspect(tmp_path / TRANSFORMER, role="vism"))
    assert_one_line_error(error, TRANSFORMER, "fetch it again")


def test_a_fault_of_a_layout_is_not_blamed_on_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def faulty(source: CheckpointSource) -> None:
        [].pop()

    monkeypatch.setattr("more4d.weights.load.layouts", lambda: [Layout(names=("faulty",), match=faulty)])
    save_file({"weight": torch.ones(2)}, tmp_path / "good.safetensors")
    with pytest.raises(IndexError, match="pop from empty list"):
        inspect(tmp_path / "good.safetensors")


def test_an_unknown_role_is_refused():
    with pytest.raises(ConfigError, match="role"):
        inspect(TINY / "vism.safetensors", role="vims")


def test_our_files_take_options_too(tmp_path: Path):
    network = load(inspect(TINY / "vism.safetensors", role="vism"))
    changed = load(inspect(TINY / "vism.safetensors", role="vism", options={"eps": 1e-5}))
    wan = replace(network.config.wan, eps=1e-5)
    assert changed.config == replace(network.config, wan=wan)


def test_a_file_of_ours_from_a_newer_version_is_one_line(tmp_path: Path):
    network = load(inspect(TINY / "vism.safetensors", role="vism"))
    save_network(tmp_path / "v.safetensors", network, architecture="vism", config={"wan": {"new": 1}})
    with pytest.raises(WeightsError) as error:
        load(inspect(tmp_path / "v.safetensors", role="vism"))
    assert_one_line_error(error, "configuration", "version")


def test_one_tensor_of_the_file_is_in_memory_at_a_time(fun, monkeypatch):
    read, alive = TensorReader.__call__, []

    def watched(self: TensorReader, name: str) -> torch.Tensor:
        assert [tensor for tensor in alive if tensor() is not None] == []
        tensor = read(self, name)
        alive.append(weakref.ref(tensor))
        return tensor

    monkeypatch.setattr(TensorReader, "__call__", watched)
    load(inspect(fun / published.FUN[0], role="strag"), dtype=torch.bfloat16)
    assert len(alive) > 80


@pytest.mark.parametrize(
    ("name", "write"), [("huge.safetensors", write_sparse_safetensors), ("huge.pth", write_sparse_torch)]
)
def test_thirty_gigabytes_are_recognised_by_their_header(tmp_path: Path, name, write):
    """The numbers are a hole in the file: to read them all would take many seconds, on any machine."""
    path = tmp_path / name
    write(path, inp_shapes())
    assert path.stat().st_size > 32e9
    assert path.stat().st_blocks * 512 < 1e8
    before = bytes_read()
    found = inspect(path, role="vism")
    assert bytes_read() - before < 1e7
    assert (found.layout, found.problems) == ("wan-fun-inp", ())
    assert "14B" in found.about
    assert found.headers.parameters == 16_394_878_784
    with path.open("rb+") as file:
        file.truncate(12_000_000_000)
    (problem,) = inspect(path, role="vism").problems
    assert "truncated" in str(problem)


def bytes_read() -> int:
    """What this process has asked the system to read."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def test_bundled_files_are_inspected_without_slow_libraries():
    code = (
        "import sys; from pathlib import Path; from more4d.weights.load import inspect\n"
        "found = [inspect(path) for path in sorted(Path(sys.argv[1]).glob('*.safetensors'))]\n"
        "assert len(found) == 8 and not any(each.problems for each in found)\n"
        "print([name for name in ('transformers', 'diffusers', 'peft', 'accelerate') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(TINY)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=TINY.parents[1])
    assert (ended.returncode, ended.stdout) == (0, "[]\n"), ended.stderr
