"""What a file really is, is told by its content, with what to do about it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from more4d.files.checkpoint_headers import read_headers
from more4d.files.file_signatures import detect_format, download_problem, format_size
from more4d.foundation.errors import WeightsError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 3100000000\n"


OTHERS = {
    "Git LFS pointer to 3.1 GB": POINTER,
    "web page ('Sign in')": b"\n<!DOCTYPE html><html><head><title>Sign\n in</title></head></html>",
    "JPEG picture": b"\xff\xd8\xff\xe0" + bytes(60),
    "PNG picture": b"\x89PNG\r\n\x1a\n" + bytes(60),
    "GIF picture": b"GIF89a" + bytes(60),
    "WebP picture": b"RIFF\x24\0\0\0WEBPVP8 " + bytes(60),
    "packed archive": b"\x1f\x8b\x08" + bytes(60),
    "GGUF": b"GGUF" + bytes(60),
    "'Invalid username or password.'": b"Invalid username or password.\n",
    "is text": '{"fehlt": "übermäßig"}'.encode() * 300,
    "zeros": bytes(9000),
    "empty": b"",
}


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.bin", "w"])
@pytest.mark.parametrize(("told", "content"), OTHERS.items())
def test_what_is_no_file_of_weights_is_said_to_be_what_it_is(tmp_path: Path, name, told, content):
    (tmp_path / name).write_bytes(content)
    (problem,) = read_headers(tmp_path / name).problems
    assert told in problem
    remedy = problem.rpartition("; ")[2]
    assert "\n" not in problem and remedy.split()[0] in ("fetch", "give", "run")


def test_the_formats_are_told_apart_without_their_names(tmp_path: Path):
    path = tmp_path / "w"
    save_file({"a": torch.ones(1)}, path)
    assert detect_format(path) == "safetensors"
    for zipped in (True, False):
        torch.save({"a": torch.ones(1)}, path, _use_new_zipfile_serialization=zipped)
        assert detect_format(path) == "torch"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(WeightsError, match="neither a safetensors nor a PyTorch file; give"):
        detect_format(path)


def test_a_header_whose_length_begins_as_a_pickle_does_is_one_of_safetensors(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    for length in (0x280, 0x380, 0x480, 0x580):
        header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
        path.write_bytes(length.to_bytes(8, "little") + header + bytes(4))
        assert detect_format(path) == "safetensors"
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
