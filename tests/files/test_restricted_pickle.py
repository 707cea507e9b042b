"""Data come back as they were pickled; whatever else a pickle asks for is refused, named and never run."""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from more4d.files.restricted_pickle import load_restricted
from more4d.foundation.errors import InputError

PROTOCOLS = range(6)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and all(map(same, one, other)) and len(one) == len(other)
    return type(one) is type(other) and one == other


def tracks() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {
        "coords": generator.standard_normal((4, 6, 3)).astype(np.float32),
        "colors": generator.integers(0, 256, (6, 3), dtype=np.uint8),
        "vis": generator.random((4, 6)) > 0.5,
    }


GOOD: dict[str, Any] = {
    "numpy": tracks(),
    "tensors": {key: torch.from_numpy(value) for key, value in tracks().items()},
    "view": {"a": torch.arange(24.0).view(4, 6)[1:, ::2], "b": torch.arange(6).view(2, 3).T},
    "halves": [torch.arange(4).bfloat16(), torch.arange(4).half(), np.arange(4, dtype=np.float16)],
    "orders": [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(6, dtype=np.int64)[::-2]],
    "empty": [np.zeros((0, 3)), torch.zeros(0, 3), b"", (), [], {}, ""],
    "plain": {"a": [1, -2, 3.5, None, True, "Bär", b"\xff", 2**70], 5: ((1, 2), (3, (4, [5])))},
    "scalars": [np.float32(1.5), np.int64(-3), np.bool_(True)],
    "array alone": np.arange(3),
    "bytes": bytearray(b"abc"),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", GOOD)
def test_data_round_trip(kind: str, protocol: int) -> None:
    assert same(load_restricted(pickle.dumps(GOOD[kind], protocol)), GOOD[kind])


@pytest.mark.parametrize("old", [False, True])
def test_files_of_torch_round_trip(tmp_path: Path, old: bool) -> None:
    path = tmp_path / "tracks.pkl"
    torch.save(GOOD["tensors"], path, _use_new_zipfile_serialization=not old)
    assert same(load_restricted(path), GOOD["tensors"])


def test_a_parameter_is_a_tensor_and_an_ordered_dict_a_dict() -> None:
    loaded = load_restricted(pickle.dumps(OrderedDict(a=torch.nn.Parameter(torch.ones(2)))))
    assert type(loaded["a"]) is torch.Tensor
    assert not loaded["a"].requires_grad


def test_names_of_numpy_1_are_known() -> None:
    content = pickle.dumps(tracks(), 2).replace(b"numpy._core", b"numpy.core")
    assert same(load_restricted(content), tracks())


def test_other_byte_orders_become_the_machines_own() -> None:
    swapped = np.arange(5, dtype=">f4")
    loaded = load_restricted(pickle.dumps(swapped))
    assert loaded.dtype == np.float32
    assert loaded.tolist() == swapped.tolist()


def test_loaded_arrays_may_be_written_to() -> None:
    loaded = load_restricted(pickle.dumps(tracks()))
    for value in loaded.values():
        value[:] = 0
    torch.from_numpy(loaded["coords"])


def test_one_array_twice_is_read_twice() -> None:
    array = np.arange(6)
    assert same(load_restricted(pickle.dumps([array, array, (array,)])), [array, array, (array,)])


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def attacks(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Pickles that would make `marker`, and what the refusal has to name."""
    shell, code = f"touch {marker}", f"__import__('os').mkdir({str(marker)!r})"
    os_system = Calls(os.system, shell)
    inner = io.BytesIO()
    torch.save({"a": os_system}, inner, _use_new_zipfile_serialization=False)
    whole = io.BytesIO()
    torch.save({"coords": torch.ones(2), "a": os_system}, whole)
    objects = np.array([os_system, None], dtype=object)
    short = {text: b"\x8c" + bytes([len(text)]) + text.encode() for text in (shell, code, "posix", "system")}
    load_from_bytes = torch.storage._load_from_bytes
    hidden = {"coords": np.ones(3), "vis": [{"deep": (os_system,)}]}
    by_name = b"\x80\x04" + short["posix"] + short["system"] + b"\x93" + short[shell] + b"\x85R."
    memo = b"\x80\x04" + short["system"] + b"\x94" + short["posix"] + b"h\x00\x93" + short[shell] + b"\x85R."
    return {
        "os.system": (pickle.dumps(os_system), "posix.system"),
        "eval": (pickle.dumps(Calls(eval, code)), "builtins.eval"),
        "eval, old": (pickle.dumps(Calls(eval, code), 0), "__builtin__.eval"),
        "exec": (pickle.dumps(Calls(exec, code)), "builtins.exec"),
        "open": (pickle.dumps(Calls(open, str(marker), "w")), "open"),
        "getattr": (pickle.dumps(Calls(getattr, os_system, "real")), "builtins.getattr"),
        "partial": (pickle.dumps(partial(os.system, shell)), "functools.partial"),
        "nested": (pickle.dumps(Calls(map, Calls(getattr, os_system, "x"), [shell])), "map"),
        "argument": (pickle.dumps(Calls(np.dtype, os_system)), "posix.system"),
        "hidden": (pickle.dumps(hidden), "posix.system"),
        "object array": (pickle.dumps(objects), "numpy type 'O8'"),
        "object array, old": (pickle.dumps(objects, 2), "numpy type 'O8'"),
        "path": (pickle.dumps(Path("x")), "pathlib"),
        "module": (b"cos\nsystem\n(S'" + shell.encode() + b"'\ntR.", "os.system"),
        "instance": (b"(S'" + shell.encode() + b"'\nios\nsystem\n.", "os.system"),
        "object": (b"(cos\nsystem\nS'" + shell.encode() + b"'\no.", "os.system"),
        "object, known": (b"(cnumpy\nndarray\nI1\no.", "a call of numpy.ndarray"),
        "new object": (b"\x80\x02cnumpy\nndarray\n(I3\ntq\x00\x81.", "damaged"),
        "stack global": (by_name, "posix.system"),
        "stack global, memo": (memo, "posix.system"),
        "dotted": (b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", "numpy.ndarray.tofile"),
        "dotted module": (b"\x80\x04\x8c\x0dnumpy.ndarray\x8c\x06tofile\x93.", "numpy.ndarray.tofile"),
        "attributes of a type": (
            b"cnumpy\ndtype\n}S'make'\ncnumpy\nndarray\nsb.",
            "a function",
        ),
        "call of data": (b"S'eval'\n(S'1'\ntR.", "damaged"),
        "call of ndarray": (b"cnumpy\nndarray\n(I9\ntR.", "a call of numpy.ndarray"),
        "name alone": (b"cnumpy\ndtype\n.", "a function"),
        "extension": (b"\x80\x02\x82\x01.", "damaged"),
        "persistent": (b"Pmine\n.", "damaged"),
        "load from bytes": (pickle.dumps(Calls(load_from_bytes, inner.getvalue())), "posix.system"),
        "load from zip": (pickle.dumps(Calls(load_from_bytes, whole.getvalue())), "posix.system"),
        "torch zip": (whole.getvalue(), "posix.system"),
        "torch legacy": (inner.getvalue(), "posix.system"),
        "codecs": (b"c_codecs\nencode\n(Vx\nVrot13\ntR.", "_codecs.encode"),
        "set": (pickle.dumps({1, 2}), "a set"),
        "key": (pickle.dumps({(1, 2): 3}), "a tuple as a key"),
        "structured": (pickle.dumps(np.zeros(2, "f4,i4")), "numpy type 'V8'"),
        "subclass": (pickle.dumps(np.ma.zeros(2)), "numpy.ma"),
    }


@pytest.mark.parametrize("case", attacks(Path("x")))
def test_what_is_not_data_is_refused_named_and_never_run(tmp_path: Path, case: str) -> None:
    marker = tmp_path / "marker"
    content, named = attacks(marker)[case]
    path = tmp_path / "tracks.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_restricted(path)
    assert named in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize("case", ["os.system", "eval", "stack global", "load from bytes"])
def test_the_attacks_are_real(tmp_path: Path, case: str) -> None:
    """The same bytes do run elsewhere, or the test above would prove nothing."""
    marker = tmp_path / "marker"
    pickle.loads(attacks(marker)[case][0])
    assert marker.exists()


DTYPE = b"cnumpy\ndtype\n(Vf8\nI00\nI01\ntR(I3\nV<\nNNNI-1\nI-1\nI0\ntb"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR(I1\n(I%d\nt" + DTYPE
BUFFER = b"cnumpy.core.numeric\n_frombuffer\n(C\x00" + DTYPE
BOMBS = {
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".",
    "bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",
    "array": ARRAY % 10**15 + b"I00\nC\x00tb.",
    "shape": BUFFER + b"(\x8b" + struct.pack("<i", 4000) + b"\x7f" * 4000 + b"tVC\ntR.",
    "shape of shapes": BUFFER + b"(I1\nt" + b"2\x86" * 200 + b"VC\ntR.",
    "itself": b"]q\x00h\x00a.",
    "deep": b"]" * 10_000 + b"a" * 9_999 + b".",
    "nothing": b"",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_giant_wishes_end_in_one_line(kind: str) -> None:
    with pytest.raises(InputError) as caught:
        load_restricted(BOMBS[kind])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_far_place_in_the_memo_costs_nothing() -> None:
    assert load_restricted(b"\x80\x02}r" + struct.pack("<I", 2**32 - 1) + b".") == {}


def test_tensors_larger_than_their_storage_are_refused() -> None:
    wide = torch.ones(1).expand(10**9, 10**9)
    for content in (pickle.dumps(wide), saved(wide)):
        with pytest.raises(InputError):
            load_restricted(content)
    with pytest.raises(InputError):
        load_restricted(saved(torch.empty(10**12, device="meta")))


def saved(content: Any) -> bytes:
    memory = io.BytesIO()
    torch.save(content, memory)
    return memory.getvalue()


def test_compressed_zips_are_refused() -> None:
    memory = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved(torch.zeros(10**6)))) as plain,
        zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    with pytest.raises(InputError, match="compressed"):
        load_restricted(memory.getvalue())


@pytest.mark.parametrize("form", ["numpy", "tensors", "zip", "legacy"])
def test_what_is_cut_off_is_refused(form: str) -> None:
    if form in ("zip", "legacy"):
        memory = io.BytesIO()
        torch.save(GOOD["tensors"], memory, _use_new_zipfile_serialization=form == "zip")
        content = memory.getvalue()
    else:
        content = pickle.dumps(GOOD[form])
    for length in (1, 9, len(content) // 3, len(content) // 2, len(content) - 8, len(content) - 1):
        with pytest.raises(InputError):
            load_restricted(content[:length])


@given(st.binary(max_size=60))
def test_noise_is_data_or_refused(noise: bytes) -> None:
    try:
        load_restricted(b"\x80\x04" + noise)
    except InputError:
        return


@given(st.data())
def test_a_changed_byte_is_data_or_refused(data: st.DataObject) -> None:
    content = bytearray(pickle.dumps(GOOD["tensors"] | GOOD["plain"], 4))
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        load_restricted(bytes(content))
    except InputError:
        return


@pytest.mark.parametrize("case", ["missing", "folder", "empty", "text"])
def test_files_that_are_no_pickles_are_refused(tmp_path: Path, case: str) -> None:
    path = tmp_path / "a.pkl"
    if case == "folder":
        path.mkdir()
    elif case != "missing":
        path.write_text("hello" if case == "text" else "")
    with pytest.raises(InputError, match=r"a\.pkl"):
        load_restricted(path)
