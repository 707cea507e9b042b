"""Exports hold the tracks, as other programs read them."""

import base64
import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from more4d.files.export import check_export_kind, export_tracks
from more4d.files.image import to_uint8
from more4d.files.tracks import load_tracks
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.geometry.tracks import PointTracks


@pytest.fixture
def tracks() -> PointTracks:
    generator = torch.Generator().manual_seed(0)
    positions = torch.randn(3, 4, 6, 3, generator=generator)
    positions[..., 2] = positions[..., 2].abs() + 1
    return PointTracks(
        positions=positions,
        colours=torch.rand(4, 6, 3, generator=generator),
        visibility=torch.rand(3, 4, 6, generator=generator) > 0.5,
        camera=Camera(fx=1.1, fy=1.6, cx=0.4, cy=0.6),
        fps=10.0,
        caption="it moves",
    )


def test_ply_holds_every_frame(tracks: PointTracks, tmp_path: Path) -> None:
    paths = export_tracks(tracks, tmp_path / "out", "ply")
    assert [path.relative_to(tmp_path / "out").as_posix() for path in paths] == [
        "scene.ply",
        "scene_frames/frame_0000.ply",
        "scene_frames/frame_0001.ply",
        "scene_frames/frame_0002.ply",
    ]
    colours = to_uint8(tracks.colours).reshape(-1, 3).numpy()
    for path, frame in zip(paths, [0, 0, 1, 2], strict=True):
        header, _, body = path.read_bytes().partition(b"end_header\n")
        assert header.startswith(b"ply\nformat binary_little_endian 1.0\n")
        assert f"frame {frame} of 3; metres, x right, y down, z forward" in header.decode()
        properties = re.findall(r"^property (\w+) (\w+)$", header.decode(), re.MULTILINE)
        assert [name for _, name in properties] == [*"xyz", "red", "green", "blue", "visible"]
        assert [kind for kind, _ in properties] == ["float"] * 3 + ["uchar"] * 4
        vertex = np.frombuffer(
            body, [(name, "<f4" if kind == "float" else "u1") for kind, name in properties]
        )
        points = np.stack([vertex[axis] for axis in "xyz"], -1)
        assert np.array_equal(points, tracks.positions[frame].reshape(-1, 3).numpy())
        assert np.array_equal(np.stack([vertex[c] for c in ("red", "green", "blue")], -1), colours)
        assert np.array_equal(vertex["visible"], tracks.visibility[frame].reshape(-1).numpy())


def test_other_programs_read_the_ply_as_a_coloured_cloud(tracks: PointTracks, tmp_path: Path) -> None:
    scene, *_ = export_tracks(tracks, tmp_path, "ply")
    cloud = trimesh.load(scene)
    assert np.array_equal(cloud.vertices, tracks.positions[0].reshape(-1, 3).numpy())
    assert np.array_equal(cloud.colors[:, :3], to_uint8(tracks.colours).reshape(-1, 3).numpy())


def test_nothing_that_reads_or_writes_tracks_imports_trimesh_early() -> None:
    code = "import sys, more4d.files.export as _; raise SystemExit('trimesh' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_npz_is_read_back_whole(tracks: PointTracks, tmp_path: Path) -> None:
    (path,) = export_tracks(tracks, tmp_path, "npz")
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["positions"].dtype == np.float32 and arrays["colours"].dtype == np.uint8
    again = load_tracks(path)
    assert torch.equal(again.positions, tracks.positions)
    assert torch.equal(again.visibility, tracks.visibility)
    assert (again.camera, again.fps, again.caption) == (tracks.camera, 10.0, "it moves")


def test_glb_holds_every_frame_in_the_axes_of_gltf(tracks: PointTracks, tmp_path: Path) -> None:
    (path,) = export_tracks(tracks, tmp_path, "glb")
    scene = trimesh.load(path)
    assert sorted(scene.geometry) == ["frame_0000", "frame_0001", "frame_0002"]
    flip = np.array([1, -1, -1], np.float32)
    for frame in range(3):
        cloud = scene.geometry[f"frame_{frame:04d}"]
        assert np.allclose(cloud.vertices * flip, tracks.positions[frame].reshape(-1, 3).numpy())
        assert np.array_equal(cloud.colors[:, :3], to_uint8(tracks.colours).reshape(-1, 3).numpy())


def test_glb_shows_one_frame_at_a_time(tracks: PointTracks, tmp_path: Path) -> None:
    (path,) = export_tracks(tracks, tmp_path, "glb")
    data = path.read_bytes()
    (length,) = struct.unpack("<I", data[12:16])
    tree = json.loads(data[20 : 20 + length])
    blob = base64.b64decode(tree["buffers"][1]["uri"].split(",")[1])
    assert len(blob) == tree["buffers"][1]["byteLength"]

    def numbers(index: int, width: int) -> np.ndarray:
        accessor = tree["accessors"][index]
        view = tree["bufferViews"][accessor["bufferView"]]
        assert view["buffer"] == 1
        start = view.get("byteOffset", 0) + accessor["byteOffset"]
        return np.frombuffer(blob, "<f4", accessor["count"] * width, start).reshape(-1, width)

    (animation,) = tree["animations"]
    for channel in animation["channels"]:
        sampler = animation["samplers"][channel["sampler"]]
        frame = int(tree["nodes"][channel["target"]["node"]]["name"][-4:])
        times, scale = numbers(sampler["input"], 1), numbers(sampler["output"], 3)
        assert sampler["interpolation"] == "STEP" and channel["target"]["path"] == "scale"
        assert np.allclose(times[:, 0], [0, 0.1, 0.2, 0.3])
        shown = (scale == 1).all(-1)
        assert shown.tolist() == [step == frame or (step, frame) == (3, 2) for step in range(4)]


def test_an_unknown_kind_lists_the_kinds(tracks: PointTracks, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'obj'; known kinds: ply, npz, glb"):
        check_export_kind("obj")
    with pytest.raises(InputError, match="known kinds"):
        export_tracks(tracks, tmp_path, "obj")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["ply", "npz", "glb"])
def test_a_folder_that_cannot_be_made_is_an_input_error(
    tracks: PointTracks, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match="not a folder"):
        export_tracks(tracks, tmp_path / "taken", kind)
