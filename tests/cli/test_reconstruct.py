"""`more4d reconstruct`: what it prints, and how it ends."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from more4d import load_gaussians
from more4d.asset import ReconstructionSettings
from more4d.cli.main import main
from more4d.cli.reconstruct import StageProgress
from more4d.files.depth_and_cameras import save_camera_path
from more4d.files.tracks import save_tracks
from more4d.files.video import write_video
from more4d.geometry.camera import Camera
from more4d.geometry.poses import named_camera_path
from more4d.geometry.tracks import PointTracks
from more4d.pipeline import More4DPipeline
from more4d.reconstruction.fit import FitSettings
from more4d.runs.reconstruct import reconstruct_item
from tests.cli.test_progress_bar import Terminal

FRAMES, HEIGHT, WIDTH = 3, 32, 48


@pytest.fixture
def item(tmp_path: Path) -> Path:
    """A folder as another program could make it: tracks, and a film of one camera."""
    camera = Camera(fx=1.0, fy=1.5, cx=0.5, cy=0.5)
    depth = torch.full((HEIGHT, WIDTH), 3.0)
    positions = camera.unproject_depth(depth).repeat(FRAMES, 1, 1, 1)
    positions[:, 10:20, 10:20, 0] += torch.tensor([0.0, 0.2, 0.4])[:, None, None]
    tracks = PointTracks(
        positions=positions,
        colours=torch.rand(HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(0)),
        visibility=torch.ones(FRAMES, HEIGHT, WIDTH, dtype=torch.bool),
        camera=camera,
        caption="a square slides",
    )
    save_tracks(tmp_path / "item/tracks.safetensors", tracks)
    path = named_camera_path("orbit", frames=FRAMES, scene_depth_m=3.0, camera=camera)
    save_camera_path(tmp_path / "item/orbit/camera_path.json", path)
    write_video(tmp_path / "item/orbit/view.mp4", torch.rand(FRAMES, HEIGHT, WIDTH, 3), fps=12)
    return tmp_path / "item"


def test_an_item_of_files_alone_becomes_a_scene(item, capsys):
    words = ["reconstruct", str(item), "--no-frozen", "--coarse", "1", "--fine", "1", "--device", "cpu"]
    assert main([*words, "--quiet"]) == 0
    scene = load_gaussians(item / "gaussians.safetensors")
    assert f"{len(scene)} splats, {len(scene.moving)} of them move" in capsys.readouterr().out
    assert scene.caption == "a square slides"
    assert len(scene.moving) >= 100
    assert (item / "gaussians.png").is_file()


def test_what_is_not_there_is_one_line_and_1(tmp_path, capsys):
    assert main(["reconstruct", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "bash infer.sh" in error


def test_the_time_left_is_told_without_a_terminal(monkeypatch, capsys):
    clock = iter(range(0, 1000, 10))  # a step takes 10 s
    monkeypatch.setattr("more4d.cli.reconstruct.time", SimpleNamespace(monotonic=lambda: next(clock)))
    progress = StageProgress(1, show=True)
    for done in range(4):
        progress.report("gaussians", done, 4)
    progress.report("gaussians", 4, 4)
    assert capsys.readouterr().err.splitlines() == [
        "gaussians",
        "gaussians: step 2 of 4, 20 s left",
        "gaussians (40.0 s)",
    ]


def test_a_terminal_has_a_bar_for_each_stage(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    progress = StageProgress(1, show=True)
    progress.report("frozen orbit", 0, 1)
    progress.report("frozen orbit", 1, 1)
    progress.report("gaussians", 0, 1)
    progress.report("gaussians", 150, 600)
    progress.bar.refresh()
    last = terminal.text.split("\r")[-1]
    assert "gaussians, step 150 of 600" in last and "25%" in last and "left" in last
    progress.report("gaussians", 1, 1)  # as the end of a stage is told
    progress.bar.refresh()
    last = terminal.text.split("\r")[-1]
    assert "gaussians, step 600 of 600" in last and "100%" in last


def test_the_steps_of_the_gaussians_are_counted_once_and_a_picture_shows_them(item, capsys):
    words = ["reconstruct", str(item), "--no-frozen", "--coarse", "2", "--fine", "1", "--device", "cpu"]
    assert main(words) == 0
    error = capsys.readouterr().err
    assert error.startswith(f"{item / 'gaussians.png'} will show how far it is")
    assert error.count("gaussians (") == 1


def test_progress_never_goes_back(item):
    reports = []
    pipe = More4DPipeline.from_pretrained("tiny")
    settings = ReconstructionSettings(frozen=False, fit=FitSettings(coarse=2, fine=1))
    reconstruct_item(pipe, item, settings, progress=lambda *each: reports.append(each))
    done = [done for stage, done, total in reports if total == FRAMES + 3 + 1]
    assert done == sorted(done) and done[-1] == FRAMES + 3
