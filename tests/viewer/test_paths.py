"""Keys become the path that is filmed, go through a file unchanged, and every change can be undone."""

import numpy as np
import pytest
import torch

from more4d.files.depth_and_cameras import keyframes_to_json, load_camera_path, load_keyframes
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.geometry.poses import look_at, rigid_inverse, yaw_pitch_roll_to_matrix
from more4d.viewer.paths import MOST_KEYS, Key, PathEditor

CAMERA = Camera(fx=1.2, fy=1.6, cx=0.48, cy=0.52)


def key(x: float, roll_deg: float = 0.0, zoom: float = 1.0) -> Key:
    position = torch.tensor([x, -0.1, 0.2 * x], dtype=torch.float64)
    upright = look_at(position, torch.tensor([0.0, 0.0, 3.0], dtype=torch.float64))
    return Key(position=position.numpy(), upright=upright.numpy(), roll_deg=roll_deg, zoom=zoom)


def editor() -> PathEditor:
    made = PathEditor()
    for each in (key(0.3), key(0.6, roll_deg=20, zoom=1.5), key(-0.2)):
        made.add(each)
    return made


def test_the_path_begins_at_the_photo_and_meets_its_keys():
    made = editor()
    path = made.path("swing", frames=13, camera=CAMERA)
    assert torch.equal(path.world_to_camera[0], torch.eye(4))
    assert made.key_frames(13) == [0, 4, 8, 12]
    for frame, each in zip(made.key_frames(13), made.keys, strict=True):
        pose = rigid_inverse(path.world_to_camera[frame].double())
        assert np.allclose(pose[:3, 3], each.position, atol=1e-6)
        assert torch.allclose(pose[:3, :3], each.keyframe.rotation, atol=1e-6)
        assert float(path.intrinsics[frame, 0]) == pytest.approx(each.zoom * CAMERA.fx, rel=1e-6)


def test_a_path_goes_through_its_file_unchanged(tmp_path):
    made = editor()
    file = tmp_path / "swing.json"
    file.write_bytes(keyframes_to_json(made.keyframes))
    known = {"camera": CAMERA, "scene_depth_m": 7.0}
    path, read = made.path("swing", frames=25, camera=CAMERA), load_camera_path(file, frames=25, **known)
    assert read.name == "swing"
    # rotations of files are made orthonormal, which rounds
    assert torch.allclose(read.world_to_camera, path.world_to_camera, atol=1e-6)
    assert torch.equal(read.intrinsics, path.intrinsics)
    again = PathEditor()
    again.load(load_keyframes(file, **known))
    other = again.path("swing", frames=25, camera=CAMERA)
    assert torch.allclose(other.world_to_camera, path.world_to_camera, atol=1e-6)


def test_keyframes_of_other_units_are_read_in_metres(tmp_path):
    file = tmp_path / "path.json"
    file.write_text('{"keyframes": [{"position": [0, 0, 0]}, {"position": [1, 0, 0], "look_at": [0, 0, 1]}]}')
    _, second = load_keyframes(file, camera=CAMERA, scene_depth_m=3.0)
    assert second.position.tolist() == [3.0, 0.0, 0.0]
    assert second.target.tolist() == [0.0, 0.0, 3.0]


def test_roll_turns_the_camera_clockwise():
    rolled = Key(position=np.zeros(3), upright=np.eye(3), roll_deg=30.0).keyframe.rotation
    zero, roll = torch.zeros((), dtype=torch.float64), torch.tensor(np.radians(30.0))
    assert torch.allclose(rolled, yaw_pitch_roll_to_matrix(zero, zero, roll))


def test_every_change_can_be_undone():
    made = editor()
    states = [made.keys]
    changes = (
        lambda: made.swap(1, 2),
        lambda: made.change(2, roll_deg=-5.0, zoom=2.0),
        lambda: made.place(3, key(0.9)),
        lambda: made.delete(1),
        lambda: made.add(key(0.1)),
    )
    for change in changes:
        change()
        assert made.keys is not states[-1]
        assert [each.time for each in made.keys] == sorted(each.time for each in made.keys)
        states.append(made.keys)
    for state in reversed(states[:-1]):
        made.undo()
        assert made.keys is state
    for _ in range(9):  # also when nothing is left
        made.undo()
    assert len(made.keys) == 1


def test_dragging_a_slider_is_one_change():
    made = editor()
    before = made.keys
    for roll in range(1, 40):
        made.change(2, roll_deg=float(roll), zoom=1.5)
    made.change(2, roll_deg=39.0, zoom=1.5)  # nothing new
    made.undo()
    assert made.keys is before


def test_to_drag_the_other_slider_is_another_change():
    made = editor()
    before = made.keys
    made.change(2, roll_deg=20.0, zoom=2.0)
    zoomed = made.keys
    for roll in (21.0, 22.0):
        made.change(2, roll_deg=roll, zoom=2.0)
    made.undo()
    assert made.keys is zoomed
    made.undo()
    assert made.keys is before


def test_the_first_key_stays_and_numbers_are_checked():
    made = editor()
    for refused in (
        lambda: made.delete(0),
        lambda: made.swap(1, 0),
        lambda: made.place(0, key(0.2)),
        lambda: made.change(0, roll_deg=1.0, zoom=1.0),
    ):
        with pytest.raises(InputError, match="that one stays"):
            refused()
    with pytest.raises(InputError, match="there is no key 4; the path has 4"):
        made.swap(3, 4)
    with pytest.raises(InputError, match=f"at most {MOST_KEYS} keys"):
        for _ in range(MOST_KEYS):
            made.add(key(0.1))
    with pytest.raises(InputError, match="at most 64 can be edited"):
        made.load([key(0.1).keyframe] * 65)
