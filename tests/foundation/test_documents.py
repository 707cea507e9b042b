"""Every reader of JSON or YAML refuses what is no such document in one line, whatever the file holds."""

import itertools
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from more4d.cli.job_lists import read_list
from more4d.datasets.from_video.dataset import read_finished
from more4d.datasets.from_video.sources import find_sources
from more4d.datasets.latent_cache import read_header
from more4d.datasets.trajscene_samples import read_captions
from more4d.evaluation.run import _earlier
from more4d.files.atomic import read_json_lines
from more4d.files.checkpoint_headers import read_headers
from more4d.files.clips import decode_tracks
from more4d.files.depth_and_cameras import load_camera, load_camera_path
from more4d.files.tracks import load_tracks
from more4d.foundation.config import load_config, parse_overrides
from more4d.foundation.documents import (
    DocumentError,
    check_readable,
    check_shape,
    parse_json,
    parse_yaml,
    read_text,
)
from more4d.foundation.errors import InputError, More4DError, one_line, printable, shown
from more4d.geometry.camera import Camera
from more4d.pipelines.cameras import parse_cameras
from more4d.runs.job import Job
from more4d.runs.record import RunRecord
from more4d.training.checkpoint import CheckpointFolder
from more4d.training.config import LoopConfig
from more4d.weights.load import inspect, read_sibling_config
from more4d.weights.lora.io import read_peft_config

NO_JSON: dict[str, bytes] = {
    "deep list": b"[" * 100_000,
    "deep object": b'{"a":' * 100_000,
    "deep and closed": b"[" * 900 + b"]" * 900,
    "long number": b'{"a": ' + b"1" * 5000 + b"}",
    "large number": b'{"a": ' + b"1" * 400 + b"}",
    "infinity": b'{"a": Infinity}',
    "nan": b'{"a": [NaN]}',
    "overflow": b'{"a": 1e400}',
    "1e308": b'{"a": 1e308}',
    "nul": b'{"a\\u0000": "b\\u0000"}',
    "raw nul": b'{"a": 1}\0',
    "truncated": b'{"a": ',
    "no utf-8": b'{"a": "\xff\xfe"}',
    "utf-16 without its mark": '{"a": 1}'.encode("utf-16-le"),
    "number": b"5",
    "text": b'"a"',
    "list of numbers": b"[1]",
    "null": b"null",
}
SHAPES: dict[str, dict[str, bytes]] = {
    "run record": {
        "stages": b'{"format": "more4d-run", "version": 1, "stages": {"depth": 5}}',
        "files": b'{"format": "more4d-run", "version": 1, "stages": {"depth": {"files": [1]}}}',
        "version": b'{"format": "more4d-run", "version": "1", "stages": {}}',
    },
    "shard index": {
        "number": b'{"weight_map": {"a": 5}}',
        "no map": b'{"a": 5}',
        "list": b'{"weight_map": []}',
    },
    "header": {
        "text": b'{"__metadata__": "text"}',
        "values": b'{"__metadata__": {"a": 1}}',
        "tensor": b'{"a": 5}',
        "offsets": b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [5]}}',
        "shape": b'{"a": {"dtype": "F32", "shape": "1", "data_offsets": [0, 4]}}',
        "type": b'{"a": {"dtype": [], "shape": [1], "data_offsets": [0, 4]}}',
        "size": b'{"a": {"dtype": "F32", "shape": [99999999999, 99999999999], "data_offsets": [0, 4]}}',
    },
    "camera path": {
        "frames": b'{"format": "more4d-camera-path", "version": 1, "frames": Infinity}',
        "poses": b'{"format": "more4d-camera-path", "version": 1, "frames": [{"world_to_camera": {}}]}',
        "position": b'{"keyframes": [{"position": [1e308, 0, 0]}]}',
        "deep": b'{"keyframes": [{"position": ' + b"[" * 60 + b"]" * 60 + b"}]}",
        "keyframes": b'{"keyframes": {"a": 1}}',
        "huge": b'{"keyframes": [{"position": [3e38, 3e38, 3e38]}, {"position": [-3e38, 0, 0], "time": []}]}',
    },
    "job list": {
        "frames": b'{"image": "a.png", "prompt": "x", "frames": Infinity}',
        "seed": b'{"image": "a.png", "prompt": "x", "seed": 1e308}',
        "fps": b'{"image": "a.png", "prompt": "x", "fps": "inf"}',
        "nul": b'{"image": "a\\u0000.png", "prompt": "x"}',
        "intrinsics": b'{"image": "a.png", "prompt": "x", "intrinsics": [[1], {}, null, 1]}',
        "camera": b'{"image": "a.png", "prompt": "x", "camera": [[]]}',
    },
    "captions.json": {"rows": b'[{"file_path": "a.mp4", "text": null}]', "object": b'{"a": 1}'},
    "latent cache": {
        "kind": b'{"format": "more4d-latent-cache", "version": 1, "kind": [], "samples": "x"}',
        "version": b'{"format": "more4d-latent-cache", "version": []}',
    },
    "finished video": {"clips": b'{"video": "a", "note": "", "seconds": 1, "fingerprint": {}, "clips": [5]}'},
    "checkpoint": {"parts": b'{"format": "more4d-checkpoint", "version": 1, "parts": [], "facts": 5}'},
    "config.json": {"own": b'{"more4d": {"kind": []}}', "mean": b'{"latents_mean": [[1], "a"]}'},
}


def header_of(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def refuse_header(path: Path) -> None:
    problems = read_headers(path).problems
    assert problems
    raise More4DError(problems[0].line(path))


def read_shard_index(folder: Path, content: bytes) -> None:
    refuse_header(write(folder / "model.safetensors.index.json", content))


def read_safetensors(folder: Path, content: bytes) -> None:
    # A header that does not begin as an object is not taken for one of safetensors at all.
    refuse_header(write(folder / "model.safetensors", header_of(b"{" + content[1:])))


def read_own_header(folder: Path, content: bytes) -> None:
    text = content.decode("latin-1")
    about = {"format": "more4d", "version": "1", "kind": "vism", "config": text}
    header = {"__metadata__": about, "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    path = write(folder / "a.safetensors", header_of(json.dumps(header).encode()) + b"\0" * 4)
    problems = inspect(path).problems
    assert problems
    raise More4DError(problems[0].line(path))


def read_tracks(folder: Path, content: bytes) -> None:
    import safetensors.torch

    about = {
        "format": "more4d-tracks",
        "version": "1",
        "fps": "12",
        "caption": "",
        "camera": content.decode("latin-1"),
    }
    tensors = {name: torch.ones(2, 2) for name in ("depth", "motion", "colours", "visibility")}
    safetensors.torch.save_file(tensors, folder / "t.safetensors", metadata=about)
    load_tracks(folder / "t.safetensors")


def read_adapter(folder: Path, content: bytes) -> None:
    write(folder / "adapter_model.safetensors", header_of(b"{}"))
    read_peft_config(write(folder / "adapter_config.json", content).parent)


def read_finished_video(folder: Path, content: bytes) -> None:
    read_finished(write(folder / "a.json", content))


def read_captions_of_videos(folder: Path, content: bytes) -> None:
    write(folder / "a.mp4", b"x")
    write(folder / "captions.jsonl", content)
    find_sources(folder)


def read_camera_path(folder: Path, content: bytes) -> None:
    path = write(folder / "path.json", content)
    load_camera_path(path, frames=3, camera=Camera(fx=1.0, fy=1.0), scene_depth_m=1.0)


READERS: dict[str, Callable[[Path, bytes], Any]] = {
    "run record": lambda folder, content: RunRecord(write(folder / "run.json", content).parent, {}),
    "camera path": read_camera_path,
    "camera": lambda folder, content: load_camera(write(folder / "camera.json", content)),
    "job list": lambda folder, content: read_list(
        write(folder / "jobs.jsonl", content),
        None,
        Job(name="item", image=None, prompt="", cameras=parse_cameras(["orbit"])),
    ),
    "captions of videos": read_captions_of_videos,
    "captions.json": lambda folder, content: read_captions(write(folder / "c.json", content)),
    "finished video": read_finished_video,
    "latent cache": lambda folder, content: read_header(write(folder / "cache.json", content).parent),
    "configuration": lambda folder, content: load_config(LoopConfig, write(folder / "c.yaml", content)),
    "config.json": lambda folder, content: read_sibling_config(write(folder / "config.json", content).parent),
    "shard index": read_shard_index,
    "header": read_safetensors,
    "own header": read_own_header,
    "tracks": read_tracks,
    "adapter": read_adapter,
    "clip": lambda folder, content: decode_tracks("a", {"json": content, "tracks": content + b"\n"}),
    "checkpoint": lambda folder, content: CheckpointFolder(
        write(folder / "step-00000001/state.json", content).parents[1]
    ).at(1, verify=True),
    "evaluation": lambda folder, content: _earlier(write(folder / "results.json", content), {}),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("content", NO_JSON)
def test_no_reader_takes_what_is_no_document(tmp_path: Path, reader: str, content: str) -> None:
    with pytest.raises(More4DError) as caught:
        READERS[reader](tmp_path, NO_JSON[content])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    ("reader", "case"), [(reader, case) for reader, cases in SHAPES.items() for case in cases]
)
def test_no_reader_takes_another_structure(tmp_path: Path, reader: str, case: str) -> None:
    with pytest.raises(More4DError) as caught:
        READERS[reader](tmp_path, SHAPES[reader][case])
    assert "\n" not in str(caught.value)


def test_damaged_lines_of_a_record_are_left_out(tmp_path: Path) -> None:
    for content in NO_JSON.values():
        path = write(tmp_path / "record.jsonl", b'{"step": 1}\n' + content + b'\n{"step": 2}\n')
        assert [line["step"] for line in read_json_lines(path, {"step": int})] == [1, 2]


# Each line is nine times the one before: a few hundred bytes that stand for millions of values.
ALIASES = "a: &a [1]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in itertools.pairwise("abcdefghi")
)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        "a: 2020-13-45",
        "a: " + "1" * 5000,
        "a: .nan",
        "a: .inf",
        "a: *b",
        "a: !!python/name:os.system",
        "? [a]\n: b",
        "{" * 900 + "}" * 900,
        "a: &a [*a]",
        ALIASES,
        "x" * (2 << 20),
    ],
)
def test_yaml_is_as_limited(text: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_yaml(text, dict)
    assert "\n" not in str(caught.value)
    if "\n" not in text:
        with pytest.raises(More4DError):
            parse_overrides([f"key={text.removeprefix('a: ') if len(text) > 3 else text}", "key.a=1", "a"])


def test_values_come_through_unchanged() -> None:
    value = {"a": [1, -2.5, True, None, "\u2028 \U0001f600"], "b": {"c": 2**63}}
    assert parse_json(b"\xef\xbb\xbf" + json.dumps(value).encode()) == value
    assert parse_yaml("a: 1e-4\nb: [x, 2]") == {"a": "1e-4", "b": ["x", 2]}


@pytest.mark.parametrize(
    ("value", "shape", "message"),
    [
        ({"a": 1}, {"a": str}, "'a' must be text, got 1"),
        ({"a": True}, {"a": int}, "'a' must be a whole number, got True"),
        ({"a": {"b": [1, "x"]}}, {"a": {str: [float]}}, r"'a\.b\[2\]' must be a number, got 'x'"),
        ({}, {"a": Any}, "has no 'a'"),
        ({"a": {}}, {"a": {"b": Any}}, "has in 'a' no 'b'"),
        ([], {"a": Any}, "must hold an object, got a list of 0 values"),
        ({"a": 1}, {"a": (None, str)}, "'a' must be null or text, got 1"),
        ({"a": [1]}, {"a": (None, [str])}, r"'a\[1\]' must be text"),
        ({"a": 10**100}, {"a": str}, "a number of more than 80 digits"),
    ],
)
def test_what_differs_from_a_shape_is_named(value: Any, shape: Any, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        check_shape(value, shape)


def test_what_fits_a_shape_passes() -> None:
    shape = {"a": int, "b?": (None, {str: [float]}), "c": Any}
    for value in (
        {"a": 1, "c": {}},
        {"a": 1, "b": None, "c": 2},
        {"a": 0, "b": {"x": [1, 2.5]}, "c": [], "d": 1},
    ):
        check_shape(value, shape)


def test_pipes_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    for path, word in ((tmp_path / "pipe.json", "pipe"), (Path("/dev/zero"), "device"), (tmp_path, "folder")):
        for read in (check_readable, read_text):
            with pytest.raises(InputError, match=f"is a {word}.*give a list"):
                read(path, "a list")
    with pytest.raises(InputError, match="cannot read"):
        check_readable(Path("a\0b"), "a list")


def test_nothing_shown_controls_a_terminal() -> None:
    text = "a\x1b[2Jb\rc\x9bd\u2028e\u202ef\udc80g\x00"
    assert printable(text) == r"a\x1b[2Jb\rc\x9bd\u2028e\u202ef\udc80g\x00"
    assert printable("Bär 走る 😀") == "Bär 走る 😀"
    assert one_line("a\n  b\x07") == r"a b\x07"
    long = one_line("start " + "x" * 10_000 + " end")
    assert len(long) < 2100 and long.startswith("start") and long.endswith("end")
    assert len(shown("x" * 10_000)) < 100 and len(shown(10**9000)) < 100 and len(shown([1] * 10_000)) < 100
