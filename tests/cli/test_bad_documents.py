"""Documents that are none, through the command: exit code 1, one line, whatever is in the file."""

import json
import os
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from more4d.cli.job_lists import read_list
from more4d.cli.main import main, say
from more4d.files.depth_and_cameras import load_camera_path
from more4d.foundation.errors import More4DError, one_line
from more4d.geometry.camera import Camera
from more4d.pipelines.cameras import CameraSpec, parse_cameras
from more4d.runs.job import Job
from more4d.runs.record import RunRecord
from tests.cli.test_bad_input import SAY, refuses

CONTENTS = [
    b"[" * 100_000,
    b'{"a": ' + b"1" * 5000 + b"}",
    b'{"a": Infinity}',
    b'{"a": "\\u0000"}',
    b"\xff",
    b"5",
]


@pytest.mark.parametrize("content", CONTENTS)
def test_no_document_is_one_line(command, photo, tmp_path, content):
    path = tmp_path / "path.json"
    path.write_bytes(content)
    refuses(command(photo, "--prompt", "it runs", "--camera", path), "path.json")
    (tmp_path / "jobs.jsonl").write_bytes(content)
    refuses(command("--list", tmp_path / "jobs.jsonl"), "jobs.jsonl")
    for record in (tmp_path / "out/run.json", tmp_path / "other/ball/run.json"):
        record.parent.mkdir(parents=True)
        record.write_bytes(content)
        refuses(command(photo, *SAY, output=tmp_path / record.relative_to(tmp_path).parts[0]), "run.json")
    (tmp_path / "preset.yaml").write_bytes(content)
    refuses(command(photo, *SAY, weights=tmp_path), "preset.yaml")


@pytest.mark.parametrize("value", ["[" * 5000, "2020-13-45", "1" * 5000, ".nan"])
def test_an_override_that_is_no_value_is_one_line(capfd, value):
    assert main(["train", "--config", "config/tiny/strag.yaml", "--dry-run", f"loop.steps={value}"]) == 1
    errors = capfd.readouterr().err.splitlines()
    assert len(errors) == 1 and errors[0].startswith("error:") and len(errors[0]) < 2200


def test_pipes_are_refused(command, photo, tmp_path):
    for name in ("path.json", "jobs.jsonl", "depth.npy"):
        os.mkfifo(tmp_path / name)
    refuses(command(photo, "--prompt", "it runs", "--camera", tmp_path / "path.json"), "pipe")
    refuses(command("--list", tmp_path / "jobs.jsonl"), "pipe")
    refuses(command(photo, *SAY, "--depth", tmp_path / "depth.npy"), "depth.npy")


def test_control_codes_of_names_do_not_reach_the_terminal(command, photo, tmp_path, capfd):
    result = command(tmp_path / "a\x1b[2J\x07.png", *SAY)
    refuses(result, r"a\x1b[2J\x07.png")
    assert "\x1b" not in result.err
    say("a\x1b[31m\udc80")
    assert capfd.readouterr().out == "a\\x1b[31m\\udc80\n"


def test_a_camera_is_never_filmed_outside_its_item(tmp_path):
    assert [CameraSpec.parse(text).name for text in ("...json", "a/..json", ".json", "my path.json")] == [
        "camera", "camera", "camera", "my path"
    ]  # fmt: skip


def test_arrays_of_another_byte_order_are_read_and_complex_ones_refused(tmp_path):
    from more4d.files.tracks import load_tracks

    arrays = {
        "positions": np.random.default_rng(0).uniform(1, 2, (3, 8, 8, 3)),
        "colours": np.zeros((8, 8, 3)),
        "intrinsics": np.array([1.0, 1.0, 0.5, 0.5]),
    }
    np.savez(tmp_path / "little.npz", **arrays)
    np.savez(tmp_path / "big.npz", **{name: array.astype(">f8") for name, array in arrays.items()})
    little, big = load_tracks(tmp_path / "little.npz"), load_tracks(tmp_path / "big.npz")
    assert (little.positions == big.positions).all()
    for name, changed in {"positions": arrays["positions"] + 1j, "fps": np.array(np.inf)}.items():
        np.savez(tmp_path / "bad.npz", **{**arrays, name: changed})
        with pytest.raises(More4DError, match=r"real numbers|finite"):
            load_tracks(tmp_path / "bad.npz")


NUMBERS = strategies.integers() | strategies.floats()
SCALARS = strategies.none() | strategies.booleans() | NUMBERS | strategies.text()
JSON = strategies.recursive(
    SCALARS,
    lambda inner: strategies.lists(inner, max_size=4)
    | strategies.dictionaries(
        strategies.sampled_from(
            ["format", "version", "stages", "files", "keyframes", "position", "look_at", "rotation", "time",
             "units", "frames", "world_to_camera", "intrinsics", "image", "prompt", "seed", "camera", "mask"]
        ) | strategies.text(max_size=3),
        inner,
        max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip


@hypothesis.settings(max_examples=150, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(value=JSON, kind=strategies.sampled_from(["record", "keyframes", "path", "camera", "job"]))
def test_any_value_is_read_or_refused(tmp_path: Path, value, kind):
    wrapped = {
        "record": {"format": "more4d-run", "version": 1, "stages": value},
        "keyframes": {"keyframes": [value, {"position": [0, 0, 0]}]},
        "path": {"format": "more4d-camera-path", "version": 1, "frames": value},
        "camera": value,
        "job": {"image": "a.png", "prompt": "x", **(value if isinstance(value, dict) else {"seed": value})},
    }[kind]
    path = tmp_path / {"record": "run.json", "job": "jobs.jsonl"}.get(kind, "path.json")
    path.write_text(json.dumps(wrapped))
    try:
        if kind == "record":
            RunRecord(tmp_path, {})
        elif kind == "job":
            read_list(path, None, Job(name="i", image=None, prompt="", cameras=parse_cameras(["orbit"])))
        else:
            load_camera_path(path, frames=2, camera=Camera(fx=1.0, fy=1.0), scene_depth_m=1.0)
    except More4DError as error:
        assert len(one_line(str(error))) < 2100
