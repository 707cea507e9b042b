"""What point tracks promise and refuse."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.track_windows import crop_tracks, mirror_tracks
from more4d.geometry.tracks import PointTracks, normalise_motion

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


def on_rays(height: int, width: int) -> PointTracks:
    """Tracks whose frame 0 lies on the rays of its pixels, before a camera that is off the middle."""
    made = fields()
    camera = Camera(fx=0.7, fy=1.1, cx=0.4, cy=0.6)
    depth = 1 + torch.rand(height, width, generator=torch.Generator().manual_seed(1))
    start = camera.unproject_depth(depth)
    steps = torch.randn(3, height, width, 3, generator=torch.Generator().manual_seed(2)) * 0.05
    return PointTracks(
        **{
            **made,
            "positions": start + steps * torch.tensor([0.0, 1.0, 2.0]).view(3, 1, 1, 1),
            "colours": torch.rand(height, width, 3),
            "visibility": torch.rand(3, height, width) > 0.3,
            "camera": camera,
        }
    )


def test_a_mirror_shown_to_a_mirror_shows_the_scene() -> None:
    tracks = on_rays(4, 6)
    twice = mirror_tracks(mirror_tracks(tracks))
    assert torch.equal(twice.positions, tracks.positions)
    assert torch.equal(twice.visibility, tracks.visibility)
    assert twice.camera.cx == pytest.approx(tracks.camera.cx)


def test_a_mirrored_scene_lies_on_the_rays_of_its_camera() -> None:
    mirrored = mirror_tracks(on_rays(4, 6))
    torch.testing.assert_close(mirrored.camera.unproject_depth(mirrored.depth_m), mirrored.positions[0])


def test_a_window_at_its_own_size_keeps_every_point_on_its_ray() -> None:
    tracks = on_rays(8, 12)
    rows, columns = slice(2, 8), slice(3, 11)
    cut = crop_tracks(tracks, rows, columns, height=6, width=8)
    assert torch.equal(cut.positions, tracks.positions[:, rows, columns])
    assert torch.equal(cut.visibility, tracks.visibility[:, rows, columns])
    torch.testing.assert_close(cut.camera.unproject_depth(cut.depth_m), cut.positions[0])
    whole = normalise_motion(tracks.positions, tracks.camera)[:, rows, columns]
    larger = torch.tensor([12 / 8, 8 / 6, 1.0])  # motion is told in widths and heights of the window
    torch.testing.assert_close(normalise_motion(cut.positions, cut.camera), whole * larger)


def test_paths_of_a_resized_window_are_those_of_its_points() -> None:
    tracks = on_rays(8, 12)
    cut = crop_tracks(tracks, slice(0, 8), slice(0, 12), height=4, width=6)
    assert torch.equal(cut.positions, tracks.positions[:, 1::2, 1::2])


@pytest.mark.parametrize(("rows", "columns"), [(slice(3, 50), slice(1, 40)), (slice(0, 41), slice(7, 60))])
def test_the_photo_of_a_window_lies_on_its_points(rows: slice, columns: slice) -> None:
    """Whatever the window's shape, colours and points are of the same places."""
    height, width = 60, 64
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    places = torch.stack([u / width, v / height, torch.zeros_like(u)], -1)
    tracks = replace(on_rays(height, width), colours=places)
    cut = crop_tracks(tracks, rows, columns, height=32, width=48)
    spans = (rows.stop - rows.start, columns.stop - columns.start)
    j, i = torch.meshgrid((torch.arange(32) + 0.5) / 32, (torch.arange(48) + 0.5) / 48, indexing="ij")
    expected = torch.stack([(columns.start + i * spans[1]) / width, (rows.start + j * spans[0]) / height], -1)
    inner = (slice(3, -3), slice(3, -3))  # at the border the filter sees less
    torch.testing.assert_close(cut.colours[inner][..., :2], expected[inner], atol=2e-3, rtol=0)
