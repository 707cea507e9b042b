"""The recipes of docs/extending.md work as they stand there: a toy of each is added and used."""

import re
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from more4d.depth.registry import DEPTH_ESTIMATORS, open_depth_estimator
from more4d.geometry.camera import Camera
from more4d.geometry.camera_recipes import CAMERA_PATHS, describe_camera_paths
from more4d.geometry.poses import named_camera_path
from more4d.networks.motion_perception import TinyFeatures, TinyFeaturesConfig
from more4d.raster.registry import RASTERISERS, rasteriser_names
from more4d.raster.render import render_tracks
from more4d.training import run
from more4d.weights import registry
from more4d.weights.load import inspect
from tests.architecture.source import ROOT
from tests.raster.scenes import still_path, tracks_of

PAGE = (ROOT / "docs" / "extending.md").read_text()
CAMERA = Camera(fx=0.8, fy=0.6)


def block(title: str) -> str:
    """The Python block whose first line is the comment `title`."""
    (found,) = re.findall(rf"^```python\n# {re.escape(title)}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return found


def add_file(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the block of a file importable as the module it would be."""
    name = path.removesuffix(".py").replace("/", ".")
    module = types.ModuleType(name)
    module.__file__ = path
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(block(path), path, "exec", dont_inherit=True), module.__dict__)


def register(what: str) -> None:
    exec(compile(block(f"register: {what}"), what, "exec", dont_inherit=True), {})


def test_a_depth_estimator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DEPTH_ESTIMATORS, "_backends", {**DEPTH_ESTIMATORS._backends})
    add_file("more4d/depth/plane_backend.py", monkeypatch)
    register("depth")
    depth = open_depth_estimator("plane").estimate(torch.rand(6, 8, 3), CAMERA)
    assert depth.camera == CAMERA and torch.equal(depth.depth_m, torch.full((6, 8), 3.0))
    assert "plane" in DEPTH_ESTIMATORS.describe()


def test_a_rasteriser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RASTERISERS, "_backends", {**RASTERISERS._backends})
    add_file("more4d/raster/dots_backend.py", monkeypatch)
    register("raster")
    assert rasteriser_names()[-1] == "dots"
    tracks = tracks_of(2 + torch.rand(12, 9, generator=torch.Generator().manual_seed(0)), CAMERA)
    drawn = render_tracks(tracks, still_path(CAMERA), height=12, width=9, backend="dots")
    assert torch.equal(drawn.colour[0], tracks.colours) and not drawn.hole_mask.any()


def test_a_camera_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CAMERA_PATHS, "crane", CAMERA_PATHS["static"])  # to be removed again after the test
    register("camera")
    path = named_camera_path("crane", frames=5, scene_depth_m=2.0, camera=CAMERA)
    torch.testing.assert_close(path.world_to_camera[0], torch.eye(4))
    assert float(torch.linalg.inv(path.world_to_camera[-1])[1, 3]) == pytest.approx(-0.5)
    assert "crane" in describe_camera_paths()


def test_a_training_task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "TASKS", dict(run.TASKS))
    monkeypatch.chdir(tmp_path)
    add_file("more4d/training/tasks/brightness.py", monkeypatch)
    register("task")
    (configuration,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "brightness.yaml").write_text(configuration)
    (exported,) = run.run(tmp_path / "brightness.yaml", tmp_path / "run", [])
    assert exported.name == "brightness.safetensors" and exported.is_file()


def test_a_checkpoint_layout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A module registers its layouts when it is first imported: now, or that would be undone with the rest.
    assert list(registry.layouts())
    monkeypatch.setattr(registry, "_layouts", dict(registry._layouts))
    monkeypatch.setattr(registry, "LAYOUT_MODULES", (*registry.LAYOUT_MODULES, "backbone"))
    add_file("more4d/weights/layouts/backbone.py", monkeypatch)
    network = TinyFeatures(TinyFeaturesConfig())
    stored = {f"backbone.{name}": tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(stored, tmp_path / "features.safetensors")
    found = inspect(tmp_path / "features.safetensors")
    assert (found.layout, found.architecture, found.problems) == ("backbone-features", "tiny-features", ())
    del stored["backbone." + next(iter(network.state_dict()))]
    save_file(stored, tmp_path / "cut.safetensors")
    assert inspect(tmp_path / "cut.safetensors").problems


def test_what_was_added_is_gone_and_what_was_there_is_not() -> None:
    """Whatever runs first in a process finds the same registries."""
    names = {name for layout in registry.layouts() for name in layout.names}
    assert {"more4d", "umt5", "wan-vae", "moge4d-strag"} <= names and "backbone-features" not in names
    added = {"plane", "dots", "crane", "brightness"}
    assert not added & {*DEPTH_ESTIMATORS.names(), *rasteriser_names(), *CAMERA_PATHS, *run.TASKS}
