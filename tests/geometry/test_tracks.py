"""What point tracks promise and refuse."""

import math
from typing import Any

import pytest
import torch

from more4d.geometry.camera import Camera
from more4d.geometry.camera_path import CameraPath
from more4d.geometry.tracks import PointTracks

CAMERA = Camera(fx=0.5, fy=1.0)


def fields() -> dict[str, Any]:
    positions = torch.randn(3, 4, 6, 3, generator=torch.Generator().manual_seed(0))
    positions[..., 2] = positions[..., 2].abs() + 1
    return {
        "positions": positions,
        "colours": torch.rand(4, 6, 3),
        "visibility": torch.ones(3, 4, 6, dtype=torch.bool),
        "camera": CAMERA,
    }


def test_sizes_depth_and_footprint_follow_from_the_positions() -> None:
    tracks = PointTracks(**fields())
    assert (tracks.frames, tracks.height, tracks.width) == (3, 4, 6)
    assert torch.equal(tracks.depth_m, tracks.positions[0, ..., 2])
    torch.testing.assert_close(tracks.footprint_m, tracks.depth_m / 3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_positions_must_be_finite(bad: float) -> None:
    broken = fields()
    broken["positions"][1, 2, 3, 0] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        PointTracks(**broken)


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_colours_must_lie_between_0_and_1(bad: float) -> None:
    broken = fields()
    broken["colours"][0, 0, 0] = bad
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        PointTracks(**broken)


@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_points_start_in_front_of_the_camera(bad: float) -> None:
    broken = fields()
    broken["positions"][0, 0, 0, 2] = bad
    with pytest.raises(ValueError, match="in front"):
        PointTracks(**broken)


def test_points_may_pass_behind_the_camera_later() -> None:
    later = fields()
    later["positions"][2, 0, 0, 2] = -1
    assert PointTracks(**later).frames == 3


def test_the_frame_rate_must_be_positive() -> None:
    with pytest.raises(ValueError, match="fps"):
        PointTracks(**fields(), fps=0.0)


def test_there_must_be_points() -> None:
    empty = fields()
    empty["positions"], empty["visibility"] = empty["positions"][:0], empty["visibility"][:0]
    with pytest.raises(ValueError, match="positions must be"):
        PointTracks(**empty)


def test_camera_paths_refuse_broken_poses() -> None:
    poses, numbers = torch.eye(4).repeat(2, 1, 1), torch.ones(2, 4)
    poses[1, 0, 3] = math.nan
    with pytest.raises(ValueError, match="'mine' holds NaN"):
        CameraPath(name="mine", world_to_camera=poses, intrinsics=numbers)
    with pytest.raises(ValueError, match="frames x 4"):
        CameraPath(name="mine", world_to_camera=poses[:0], intrinsics=numbers[:0])


def test_a_camera_path_moves_points_into_its_frames() -> None:
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[1, :3, 3] = torch.tensor([0.0, 0.0, -1.0])
    path = CameraPath(name="in", world_to_camera=poses, intrinsics=torch.tensor([[1.0, 2.0, 0.5, 0.4]] * 2))
    points = torch.randn(5, 3)
    torch.testing.assert_close(path.to_camera(0, points), points)
    torch.testing.assert_close(path.to_camera(1, points), points - torch.tensor([0.0, 0.0, 1.0]))
    assert path.camera(1).cy == pytest.approx(0.4)
