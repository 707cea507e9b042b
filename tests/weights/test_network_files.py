"""A network comes back from its file exactly, and no damaged, foreign or ill-fitting file gets in."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from more4d.foundation.errors import ConfigError, WeightsError
from more4d.weights.network_files import (
    fill_network,
    load_network,
    read_network_header,
    read_tensors,
    save_network,
)


class Small(nn.Module):
    """Tied weights, a stored buffer and one that is not stored."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, width)
        self.tied = nn.Linear(width, width, bias=False)
        self.tied.weight = self.first.weight
        self.register_buffer("statistics", torch.rand(width))
        self.register_buffer("scratch", torch.rand(width), persistent=False)


def build(values: dict[str, Any]) -> Small:
    if set(values) != {"width"}:
        raise ConfigError("unknown key")
    return Small(**values)


KINDS = {"small": build}


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Small]:
    torch.manual_seed(0)
    network = Small(8)
    path = tmp_path / "small.safetensors"
    save_network(path, network, architecture="small", config={"width": 8}, notes={"seed": "0"})
    return path, network


def assert_one_line_error(error: pytest.ExceptionInfo[WeightsError], *words: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_network_comes_back_as_it_was(saved):
    path, network = saved
    loaded = load_network(path, KINDS)
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert loaded.tied.weight is loaded.first.weight
    assert not loaded.training


def test_the_header_is_what_was_written(saved):
    header = read_network_header(saved[0])
    assert (header.architecture, header.config, header.notes) == ("small", {"width": 8}, {"seed": "0"})


def test_tied_weights_are_stored_once(saved):
    assert sorted(read_tensors(saved[0])) == ["first.bias", "first.weight", "statistics"]


def test_half_precision_on_disk_is_single_in_memory_and_buffers_stay_exact(saved):
    path, network = saved
    save_network(path, network, architecture="small", config={"width": 8}, dtype=torch.float16)
    assert read_tensors(path)["first.weight"].dtype == torch.float16
    loaded = load_network(path, KINDS)
    assert loaded.first.weight.dtype == torch.float32
    assert torch.equal(loaded.first.weight, network.first.weight.half().float())
    assert torch.equal(loaded.statistics, network.statistics)


def test_a_network_can_be_loaded_in_another_precision(saved):
    assert load_network(saved[0], KINDS, dtype=torch.bfloat16).first.weight.dtype == torch.bfloat16


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("these are not the weights you are looking for")


def foreign(path: Path) -> None:
    save_file({"first.weight": torch.ones(2)}, path)


def newer(path: Path) -> None:
    metadata = {"format": "more4d-network", "version": "99", "kind": "small", "config": "{}", "notes": "{}"}
    save_file({"first.weight": torch.ones(2)}, path, metadata=metadata)


@pytest.mark.parametrize("damage", [truncate, empty, text, foreign, newer, Path.unlink])
@pytest.mark.parametrize("read", [read_network_header, lambda path: load_network(path, KINDS)])
def test_an_unusable_file_is_one_line_that_names_it(saved, damage: Callable[[Path], None], read):
    path = saved[0]
    damage(path)
    with pytest.raises(WeightsError) as error:
        read(path)
    assert_one_line_error(error, path.name, ";")


def test_another_kind_is_refused(saved):
    with pytest.raises(WeightsError) as error:
        load_network(saved[0], {"large": build})
    assert_one_line_error(error, "'small'", "large", saved[0].name)


def test_a_configuration_that_does_not_fit_is_refused(saved):
    save_network(saved[0], saved[1], architecture="small", config={"height": 8})
    with pytest.raises(WeightsError) as error:
        load_network(saved[0], KINDS)
    assert_one_line_error(error, saved[0].name, "unknown key")


def test_tensors_of_another_size_are_refused(saved):
    save_network(saved[0], saved[1], architecture="small", config={"width": 9})
    with pytest.raises(WeightsError) as error:
        load_network(saved[0], KINDS)
    assert_one_line_error(error, saved[0].name, "'statistics'", "[8]", "[9]")


def test_filling_is_all_or_nothing_and_names_the_tensor():
    network = Small(3)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    whole = {name: torch.zeros_like(tensor) for name, tensor in before.items()}
    missing = {name: tensor for name, tensor in whole.items() if name != "statistics"}
    for tensors, word in [
        (missing, "'statistics' is missing"),
        (whole | {"extra": torch.ones(1)}, "'extra' is not expected"),
        (whole | {"statistics": torch.ones(4)}, "'statistics' has shape [4]"),
    ]:
        with pytest.raises(WeightsError) as error:
            fill_network(network, tensors, where="here.bin")
        assert_one_line_error(error, "here.bin", word)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
    fill_network(network, whole, where="here.bin")
    assert not network.first.weight.any()


@pytest.mark.parametrize("zipped", [True, False])
def test_pytorch_files_are_read(tmp_path: Path, zipped: bool):
    path = tmp_path / "w.pth"
    torch.save({"a": torch.arange(3)}, path, _use_new_zipfile_serialization=zipped)
    assert torch.equal(read_tensors(path)["a"], torch.arange(3))


def test_a_pytorch_file_with_more_than_tensors_is_refused(tmp_path: Path):
    for content in [{"a": Path("x")}, [torch.ones(1)], {"model": {"a": torch.ones(1)}}]:
        path = tmp_path / "w.pth"
        torch.save(content, path)
        with pytest.raises(WeightsError) as error:
            read_tensors(path)
        assert_one_line_error(error, "w.pth", "tensors")


@pytest.mark.parametrize("damage", [truncate, empty, text, Path.unlink])
def test_a_damaged_pytorch_file_is_one_line(tmp_path: Path, damage: Callable[[Path], None]):
    path = tmp_path / "w.bin"
    torch.save({"a": torch.arange(300)}, path)
    damage(path)
    with pytest.raises(WeightsError) as error:
        read_tensors(path)
    assert_one_line_error(error, "w.bin")


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    save_file({"a": torch.ones(1)}, tmp_path / "m-1.safetensors")
    save_file({"b": torch.zeros(2)}, tmp_path / "m-2.safetensors")
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}))
    return index


def test_shards_are_one_table_from_index_or_folder(shards):
    assert sorted(read_tensors(shards)) == sorted(read_tensors(shards.parent)) == ["a", "b"]


def test_a_lost_shard_or_tensor_is_one_line(shards):
    (shards.parent / "m-2.safetensors").unlink()
    with pytest.raises(WeightsError) as error:
        read_tensors(shards)
    assert_one_line_error(error, "m-2.safetensors")
    save_file({"c": torch.zeros(2)}, shards.parent / "m-2.safetensors")
    with pytest.raises(WeightsError) as error:
        read_tensors(shards)
    assert_one_line_error(error, "'b'", shards.name)
    shards.write_text("[]")
    with pytest.raises(WeightsError) as error:
        read_tensors(shards)
    assert_one_line_error(error, shards.name)


def test_a_folder_without_one_clear_file_is_refused(tmp_path: Path):
    with pytest.raises(WeightsError) as error:
        read_tensors(tmp_path)
    assert_one_line_error(error, "found none")
