"""Laws of camera paths through keyframes."""

import math
from typing import Any

import pytest
import torch

from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.geometry.keyframes import Keyframe, keyframe_path, parse_keyframe
from more4d.geometry.poses import quaternion_to_matrix, rigid_inverse

CAMERA = Camera(fx=0.8, fy=1.1)


def parse(*listed: dict[str, Any]) -> list[Keyframe]:
    return [parse_keyframe(values, number=number, camera=CAMERA) for number, values in enumerate(listed, 1)]


ROTATED = parse(
    {"time": 0, "position": [0, 0, 0]},
    {"time": 1, "position": [1, 0, 0], "rotation": [0.9, 0.1, -0.4, 0.2]},
    {"time": 3, "position": [1, -2, 1], "rotation": [0.2, 0.4, 0.4, 0.7], "focal_factor": 2},
)
AIMED = parse(
    {"time": 0, "position": [0, 0, 0], "look_at": [0, 0, 2]},
    {"time": 1, "position": [1, 0, 0], "look_at": [0, 1, 2]},
    {"time": 3, "position": [1, -2, 1], "look_at": [0, 0, 2], "fov_x_deg": 50},
)


@pytest.mark.parametrize("keyframes", [ROTATED, AIMED])
def test_paths_pass_through_their_keyframes(keyframes: list[Keyframe]) -> None:
    path = keyframe_path("mine", keyframes, frames=31, camera=CAMERA, metres_per_unit=2.5)
    poses = rigid_inverse(path.world_to_camera)
    for key in keyframes:
        pose = poses[round(10 * key.time)]
        torch.testing.assert_close(pose[:3, 3], 2.5 * key.position.float(), rtol=0, atol=1e-5)
        torch.testing.assert_close(pose[:3, :3], key.rotation.float(), rtol=0, atol=1e-5)
        fx = float(path.intrinsics[round(10 * key.time), 0])
        assert fx == pytest.approx(CAMERA.fx * key.focal_factor, rel=1e-5)


@pytest.mark.parametrize("keyframes", [ROTATED, AIMED])
def test_paths_are_rigid_and_smooth(keyframes: list[Keyframe]) -> None:
    poses = keyframe_path("mine", keyframes, frames=1000, camera=CAMERA).world_to_camera.double()
    rotation = poses[:, :3, :3]
    identity = torch.eye(3, dtype=torch.float64).expand_as(rotation)
    torch.testing.assert_close(rotation @ rotation.mT, identity, rtol=0, atol=1e-5)
    speed = poses.diff(dim=0)
    assert float(speed.diff(dim=0).abs().max()) < 0.05 * float(speed.abs().max())


def test_aimed_paths_keep_their_target_in_the_middle() -> None:
    keyframes = parse(
        {"position": [0, 0, 0], "look_at": [0, 0, 2]}, {"position": [2, 0, 2], "look_at": [0, 0, 2]}
    )
    path = keyframe_path("mine", keyframes, frames=9, camera=CAMERA)
    for frame in range(9):
        seen = path.to_camera(frame, torch.tensor([0.0, 0.0, 2.0]))
        torch.testing.assert_close(seen[:2], torch.zeros(2), rtol=0, atol=1e-5)
        assert float(seen[2]) > 0


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_any_number_of_frames_starts_at_the_first_keyframe(frames: int) -> None:
    path = keyframe_path("mine", AIMED, frames=frames, camera=CAMERA)
    assert path.frames == frames
    torch.testing.assert_close(path.world_to_camera[0], torch.eye(4))


def test_one_keyframe_stands_still() -> None:
    path = keyframe_path("mine", parse({"position": [1, 2, 3], "focal_factor": 2}), frames=4, camera=CAMERA)
    assert torch.equal(path.world_to_camera, path.world_to_camera[:1].expand(4, 4, 4))
    assert float(path.intrinsics[3, 1]) == pytest.approx(2.2)


def test_a_field_of_view_is_reached() -> None:
    path = keyframe_path("mine", parse({"position": [0, 0, 0], "fov_x_deg": 70}), frames=1, camera=CAMERA)
    assert path.camera(0).fov_x_deg == pytest.approx(70, abs=1e-4)


def test_a_matrix_and_its_quaternion_mean_the_same() -> None:
    quaternion = [0.5, 0.5, -0.5, 0.5]
    matrix = quaternion_to_matrix(torch.tensor(quaternion, dtype=torch.float64))
    one, other = parse(
        {"position": [0, 0, 0], "rotation": quaternion}, {"position": [0, 0, 0], "rotation": matrix.tolist()}
    )
    torch.testing.assert_close(one.rotation, other.rotation)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "keyframe 1 lacks 'position'"),
        ({"position": [0, 0]}, r"keyframe 1: 'position' must be 3 numbers, got \[0, 0\]"),
        ({"position": [0, 0, math.nan]}, "'position' must be 3 numbers"),
        ({"position": "here"}, "'position' must be 3 numbers, got 'here'"),
        ({"position": [0, 0, 0], "lookat": [0, 0, 1]}, "unknown key 'lookat'; did you mean 'look_at'"),
        ({"position": [0, 0, 0], "look_at": [0, 0, 0]}, "looks at its own position"),
        ({"position": [0, 0, 0], "look_at": [0, 0, 1], "rotation": [1, 0, 0, 0]}, "both 'look_at' and"),
        ({"position": [0, 0, 0], "rotation": [0, 0, 0, 0]}, "length 0"),
        ({"position": [0, 0, 0], "rotation": [1, 0, 0]}, "must be 4 numbers"),
        ({"position": [0, 0, 0], "rotation": [[1, 0, 0], [0, 1, 0], [0, 0, -1]]}, "not a rotation matrix"),
        ({"position": [0, 0, 0], "rotation": [[2, 0, 0], [0, 1, 0], [0, 0, 1]]}, "not a rotation matrix"),
        ({"position": [0, 0, 0], "focal_factor": 0}, "focal_factor' must lie between"),
        ({"position": [0, 0, 0], "fov_x_deg": 180}, "between 1 and 175 degrees, got 180"),
        ({"position": [0, 0, 0], "time": "soon"}, "'time' must be a number, got 'soon'"),
        ({"position": [0, 0, 0], "focal_factor": 1, "fov_x_deg": 60}, "both 'focal_factor' and"),
    ],
)
def test_what_is_wrong_with_a_keyframe_is_said(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(values)


def test_a_path_needs_keyframes_in_order() -> None:
    with pytest.raises(InputError, match="no keyframes"):
        keyframe_path("mine", [], frames=3, camera=CAMERA)
    backwards = parse({"time": 1, "position": [0, 0, 0]}, {"time": 1, "position": [1, 0, 0]})
    with pytest.raises(InputError, match="keyframe 2 of camera path 'mine' has time 1"):
        keyframe_path("mine", backwards, frames=3, camera=CAMERA)


def test_passing_through_the_target_is_refused() -> None:
    through = parse(
        {"position": [0, 0, 0], "look_at": [0, 0, 1]}, {"position": [0, 0, 2], "look_at": [0, 0, 1]}
    )
    with pytest.raises(InputError, match="passes through"):
        keyframe_path("mine", through, frames=3, camera=CAMERA)
