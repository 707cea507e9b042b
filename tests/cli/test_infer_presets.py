"""The main job with presets of published files, as a user asks for it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from more4d.cli.main import main
from more4d.files.tracks import load_tracks
from tests import published_presets as published
from tests.cli.conftest import CommandResult


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """Published layouts in small, as for `tests/pipelines/test_published_presets.py`."""
    folder = tmp_path_factory.mktemp("published")
    published.write_everything(folder)
    return folder


@pytest.fixture
def infer(capfd, photo, tmp_path, tree):
    """Runs `more4d infer` on a photo with its depth and camera; more arguments as given."""
    np.save(tmp_path / "depth.npy", np.linspace(1, 4, 60 * 80, dtype=np.float32).reshape(60, 80))

    def run(*arguments: object, depth: bool = True) -> CommandResult:
        known = ("--depth", tmp_path / "depth.npy", "--intrinsics", "1,1.33,0.5,0.5") if depth else ()
        what = (photo, "--prompt", "the ball rolls", "--camera", "orbit", "--frames", "3", *known)
        where = ("--output", tmp_path / "out", "--device", "cpu")
        capfd.readouterr()
        try:
            code = main(["infer", *map(str, (*what, *where, *arguments))])
        except SystemExit as error:
            code = int(error.code or 0)
        return CommandResult(code, *capfd.readouterr())

    return run


@pytest.mark.parametrize("name", ["fun-1.3b", "moge4d"])
def test_the_main_job_runs_with_published_files(infer, tree, tmp_path, name):
    result = infer("--preset", tree / f"{name}.yaml", "--weights", tree / "models")
    assert result.code == 0, result.err
    assert result.err.count("has never learned trajectories") == (name != "moge4d")
    item = tmp_path / "out" / "ball"
    for file in ("tracks.safetensors", "orbit/render.mp4", "orbit/view.mp4", "sheet.png"):
        assert (item / file).is_file(), file
    tracks = load_tracks(item / "tracks.safetensors")
    assert tracks.positions.shape[0] == 3 and bool(torch.isfinite(tracks.positions).all())
    assert float((tracks.positions[-1] - tracks.positions[0]).norm(dim=-1).max()) > 0.01
    record = json.loads((item / "run.json").read_text())
    assert record["preset"] == name and record["state"] == "finished"
    assert ("vism" in record["loras"]) == (name == "moge4d")


def one_line(result: CommandResult) -> str:
    errors = [line for line in result.err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "Traceback" not in result.err
    return errors[0]


def test_what_a_preset_needs_and_has_not_is_one_line(infer, tree, tmp_path):
    result = infer("--preset", "fun-1.3b", "--weights", tmp_path)
    assert result.code == 1 and "weights check" in one_line(result)
    result = infer("--preset", "moge5d")
    assert result.code != 0 and "known: tiny, fun-1.3b, fun-14b, moge4d" in one_line(result)
    result = infer("--weights", tree / "models")
    assert result.code == 1 and "--preset" in one_line(result)


def test_another_file_for_a_part_is_asked_for_by_name(infer, tree):
    small = ("--preset", tree / "fun-1.3b.yaml", "--weights", tree / "models")
    assert "PART=FILE" in infer(*small, "--part", "strag").err
    result = infer(*small, "--part", f"stag={tree}")
    assert result.code != 0 and "trajectory_codec" in one_line(result)
    clip = tree / "models" / published.FUN[0] / published.CLIP_FILE
    result = infer(*small, "--part", f"video_codec={clip}")
    assert result.code == 1 and published.CLIP_FILE in one_line(result)


def test_without_unidepth_the_ways_out_are_named(infer, tree):
    """No weights of UniDepth are in the tree; depth from elsewhere is."""
    small = ("--preset", tree / "moge4d.yaml", "--weights", tree / "models")
    line = one_line(infer(*small, depth=False))
    assert "unidepth" in line and "--depth FILE" in line and "--part depth=small" in line
    assert infer(*small, "--part", "depth=small", depth=False).code == 0
