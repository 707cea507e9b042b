"""Formats that say motions, not matrices: the three systems of angles, and NeoVerse's operations."""

import json
from pathlib import Path

import numpy as np
import pytest

from more4d.cameras.registry import read_camera_file

# (three lines, system) -> where the camera stands and looks in the end: signs of (right, down, forward)
LINES = {
    ("0 20\n0 0\n0 0", "trajectorycrafter"): ((0, -1, 1), (0, 1, 0)),
    ("0 0\n0 20\n0 0", "trajectorycrafter"): ((1, 0, 1), (-1, 0, 0)),
    ("0 0\n0 0\n0 0.3", "trajectorycrafter"): ((0, 0, 1), (0, 0, 0)),
    ("0 20\n0 0\n0 0", "viewcrafter"): ((1, 0, 1), (-1, 0, 0)),
    ("0 0\n0 20\n0 0", "viewcrafter"): ((0, 1, 1), (0, -1, 0)),
    ("0 0\n0 0\n0 0.3", "viewcrafter"): ((0, 0, -1), (0, 0, 0)),
    ("0 20\n0 0\n1 1", "inspatio"): ((0, -1, 1), (0, 1, 0)),
    ("0 0\n0 20\n1 1", "inspatio"): ((-1, 0, 1), (1, 0, 0)),
    ("0 0\n0 0\n0 0.3", "inspatio"): ((0, 0, 1), (0, 0, 0)),
}


@pytest.mark.parametrize(("case", "end"), LINES.items())
def test_each_system_means_its_own(tmp_path: Path, case: tuple[str, str], end: tuple) -> None:
    text, system = case
    file = tmp_path / "loop.txt"
    file.write_text(text)
    path = read_camera_file(file, format=system)
    relative = np.linalg.inv(path.camera_to_world[0]) @ path.camera_to_world[-1]
    goes, looks = end
    for axis in range(3):
        assert np.sign(np.round(relative[axis, 3], 6)) == goes[axis]
    assert [np.sign(np.round(value, 6)) for value in relative[:2, 2]] == list(looks[:2])
    # where there is an angle, the camera keeps looking at the pivot, at the scene's depth
    if any(looks):
        np.testing.assert_allclose((relative @ [0, 0, 1, 1])[:3], (0, 0, 1), atol=1e-9)


def test_the_same_text_is_three_paths(shared: Path) -> None:
    file = shared / "data" / "camera-files-a" / "viewcrafter_loop1.txt"
    ends = [
        read_camera_file(file, format=system).camera_to_world
        for system in ("trajectorycrafter", "viewcrafter")
    ]
    assert np.abs(ends[0] - ends[1]).max() > 0.1
    # ViewCrafter: first line to the right (negative: left), second down (negative: up)
    middle = ends[1][len(ends[1]) // 2, :3, 3]
    assert middle[0] < -0.1 and middle[1] < -0.05


def test_the_path_goes_through_its_values(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("0 10 20 5 0\n0 0 0 0 0\n1 1 1 1 1\n")
    poses = read_camera_file(file, format="inspatio").camera_to_world
    at = np.linspace(0, len(poses) - 1, 5).round().astype(int)
    up = np.degrees(np.arcsin(-poses[at, 1, 3]))
    np.testing.assert_allclose(up, (0, 10, 20, 5, 0), atol=1e-9)


OPERATIONS = {
    "pan_left": ((0, 0, 0), (-1, 0)),
    "pan_right": ((0, 0, 0), (1, 0)),
    "tilt_up": ((0, 0, 0), (0, -1)),
    "tilt_down": ((0, 0, 0), (0, 1)),
    "move_left": ((-1, 0, 0), (0, 0)),
    "move_right": ((1, 0, 0), (0, 0)),
    "push_in": ((0, 0, 1), (0, 0)),
    "pull_out": ((0, 0, -1), (0, 0)),
    "boom_up": ((0, -1, 0), (0, 0)),
    "boom_down": ((0, 1, 0), (0, 0)),
    "orbit_left": ((-1, 0, 1), (1, 0)),
    "orbit_right": ((1, 0, 1), (-1, 0)),
    "static": ((0, 0, 0), (0, 0)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_go_where_their_names_say(tmp_path: Path, name: str) -> None:
    file = tmp_path / "trajectory.json"
    file.write_text(json.dumps({"keyframes": [{"0": [{"static": {}}]}, {"80": [{name: {}}]}]}))
    pose = read_camera_file(file).camera_to_world[-1]
    goes, looks = OPERATIONS[name]
    assert [np.sign(np.round(value, 6)) for value in pose[:3, 3]] == list(goes)
    assert [np.sign(np.round(value, 6)) for value in pose[:2, 2]] == list(looks)


def test_operations_are_multiplied_and_interpolated(tmp_path: Path) -> None:
    file = tmp_path / "trajectory.json"
    keys = [
        {"0": [{"static": {}}]},
        {"40": [{"push_in": {"distance": 0.4}}]},
        {"80": [{"pan_right": {"angle": 90}}, {"push_in": {"distance": 0.2}}]},
    ]
    file.write_text(json.dumps({"num_frames": 81, "keyframes": keys}))
    poses = read_camera_file(file).camera_to_world
    np.testing.assert_allclose(poses[20, :3, 3], (0, 0, 0.2), atol=1e-9)
    # the second push goes where the camera then looks, to the right
    np.testing.assert_allclose(poses[80, :3, 3], (0.2, 0, 0.4), atol=1e-9)
    np.testing.assert_allclose(poses[60, :3, 2], (np.sqrt(0.5), 0, np.sqrt(0.5)), atol=1e-9)


def test_what_is_not_said_is_as_in_the_code_and_noted(tmp_path: Path) -> None:
    file = tmp_path / "trajectory.json"
    file.write_text(json.dumps({"keyframes": [{"0": [{"static": {}}]}, {"80": [{"orbit_right": {}}]}]}))
    path = read_camera_file(file)
    angle = np.deg2rad(30)
    np.testing.assert_allclose(
        path.camera_to_world[-1, :3, 3], (0.5 * np.sin(angle), 0, 0.5 * (1 - np.cos(angle)))
    )
    assert "30 degrees and radius 0.5" in path.notes[0]
