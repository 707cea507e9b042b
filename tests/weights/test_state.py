"""A network comes back from its file exactly, and no damaged, foreign or ill-fitting file gets in."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from more4d.foundation.errors import ConfigError, WeightsError
from more4d.weights.load import Checkpoint, inspect, load
from more4d.weights.registry import ARCHITECTURES
from more4d.weights.state import read_tensors, save_network, save_state


@dataclass(frozen=True, kw_only=True)
class SmallConfig:
    width: int

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"width must be positive, got {self.width}")


class Small(nn.Module):
    """Tied weights, a stored buffer and one that is not stored."""

    def __init__(self, config: SmallConfig) -> None:
        super().__init__()
        self.config = config
        self.first = nn.Linear(config.width, config.width)
        self.tied = nn.Linear(config.width, config.width, bias=False)
        self.tied.weight = self.first.weight
        self.register_buffer("statistics", torch.zeros(config.width, device="cpu"))
        self.register_buffer("scratch", torch.ones(config.width, device="cpu"), persistent=False)


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Small]:
    monkeypatch.setitem(ARCHITECTURES, "small", SimpleNamespace(classes=(Small, SmallConfig), inner=None))
    torch.manual_seed(0)
    network = Small(SmallConfig(width=8))
    network.statistics.uniform_()
    path = tmp_path / "small.safetensors"
    save_network(path, network, architecture="small", config=network.config, notes={"seed": "0"})
    return path, network


def assert_one_line_error(error: pytest.ExceptionInfo[WeightsError], *words: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_network_comes_back_as_it_was(saved):
    path, network = saved
    loaded = load(inspect(path))
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert loaded.tied.weight is loaded.first.weight
    assert torch.equal(loaded.scratch, network.scratch)
    assert not loaded.training


def test_the_header_is_what_was_written(saved):
    found = inspect(saved[0])
    assert (found.layout, found.architecture, found.config) == ("more4d", "small", SmallConfig(width=8))
    assert found.notes == {"seed": "0"}
    assert found.problems == ()


def test_tied_weights_are_stored_once(saved):
    assert sorted(read_tensors(saved[0])) == ["first.bias", "first.weight", "statistics"]


def test_equal_networks_are_equal_files(saved):
    path, network = saved
    before = path.read_bytes()
    save_network(path, network, architecture="small", config=network.config, notes={"seed": "0"})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]  # nothing else is left behind


def test_parts_of_one_tensor_are_stored_each_by_its_name(tmp_path: Path):
    weight = torch.arange(4.0)
    save_state(tmp_path / "t.safetensors", {"a": weight, "b": weight}, architecture="toy", config={})
    tensors = read_tensors(tmp_path / "t.safetensors")
    assert torch.equal(tensors["a"], weight) and torch.equal(tensors["b"], weight)


def test_a_network_that_is_not_finite_is_not_written(tmp_path: Path):
    path = tmp_path / "net.safetensors"
    with pytest.raises(ValueError, match="'a' is not finite"):
        save_state(path, {"a": torch.tensor([1.0, torch.nan])}, architecture="toy", config={})
    assert not path.exists()


def test_half_precision_on_disk_is_single_in_memory_and_buffers_stay_exact(saved):
    path, network = saved
    save_network(path, network, architecture="small", config={"width": 8}, dtype=torch.float16)
    assert read_tensors(path)["first.weight"].dtype == torch.float16
    loaded = load(inspect(path))
    assert loaded.first.weight.dtype == torch.float32
    assert torch.equal(loaded.first.weight, network.first.weight.half().float())
    assert torch.equal(loaded.statistics, network.statistics)


def test_a_network_can_be_loaded_in_another_precision(saved):
    assert load(inspect(saved[0]), dtype=torch.bfloat16).first.weight.dtype == torch.bfloat16


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
def test_an_unusable_file_is_one_line_that_names_it(saved, damage: Callable[[Path], None]):
    path = saved[0]
    damage(path)
    with pytest.raises(WeightsError) as error:
        load(inspect(path))
    assert_one_line_error(error, path.name, ";")


def test_another_architecture_is_refused(saved):
    with pytest.raises(WeightsError) as error:
        load(inspect(saved[0], architecture=("vism", "strag")))
    assert_one_line_error(error, "'small'", "vism or strag", saved[0].name)


@pytest.mark.parametrize(("config", "word"), [({"height": 8}, "unknown key"), ({"width": 0}, "positive")])
def test_a_configuration_that_does_not_fit_is_refused(saved, config, word):
    save_network(saved[0], saved[1], architecture="small", config=config)
    with pytest.raises(WeightsError) as error:
        load(inspect(saved[0]))
    assert_one_line_error(error, saved[0].name, word)


def test_tensors_of_another_size_are_refused(saved):
    save_network(saved[0], saved[1], architecture="small", config={"width": 9})
    with pytest.raises(WeightsError) as error:
        load(inspect(saved[0]))
    assert_one_line_error(error, saved[0].name, "'first.bias'", "[8]", "[9]", "2 more")


def test_tensors_that_are_missing_or_too_many_are_named_with_a_code(saved):
    path, network = saved
    state = {name: tensor for name, tensor in network.state_dict().items() if name != "tied.weight"}
    del state["first.bias"]
    save_state(path, state | {"extra": torch.ones(1)}, architecture="small", config={"width": 8})
    found: Checkpoint = inspect(path)
    assert (found.missing, found.unexpected) == (("first.bias",), ("extra",))
    assert [problem.code.name for problem in found.problems] == ["MISSING_TENSORS", "UNEXPECTED_TENSORS"]
    with pytest.raises(WeightsError) as error:
        load(found)
    assert_one_line_error(error, "'first.bias' is missing", "1 more finding")


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
