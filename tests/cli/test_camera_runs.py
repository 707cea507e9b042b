"""A list films along files of other programs; the record says how, and a second run has nothing to do."""

import json

import numpy as np
import pytest
import torch

from more4d.files.depth_and_cameras import load_camera_path
from more4d.files.image import load_image
from more4d.files.tracks import load_tracks, save_tracks
from more4d.geometry.camera import Camera, DepthMap
from more4d.geometry.tracks import PointTracks
from more4d.pipelines.camera_spec import CameraSpec
from tests.cameras.camera_files import unreal, write_all

FRAMES, HEIGHT, WIDTH = 3, 48, 64
CAMERA = Camera(fx=0.8, fy=0.8 * 4 / 3)


@pytest.fixture
def folder(tmp_path):
    """Camera files beside tracks of a wall three metres away."""
    depth = DepthMap.from_raw(torch.full((HEIGHT, WIDTH), 3.0), CAMERA)
    tracks = PointTracks(
        positions=depth.points.repeat(FRAMES, 1, 1, 1),
        colours=torch.rand(HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(0)),
        visibility=torch.ones(FRAMES, HEIGHT, WIDTH, dtype=torch.bool),
        camera=CAMERA,
    )
    place = tmp_path / "files"
    place.mkdir()
    save_tracks(place / "wall.safetensors", tracks)
    write_all(place)
    return place


def test_a_list_films_along_files_of_others(command, folder, tmp_path):
    cameras = ["transforms.json:reverse", "text_model:0.5", "unreal.json#cam02", "orbit:0.5"]
    (folder / "jobs.jsonl").write_text(json.dumps({"tracks": "wall.safetensors", "camera": cameras}) + "\n")
    words = ("--list", folder / "jobs.jsonl", "--camera-scale", "auto")
    result = command(*words)
    assert result.code == 0, result.err
    assert "look at a point 2.5 units away" in result.err
    item = tmp_path / "out" / "wall"
    names = [
        "transforms-reverse-scaleauto",
        "text_model-0.5-scaleauto",
        "unreal-cam02-scaleauto",
        "orbit-0.5",
    ]
    assert all((item / name / "view.mp4").is_file() for name in names)
    recorded = json.loads((item / "run.json").read_text())["job"]["cameras"]
    assert recorded[0] == f"{folder / 'transforms.json'}:reverse:scale=auto" and recorded[3] == "orbit:0.5"
    tracks = load_tracks(folder / "wall.safetensors")
    depth_m = 3.0
    for name, text in zip(names, recorded, strict=True):
        # what the record says gives the path again
        settings = {"frames": FRAMES, "source": tracks.camera, "scene_depth_m": depth_m}
        path = CameraSpec.parse(text).sample(**settings)
        written = load_camera_path(
            item / name / "camera_path.json", frames=FRAMES, camera=CAMERA, scene_depth_m=depth_m
        )
        torch.testing.assert_close(path.world_to_camera, written.world_to_camera, rtol=0, atol=1e-6)
    made = {path: path.stat().st_mtime_ns for path in item.glob("*/view.mp4")}
    assert command(*words).code == 0
    assert made == {path: path.stat().st_mtime_ns for path in item.glob("*/view.mp4")}


def test_another_option_is_another_film_and_the_sheet_has_both(command, folder, tmp_path):
    tracks, file = folder / "wall.safetensors", folder / "transforms.json"
    words = ("--tracks", tracks, "--camera", file)
    assert command(*words).code == 0
    item = tmp_path / "out" / "wall"
    first, rows = (item / "transforms/view.mp4").read_bytes(), load_image(item / "sheet.png").shape[0]
    assert command(*words, "--camera-scale", "0.1", "--video-codec", "prores").code == 0
    assert (item / "transforms-scale0.1/view.mov").is_file()
    assert (item / "transforms/view.mp4").read_bytes() == first
    both = load_image(item / "sheet.png").shape[0]
    assert both > rows + 200
    assert command(*words).code == 0  # nothing to do but the sheet: this run's film comes first
    assert load_image(item / "sheet.png").shape[0] == both
    (item / "transforms-scale0.1/view.mov").unlink()
    assert command(*words).code == 0 and load_image(item / "sheet.png").shape[0] == rows


def test_metres_that_jump_are_reported_once_the_depth_is_known(command, folder):
    far = np.stack([np.eye(4)] * 3)
    far[1:, 0, 3] = 2.0
    (folder / "far.json").write_text(json.dumps(unreal(far)))
    spec = CameraSpec.parse(f"{folder / 'far.json'}#cam02")
    adopted = spec.adopt(frames=FRAMES, source=CAMERA, scene_depth_m=3.0)
    assert adopted.metric and adopted.jump_notes(float("inf")) == []
    assert "jump at frame 1" in adopted.jump_notes(3.0)[0]
