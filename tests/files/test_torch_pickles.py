"""Files of torch.save take no memory that they do not fill, and come back as torch itself reads them."""

import io
import pickle
import struct
import tracemalloc
import zipfile
from typing import Any

import pytest
import torch

from more4d.files.restricted_pickle import load_restricted
from more4d.foundation.errors import InputError


def saved(content: Any, *, old: bool, protocol: int = 2) -> bytes:
    memory = io.BytesIO()
    torch.save(content, memory, pickle_protocol=protocol, _use_new_zipfile_serialization=not old)
    return memory.getvalue()


def without_numbers(content: bytes, *, length: int) -> bytes:
    """A legacy file of one tensor of four numbers that claims another length and lists no storage."""
    start = content.index(b"\x80\x02]q\x00X")
    claimed = content[:start].replace(b"cpuq\x06K\x04", b"cpuq\x06\x8a\x05" + struct.pack("<q", length)[:5])
    assert len(claimed) == start + 5
    return claimed + b"\x80\x02]q\x00."


def test_a_small_legacy_file_cannot_ask_for_memory() -> None:
    content = without_numbers(saved({"a": torch.arange(4.0)}, old=True), length=2**31)
    assert len(content) < 400
    with pytest.raises(InputError):
        load_restricted(content)
    plain = pickle.dumps(torch.arange(4.0))
    inner = plain.replace(b"K\x04N", b"K\x7fN")
    assert inner != plain
    with pytest.raises(InputError):
        load_restricted(inner)


def test_storages_of_a_zip_are_as_long_as_they_are() -> None:
    memory = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved({"a": torch.arange(4.0)}, old=False))) as whole,
        zipfile.ZipFile(memory, "w") as changed,
    ):
        for entry in whole.infolist():
            content = whole.read(entry)
            changed.writestr(entry.filename, content.replace(b"cpuq\x06K\x04", b"cpuq\x06K\x03"))
    with pytest.raises(InputError, match="12 bytes"):
        load_restricted(memory.getvalue())


@pytest.mark.parametrize("name", ["torch.storage UntypedStorage", "numpy zeros"])
def test_a_zip_cannot_call_for_memory(name: str) -> None:
    """A call of `bytearray` or of a storage with a size would be answered by torch.load."""
    memory = io.BytesIO()
    wish = (
        b"\x80\x02c"
        + name.replace(" ", "\n").encode()
        + b"\n\x8a\x05"
        + struct.pack("<q", 2**34)[:5]
        + b"\x85R."
    )
    with zipfile.ZipFile(memory, "w") as file:
        file.writestr("archive/data.pkl", wish)
        file.writestr("archive/version", "3\n")
    tracemalloc.start()
    with pytest.raises(InputError):
        load_restricted(memory.getvalue())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


def test_compressed_zips_inside_plain_pickles_are_refused() -> None:
    memory = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved(torch.zeros(10**5).untyped_storage(), old=False))) as plain,
        zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    content = memory.getvalue()
    call = (
        b"\x80\x03ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(content)) + content + b"\x85R."
    )
    with pytest.raises(InputError, match="compressed"):
        load_restricted(call)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("old", [False, True])
def test_what_torch_writes_comes_back(old: bool, protocol: int) -> None:
    numbers = torch.arange(24)
    kinds = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool]
    kinds += [torch.float16, torch.bfloat16, torch.float32, torch.float64]
    content = {str(kind): numbers.to(kind).view(4, 6) for kind in kinds}
    content |= {"view": numbers[3:9], "again": numbers, "none": torch.zeros(0, 3)}
    content |= {"parameter": torch.nn.Parameter(torch.ones(2)), "size": torch.Size([1, 2]), "text": "Bär"}
    loaded = load_restricted(saved(content, old=old, protocol=protocol))
    assert list(loaded) == list(content)
    for key, value in content.items():
        if isinstance(value, torch.Tensor):
            assert loaded[key].dtype == value.dtype
            assert torch.equal(loaded[key], value)
        else:
            assert loaded[key] == value
