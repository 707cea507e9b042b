"""Tracks by the motion that was generated: what they compute, and what they refuse."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from more4d.files.tracks import load_tracks, quantise_tracks, save_tracks
from more4d.geometry.camera import Camera
from more4d.geometry.tracks import NEAREST, PointTracks, UpsampledTracks, normalise_motion

CAMERA = Camera(fx=0.9, fy=1.2, cx=0.52, cy=0.47)
SMALL, LARGE, FRAMES = (4, 6), (17, 23), 9


def make_tracks() -> UpsampledTracks:
    generator = torch.Generator().manual_seed(0)
    motion = 0.1 * torch.randn(5, *SMALL, 3, generator=generator)
    motion[0] = 0
    return UpsampledTracks(
        motion=motion,
        source=torch.randint(SMALL[0] * SMALL[1], LARGE, generator=generator),
        start_depth_m=1 + torch.rand(*LARGE, generator=generator),
        seen=torch.rand(FRAMES, *SMALL, generator=generator) > 0.5,
        frames=FRAMES,
        colours=torch.rand(*LARGE, 3, generator=generator),
        camera=CAMERA,
        fps=10.0,
        caption="it rolls",
        scene_depth_m=1.5,
    )


def test_every_pixel_moves_as_its_source_and_starts_at_the_photo() -> None:
    tracks = make_tracks()
    positions = tracks.positions
    assert positions.shape == (FRAMES, *LARGE, 3)
    assert torch.equal(positions[0], CAMERA.unproject_depth(tracks.start_depth_m))
    motion = normalise_motion(positions, CAMERA)[::2]  # frames that were generated
    expected = tracks.motion.flatten(1, 2)[:, tracks.source]
    above = positions[::2, ..., 2] > 1.01 * NEAREST * tracks.depth_m
    assert torch.allclose(motion[above], expected[above], atol=1e-5)
    assert torch.equal(tracks.visibility, tracks.seen.flatten(1)[:, tracks.source])


def with_objects(tracks: UpsampledTracks) -> UpsampledTracks:
    """Three objects and what stays, in stripes; each pixel's source is of the object it lies in."""
    objects = torch.tensor([0, 1, 1, 2, 3, 3]).expand(SMALL)
    rows = (torch.arange(LARGE[0]) * SMALL[0]) // LARGE[0]
    columns = (torch.arange(LARGE[1]) * SMALL[1]) // LARGE[1]
    return replace(tracks, objects=objects, source=rows[:, None] * SMALL[1] + columns)


def test_motion_is_interpolated_within_objects_only() -> None:
    """Against the mean of the object's small pixels within one small pixel, weighted by their overlap."""
    tracks = with_objects(make_tracks())
    motion, labels = tracks.motion[-1], tracks.objects
    found = normalise_motion(tracks.positions, CAMERA)[-1]
    for row, column in [(0, 0), (3, 5), (8, 9), (16, 22), (12, 13), (5, 18)]:
        own = labels.flatten()[tracks.source[row, column]]
        y, x = (row + 0.5) * SMALL[0] / LARGE[0] - 0.5, (column + 0.5) * SMALL[1] / LARGE[1] - 0.5
        y, x = min(max(y, 0), SMALL[0] - 1), min(max(x, 0), SMALL[1] - 1)
        total, weights = torch.zeros(3), 0.0
        for r in range(SMALL[0]):
            for c in range(SMALL[1]):
                weight = max(0, 1 - abs(r - y)) * max(0, 1 - abs(c - x)) * float(labels[r, c] == own)
                total, weights = total + weight * motion[r, c], weights + weight
        expected = torch.zeros(3) if own == 0 else total / weights
        if float(tracks.positions[-1, row, column, 2]) > 1.01 * NEAREST * float(tracks.depth_m[row, column]):
            assert torch.allclose(found[row, column], expected, atol=1e-5)


def test_objects_are_stored(tmp_path: Path) -> None:
    tracks = quantise_tracks(with_objects(make_tracks()))
    save_tracks(tmp_path / "tracks.safetensors", tracks)
    again = load_tracks(tmp_path / "tracks.safetensors")
    assert torch.equal(again.objects, tracks.objects) and torch.equal(again.positions, tracks.positions)


@pytest.mark.parametrize("objects", [False, True])
def test_frames_and_pixels_asked_for_one_by_one_are_those_of_the_whole(objects: bool) -> None:
    tracks = with_objects(make_tracks()) if objects else make_tracks()
    whole = tracks.positions
    for frame in range(FRAMES):
        assert torch.equal(tracks.positions_in(slice(frame, frame + 1))[0], whole[frame])
    some = tracks.at_pixels(slice(1, None, 3), slice(2, None, 4))
    assert isinstance(some, PointTracks)
    assert torch.equal(some.positions, whole[:, 1::3, 2::4])
    assert torch.equal(some.colours, tracks.colours[1::3, 2::4])
    assert torch.equal(some.visibility, tracks.visibility[:, 1::3, 2::4])
    assert (some.fps, some.caption, some.scene_depth_m) == (10.0, "it rolls", 1.5)


def test_no_point_passes_the_camera() -> None:
    tracks = make_tracks()
    motion = tracks.motion.clone()
    motion[1:, ..., 2] = -3
    z = replace(tracks, motion=motion).positions[-1, ..., 2]
    assert torch.allclose(z, NEAREST * tracks.depth_m)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"source": torch.full(LARGE, SMALL[0] * SMALL[1])}, "points outside"),
        ({"start_depth_m": torch.zeros(*LARGE)}, "in front of the camera"),
        ({"start_depth_m": torch.full(LARGE, torch.nan)}, "in front of the camera"),
        ({"motion": torch.full((5, *SMALL, 3), torch.nan)}, "NaN"),
        ({"frames": 3}, "seen must be"),
        ({"fps": 0.0}, "fps must be positive"),
        ({"colours": torch.full((*LARGE, 3), 2.0)}, "colours must lie"),
    ],
)
def test_what_makes_no_tracks_is_refused(changes: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(make_tracks(), **changes)
