"""Names, shapes and types are read without the numbers; what is broken is told in a few words."""

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from more4d.files.checkpoint_headers import read_headers
from more4d.files.problems import Problem
from more4d.files.problems import ProblemCode as Code
from more4d.foundation.errors import WeightsError

TENSORS = {
    "a.weight": torch.arange(12.0).view(3, 4),
    "a.bias": torch.ones(3, dtype=torch.bfloat16),
    "count": torch.tensor(7),
}


def texts(path: Path) -> tuple[str, ...]:
    return tuple(str(problem) for problem in read_headers(path).problems)


def write_zip(path: Path) -> None:
    torch.save(TENSORS, path)


def write_legacy(path: Path) -> None:
    torch.save(TENSORS, path, _use_new_zipfile_serialization=False)


def write_safetensors(path: Path) -> None:
    save_file(TENSORS, path, metadata={"format": "pt"})


WRITERS = [("w.safetensors", write_safetensors), ("w.pth", write_zip), ("w.torch", write_legacy)]


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_headers_tell_shapes_and_types_and_tensors_are_read_when_asked_for(tmp_path: Path, name, write):
    path = tmp_path / name
    write(path)
    headers = read_headers(path)
    assert headers.problems == ()
    assert headers.bytes == path.stat().st_size
    assert headers.parameters == 16
    for key, tensor in TENSORS.items():
        assert headers.shapes[key].is_meta
        assert (headers.shapes[key].shape, headers.shapes[key].dtype) == (tensor.shape, tensor.dtype)
    with headers.open() as read:
        assert all(torch.equal(read(key), tensor) for key, tensor in TENSORS.items())


@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_of_a_module_is_a_table_of_tensors(tmp_path: Path, zipped: bool):
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    torch.save(module.state_dict(), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    headers = read_headers(tmp_path / "w.pth")
    assert headers.problems == ()
    assert headers.shapes["0.weight"].shape == (4, 3)


@pytest.mark.parametrize("zipped", [True, False])
def test_parts_of_a_storage_and_unusual_strides_are_read_as_they_are(tmp_path: Path, zipped: bool):
    table = torch.arange(24.0).view(4, 6)
    tensors = {"t": table.T, "part": table[1:3, 2:], "row": table[3], "same": table, "none": table[:0]}
    torch.save(tensors, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    headers = read_headers(tmp_path / "w.pth")
    with headers.open() as read:
        for name, tensor in tensors.items():
            assert torch.equal(read(name), tensor), name
            assert headers.shapes[name].shape == tensor.shape


def test_a_file_that_shrinks_while_it_is_read_is_one_line(tmp_path: Path):
    write_safetensors(tmp_path / "w.safetensors")
    headers = read_headers(tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"")
    with headers.open() as read, pytest.raises(WeightsError, match="shorter"):
        read("a.weight")


@pytest.mark.parametrize(("name", "write"), WRITERS)
@pytest.mark.parametrize("keep", [0, 3, 200, -1])
def test_every_truncation_is_noticed(tmp_path: Path, name, write, keep: int):
    path = tmp_path / name
    write(path)
    path.write_bytes(path.read_bytes()[:keep])
    (problem,) = texts(path)
    assert "\n" not in problem
    assert len(problem) < 200
    assert ("empty" in problem) == (keep == 0)


def test_a_truncated_safetensors_file_says_how_much_is_there(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(1_000_000)}, path)
    with path.open("rb+") as file:
        file.truncate(1_000_000)
    headers = read_headers(path)
    assert texts(path) == ("is truncated: 1 MB of 4 MB are there; fetch it again",)
    assert headers.shapes["a"].shape == (1_000_000,)  # what it should have held is known


def test_a_file_that_is_longer_than_it_says_is_broken(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    write_safetensors(path)
    path.write_bytes(path.read_bytes() + b"more")
    assert texts(path) == ("is longer than its header says; fetch it again",)


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}},
        {"a": {"dtype": "F32", "shape": [1]}},
        {n: {"dtype": "U8", "shape": [3], "data_offsets": [s, s + 3]} for n, s in (("a", 0), ("b", 1))},
        {n: {"dtype": "U8", "shape": [1], "data_offsets": [s, s + 1]} for n, s in (("a", 0), ("b", 3))},
        {"a": {"dtype": "U8", "shape": [3], "data_offsets": [1, 4]}},
        {"a": 1},
        [],
    ],
)
def test_headers_that_make_no_sense_are_no_safetensors(tmp_path: Path, header):
    text = json.dumps(header).encode()
    (tmp_path / "w.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    (problem,) = texts(tmp_path / "w.safetensors")
    assert problem.startswith(("is no safetensors file", "is longer than its header says"))


@pytest.mark.parametrize("content", [{"a": Path("x")}, [torch.ones(1)], {"model": {"a": torch.ones(1)}}])
@pytest.mark.parametrize("zipped", [True, False])
def test_anything_but_a_flat_table_of_tensors_is_refused(tmp_path: Path, content, zipped):
    path = tmp_path / "w.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    (problem,) = texts(path)
    assert "tensors" in problem


def test_shards_with_and_without_an_index_are_one_table(tmp_path: Path):
    names = ["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"]
    save_file({"a": torch.ones(1)}, tmp_path / names[0])
    save_file({"b": torch.zeros(2)}, tmp_path / names[1])
    assert sorted(read_headers(tmp_path).shapes) == ["a", "b"]
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict(zip("ab", names, strict=True))}))
    assert sorted(read_headers(tmp_path).shapes) == sorted(read_headers(index).shapes) == ["a", "b"]
    (tmp_path / names[1]).unlink()
    assert texts(index) == (f"shard {names[1]} is missing; fetch it",)
    index.unlink()
    assert texts(tmp_path) == ("shard 2 of 2 is missing; fetch it",)


def test_a_tensor_in_two_shards_is_told(tmp_path: Path):
    names = ["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"]
    for number, name in enumerate(names):
        save_file({"a": torch.full((1,), float(number)), name: torch.ones(1)}, tmp_path / name)
    assert texts(tmp_path) == ("tensor 'a' is in several of its files; fetch them again",)


def test_a_folder_has_one_file_of_weights_or_one_with_a_usual_name(tmp_path: Path):
    with pytest.raises(WeightsError, match="found none"):
        read_headers(tmp_path)
    save_file({"a": torch.ones(1)}, tmp_path / "diffusion_pytorch_model.safetensors")
    torch.save({"b": torch.ones(1)}, tmp_path / "text.pth")
    assert sorted(read_headers(tmp_path).shapes) == ["a"]
    save_file({"c": torch.ones(1)}, tmp_path / "other.safetensors")
    assert sorted(read_headers(tmp_path).shapes) == ["a"]
    (tmp_path / "diffusion_pytorch_model.safetensors").rename(tmp_path / "third.safetensors")
    with pytest.raises(WeightsError, match=r"other\.safetensors, third\.safetensors"):
        read_headers(tmp_path)


def test_nothing_is_one_line(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"no weights file .*absent\.pth"):
        read_headers(tmp_path / "absent.pth")


def test_a_problem_is_one_sentence_about_its_file():
    empty, lost = Problem(Code.DAMAGED, "is empty"), Problem(Code.MISSING_TENSORS, "tensor 'b' is missing")
    assert empty.line(Path("a.pth")) == "a.pth is empty"
    assert lost.line(Path("a.pth")) == "a.pth: tensor 'b' is missing"
    assert replace(empty, member="shard 2").line(Path("a.json")) == "a.json: shard 2: is empty"


@pytest.mark.parametrize(("name", "write"), WRITERS)
@pytest.mark.parametrize("other", ["w.pth", "w.safetensors", "w.ckpt"])
def test_content_tells_how_a_file_is_read_whatever_its_name(tmp_path: Path, name, write, other):
    write(tmp_path / other)
    headers = read_headers(tmp_path / other)
    assert headers.problems == ()
    assert headers.shapes.keys() == TENSORS.keys()


def test_a_link_to_nothing_and_a_folder_by_the_name_of_a_file_are_told(tmp_path: Path):
    (tmp_path / "w.safetensors").symlink_to(tmp_path / "blob")
    with pytest.raises(WeightsError, match=r"is a link to .*blob, which is not there; fetch it again"):
        read_headers(tmp_path / "w.safetensors")
    (tmp_path / "v.safetensors").mkdir()
    with pytest.raises(WeightsError, match="is a folder without weights, by the name of a file; remove it"):
        read_headers(tmp_path / "v.safetensors")


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("form", ["zip", "legacy", "plain", "plain, protocol 0"])
def test_what_asks_to_run_something_is_refused_named_and_not_run(tmp_path: Path, form: str):
    marker, path = tmp_path / "marker", tmp_path / "w.pth"
    attack = {"a": Calls(os.system, f"touch {marker}")}
    if form.startswith("plain"):
        path.write_bytes(pickle.dumps(attack, 0 if "0" in form else 4))
    else:
        torch.save(attack, path, _use_new_zipfile_serialization=form == "zip")
    (problem,) = read_headers(path).problems
    assert "system" in str(problem)
    assert problem.code is Code.UNSAFE or form == "plain, protocol 0"
    assert not marker.exists()


def test_a_storage_that_claims_more_than_the_file_has_is_refused(tmp_path: Path):
    torch.save({"a": torch.arange(4.0)}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "w.pth").read_bytes()
    assert b"cpuq\x06K\x04" in content
    (tmp_path / "w.pth").write_bytes(content.replace(b"cpuq\x06K\x04", b"cpuq\x06K\x7f"))
    (problem,) = read_headers(tmp_path / "w.pth").problems
    assert problem.code is Code.DAMAGED
