"""What a file really is, is told by its content, with what to do about it."""

from pathlib import Path

import pytest

from more4d.files.checkpoint_headers import read_headers
from more4d.files.problems import ProblemCode, format_size
from more4d.files.torch_files import download_problem

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 3100000000\n"


OTHERS = {
    "Git LFS pointer to 3.1 GB": POINTER,
    "web page ('Sign in')": b"\n<!DOCTYPE html><html><head><title>Sign\n in</title></head></html>",
    "empty": b"",
}


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.bin", "w"])
@pytest.mark.parametrize(("told", "content"), OTHERS.items())
def test_what_is_no_file_of_weights_is_said_to_be_what_it_is(tmp_path: Path, name, told, content):
    (tmp_path / name).write_bytes(content)
    (problem,) = read_headers(tmp_path / name).problems
    problem = str(problem)
    assert told in problem
    remedy = problem.rpartition("; ")[2]
    assert "\n" not in problem and remedy.split()[0] in ("fetch", "give", "run")


@pytest.mark.parametrize(
    "content", [b"\xff\xd8\xff\xe0" + bytes(60), b"Invalid username or password.", bytes(9000)]
)
@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w"])
def test_anything_else_is_damage_with_a_remedy(tmp_path: Path, name, content):
    (tmp_path / name).write_bytes(content)
    (problem,) = read_headers(tmp_path / name).problems
    assert problem.code is ProblemCode.DAMAGED
    assert str(problem).rpartition("; ")[2].split()[0] in ("fetch", "give")


def test_a_header_whose_length_begins_as_a_pickle_does_is_one_of_safetensors(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    for length in (0x280, 0x380, 0x480, 0x580):
        header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
        path.write_bytes(length.to_bytes(8, "little") + header + bytes(4))
        assert not read_headers(path).problems


def test_what_belongs_beside_weights_may_be_text_but_no_pointer(tmp_path: Path):
    path = tmp_path / "tokenizer.json"
    for content, whole in ((b"{}", True), (b"\x00\x01", True), (POINTER, False), (b"", False)):
        path.write_bytes(content)
        assert (download_problem(path) is None) == whole


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (3.3e9, "3.3 GB"), (32.8e9, "32.8 GB"), (4e6, "4 MB")],
)
def test_sizes_are_for_people(size, text):
    assert format_size(size) == text
