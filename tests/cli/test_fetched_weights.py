"""From the hub to the film: what the manifests fetch is what presets and `--depth-model` read.

The repositories of a hub on this machine have the published names and small random files.
"""

from pathlib import Path

import numpy as np
import pytest

from more4d.cli.main import main
from more4d.pipelines import preset
from more4d.weights import manifest
from tests import published_presets as published
from tests.cli.conftest import Command
from tests.depth.test_transformers_backend import a_model_folder
from tests.files.hub_server import Hub, Repository


def repository_of(folder: Path) -> Repository:
    """What lies below a folder, as a repository; with a page, which is not fetched."""
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    return Repository({**files, "README.md": b"# a page\n"})


@pytest.fixture
def publishers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is published, and smaller presets of the same names."""
    folder = tmp_path / "published"
    folder.mkdir()
    published.write_fun(folder)
    published.write_fun(folder, published.LARGE_FUN)
    published.write_moge4d(folder)
    (tmp_path / "presets").mkdir()
    for name in ("fun-1.3b", "moge4d"):
        published.write_small_preset(tmp_path / "presets" / f"{name}.yaml", name)
    monkeypatch.setattr(preset, "PRESETS", tmp_path / "presets")
    return folder


@pytest.mark.parametrize("name", ["fun-1.3b", "moge4d"])
def test_a_fetched_preset_is_complete(
    hub: Hub, publishers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
):
    for part in manifest.choose_parts(name).values():
        hub.repositories[part.repo] = repository_of(publishers / part.to)
    code = main(["weights", "fetch", "--preset", name, "--weights", str(tmp_path / "models")])
    captured = capsys.readouterr()
    assert code == 0, captured.out + captured.err
    assert f"verified: {len(hub_files(tmp_path / 'models'))} files of preset {name}" in captured.out
    assert f"preset {name}: " in captured.out and "missing, from" not in captured.out
    assert not list((tmp_path / "models").rglob("README.md"))


def hub_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.parent != folder]


@pytest.mark.slow
def test_a_fetched_depth_model_estimates_the_depth_of_a_film(
    hub: Hub,
    tmp_path: Path,
    photo: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
):
    model = a_model_folder(tmp_path / "model", depth_estimation_type="metric", max_depth=20)
    part = manifest.read_manifest("depth")["depth-anything-v2"]
    hub.repositories[part.repo] = repository_of(model)
    monkeypatch.setattr(manifest, "USER_WEIGHTS", tmp_path / "models")
    words = (photo, "--prompt", "the ball rolls", "--depth-model", "depth-anything-v2", "--frames", "5")
    lacking = command(*words)
    assert lacking.code == 1 and "weights fetch --preset depth --part depth-anything-v2" in lacking.err
    assert main(["weights", "fetch", "--preset", "depth", "--weights", str(tmp_path / "models")]) == 0
    fetched = command(*words, "--camera", "static", "--steps", "1")
    assert fetched.code == 0, fetched.err
    other = command(
        *words[:3], "--frames", "5", "--camera", "static", "--steps", "1", output=tmp_path / "small"
    )
    assert other.code == 0, other.err
    one, two = (np.load(tmp_path / folder / "ball/depth.npy") for folder in ("out", "small"))
    assert np.isfinite(one).all() and not np.allclose(one, two)
    twice = command(*words, "--part", "depth=small")
    assert twice.code == 1 and "--depth-model and --part depth both say" in twice.err
