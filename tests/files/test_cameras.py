"""Cameras and paths come back as they were saved; keyframe files say what is wrong with them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from more4d.files.depth_and_cameras import (
    distance_from_photo,
    load_camera,
    load_camera_path,
    save_camera,
    save_camera_path,
)
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.camera_recipes import CAMERA_PATHS
from more4d.geometry.poses import named_camera_path, rigid_inverse

CAMERA = Camera(fx=1 / 3, fy=0.7, cx=0.45, cy=0.55)
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "camera_path.json"


def load(path: Path, frames: int = 13, scene_depth_m: float = 2.0) -> CameraPath:
    return load_camera_path(path, frames=frames, camera=CAMERA, scene_depth_m=scene_depth_m)


def write(folder: Path, content: Any) -> Path:
    path = folder / "my_path.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_cameras_round_trip_exactly(tmp_path: Path) -> None:
    save_camera(tmp_path / "camera.json", CAMERA)
    assert load_camera(tmp_path / "camera.json") == CAMERA


@pytest.mark.parametrize(
    "text", ['{"fx": 1}', '{"fx": "wide", "fy": 1}', '{"fx": -1, "fy": 1}', "[]", "fx=1"]
)
def test_impossible_cameras_are_refused(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=r"my_path\.json"):
        load_camera(path)


@pytest.mark.parametrize("name", CAMERA_PATHS)
def test_full_paths_round_trip_exactly(tmp_path: Path, name: str) -> None:
    path = named_camera_path(name, frames=13, scene_depth_m=2.7, camera=CAMERA)
    save_camera_path(tmp_path / "p.json", path)
    again = load(tmp_path / "p.json")
    assert again.name == name
    assert torch.equal(again.world_to_camera, path.world_to_camera)
    assert torch.equal(again.intrinsics, path.intrinsics)


@pytest.mark.parametrize("frames", [1, 5, 97])
def test_full_paths_are_resampled(tmp_path: Path, frames: int) -> None:
    path = named_camera_path("mix2", frames=49, scene_depth_m=2.0, camera=CAMERA)
    save_camera_path(tmp_path / "p.json", path)
    expected = named_camera_path("mix2", frames=frames, scene_depth_m=2.0, camera=CAMERA)
    again = load(tmp_path / "p.json", frames=frames)
    torch.testing.assert_close(again.world_to_camera, expected.world_to_camera, rtol=0, atol=1e-3)


def test_a_path_of_one_frame_becomes_a_still_one(tmp_path: Path) -> None:
    path = named_camera_path("orbit", frames=1, scene_depth_m=2.0, camera=CAMERA)
    save_camera_path(tmp_path / "p.json", path)
    assert torch.equal(load(tmp_path / "p.json").world_to_camera, torch.eye(4).expand(13, 4, 4))


def test_the_example_starts_and_ends_at_the_source_view() -> None:
    path = load(EXAMPLE)
    assert path.name == "camera_path"
    torch.testing.assert_close(path.world_to_camera[[0, -1]], torch.eye(4).expand(2, 4, 4), rtol=0, atol=1e-6)
    assert float(rigid_inverse(path.world_to_camera)[:, 0, 3].max()) > 0.3


def test_units_scene_scale_with_depth_and_metres_do_not(tmp_path: Path) -> None:
    keyframes = [{"position": [0, 0, 0]}, {"position": [1, 0, 0]}]
    for units, expected in (("scene", 5.0), ("metres", 1.0)):
        path = write(tmp_path, {"units": units, "keyframes": keyframes})
        moved = load(path, scene_depth_m=5.0).world_to_camera[-1, 0, 3]
        assert float(moved) == pytest.approx(-expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "must hold an object, got a list"),
        ({}, "no list 'keyframes'"),
        ({"keyframes": []}, "no list 'keyframes'"),
        (
            {"units": "feet", "keyframes": [{"position": [0, 0, 0]}]},
            "must be 'scene' or 'metres', got 'feet'",
        ),
        ({"keyframes": [{"position": [0, 0, 0]}, {"position": [0, 0]}]}, "keyframe 2: 'position'"),
        ({"keyframes": [3]}, "keyframe 1 must be a mapping"),
        ({"keyframes": [{"position": [0, 0, 0], "time": 0}, {"position": [0, 0, 1]}]}, "1 of 2 keyframes"),
        ({"format": "more4d-camera-path", "version": 2}, "version 2"),
        ({"format": "more4d-camera-path", "version": 1, "frames": []}, "damaged"),
        ({"format": "more4d-camera-path", "version": 1}, "damaged"),
    ],
)
def test_what_is_wrong_with_a_path_file_is_said_in_one_line(
    tmp_path: Path, content: Any, message: str
) -> None:
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("change", ["stretch", "mirror", "row", "focal"])
def test_full_paths_must_be_rigid(tmp_path: Path, change: str) -> None:
    pose, numbers = torch.eye(4), [1.0, 1.0, 0.5, 0.5]
    if change == "focal":
        numbers[0] = -1.0
    else:
        row, value = {"stretch": (0, 2.0), "mirror": (0, -1.0), "row": (3, 2.0)}[change]
        pose[row, row] = value
    frame = {"world_to_camera": pose.tolist(), "intrinsics": numbers}
    path = write(tmp_path, {"format": "more4d-camera-path", "version": 1, "frames": [frame]})
    with pytest.raises(InputError, match=r"rotation and a translation|damaged"):
        load(path)


def test_a_missing_path_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        load(tmp_path / "none.json")


def test_intrinsics_of_a_full_path_may_be_pixels_or_matrices(tmp_path: Path) -> None:
    pose = torch.eye(4).tolist()
    expected = torch.tensor([[500 / 640, 500 / 480, 0.5, 0.5]]).expand(13, 4)
    matrix = [[500, 0, 320], [0, 500, 240], [0, 0, 1]]
    for numbers, size in (
        ([500, 500, 320, 240], {}),
        (matrix, {}),
        ([250, 250, 160, 120], {"width": 320, "height": 240}),
    ):
        frames = [{"world_to_camera": pose, "intrinsics": numbers}]
        content = {"format": "more4d-camera-path", "version": 1, "frames": frames, **size}
        torch.testing.assert_close(load(write(tmp_path, content)).intrinsics, expected)


def test_a_path_of_another_world_is_moved_to_the_photo(tmp_path: Path) -> None:
    turn = {"rotation": [0.7071, 0, 0.7071, 0]}
    keyframes = [{"position": [5, 1, 0], **turn}, {"position": [5, 1, -1], **turn}]
    content = {"units": "metres", "start": "photo", "keyframes": keyframes}
    path = load(write(tmp_path, content))
    torch.testing.assert_close(path.world_to_camera[0], torch.eye(4), rtol=0, atol=1e-6)
    assert distance_from_photo(path) == (pytest.approx(0, abs=1e-6), pytest.approx(0, abs=0.1))
    # After a quarter turn to the right, the world's -z is the camera's right.
    moved = rigid_inverse(path.world_to_camera)[-1, :3, 3]
    torch.testing.assert_close(moved, torch.tensor([1.0, 0, 0]), rtol=0, atol=1e-3)
    metres, degrees = distance_from_photo(load(write(tmp_path, {**content, "start": "given"})))
    assert metres == pytest.approx(26**0.5, abs=1e-4) and degrees == pytest.approx(90, abs=0.1)


def test_a_quaternion_with_w_last_is_recognised_and_read_when_said(tmp_path: Path) -> None:
    half, turned = [0, 0, 0, 1], [0, 0.3, 0, 0.954]
    content = {"keyframes": [{"position": [0, 0, 0], "rotation": each} for each in (half, turned)]}
    with pytest.raises(InputError, match=r"keyframe 1 has the quaternion .*\"quaternion\": \"xyzw\""):
        load(write(tmp_path, content))
    path = load(write(tmp_path, {**content, "quaternion": "xyzw"}))
    torch.testing.assert_close(path.world_to_camera[0], torch.eye(4))
    content = {"keyframes": [{"position": [0, 0, 0], "rotation": [0.954, 0, 0.3, 0]}]}
    same = load(write(tmp_path, content))
    torch.testing.assert_close(path.world_to_camera[-1], same.world_to_camera[-1], rtol=0, atol=1e-5)
    upside_down = {"quaternion": "wxyz", "keyframes": [{"position": [0, 0, 0], "rotation": half}]}
    assert distance_from_photo(load(write(tmp_path, upside_down)))[1] == pytest.approx(180)
    with pytest.raises(InputError, match="wxyz or xyzw, got 'zyxw'"):
        load(write(tmp_path, {**content, "quaternion": "zyxw"}))


@pytest.mark.parametrize("kind", ["keyframes", "frames"])
def test_a_path_of_very_many_poses_is_refused_before_they_are_read(tmp_path: Path, kind: str) -> None:
    pose = {"position": [0, 0, 0]} if kind == "keyframes" else {"world_to_camera": torch.eye(4).tolist()}
    content = {
        kind: [pose] * 300_000,
        "format": "more4d-camera-path" if kind == "frames" else "",
        "version": 1,
    }
    (tmp_path / "p.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"has 300000 {kind}; at most 10000"):
        load_camera_path(tmp_path / "p.json", frames=2, camera=Camera(fx=1.0, fy=1.0), scene_depth_m=1.0)
