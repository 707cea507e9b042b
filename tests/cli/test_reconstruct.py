"""`more4d reconstruct`: what it prints, and how it ends."""

from pathlib import Path

import pytest
import torch

from more4d import load_gaussians
from more4d.cli.main import main
from more4d.files.depth_and_cameras import save_camera_path
from more4d.files.tracks import save_tracks
from more4d.files.video import write_video
from more4d.geometry.camera import Camera
from more4d.geometry.poses import named_camera_path
from more4d.geometry.tracks import PointTracks

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
