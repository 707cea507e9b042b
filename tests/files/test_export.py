"""Exports hold the tracks, as other programs read them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from more4d.files.export import (
    EXPORTS,
    FinishedItem,
    export_files,
    export_item,
)
from more4d.files.image import to_uint8
from more4d.files.tracks import load_tracks
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.geometry.tracks import PointTracks
from more4d.runs.exports import KINDS
from more4d.runs.job import EXPORT_FILES
from tests.browser.conftest import long_gaussians


def export_tracks(tracks: PointTracks, folder: Path, kind: str) -> list[Path]:
    return export_item(FinishedItem(tracks=tracks, title=tracks.caption), folder, kind)


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


def test_the_kinds_and_their_files_are_named_alike_everywhere(tracks: PointTracks, tmp_path: Path) -> None:
    assert set(KINDS) == EXPORT_FILES.keys() and set(KINDS) - EXPORTS.keys() == {"cameras"}
    for kind in EXPORTS:
        tops = EXPORT_FILES[kind]
        written = export_tracks(tracks, tmp_path / kind, kind)
        names = [path.relative_to(tmp_path / kind).as_posix() for path in written]
        assert names == export_files(kind, tracks.frames)
        assert sorted(path.name for path in (tmp_path / kind).iterdir()) == sorted(tops)


def test_gaussians_of_every_frame_follow_the_tracks(tracks: PointTracks, tmp_path: Path) -> None:
    paths = export_tracks(tracks, tmp_path, "gaussian-frames")
    for frame, path in enumerate(paths):
        cloud = trimesh.load(path)
        there = cloud.vertices[np.lexsort(cloud.vertices.T)]
        here = tracks.positions[frame].reshape(-1, 3).numpy()
        assert np.allclose(there, here[np.lexsort(here.T)], atol=1e-5)


def test_optimised_gaussians_take_the_place_of_points(tracks: PointTracks, tmp_path: Path) -> None:
    scene = long_gaussians()
    item = FinishedItem(tracks=tracks, gaussians=scene)
    (path,) = export_item(item, tmp_path, "splat")
    at_start = int((scene.at(0).opacities >= 1 / 255).sum())
    assert path.stat().st_size == 32 * at_start and at_start < len(scene)
    (page,) = export_item(item, tmp_path, "html")
    assert json.loads(page.read_text().split('type="application/json">')[1].split("</script>")[0])[
        "style"
    ] == ("splats")


def test_a_background_is_shown_behind_the_tracks_and_thinned_first(tracks: PointTracks) -> None:
    needed = torch.zeros(8, 12, dtype=torch.bool)
    needed[2:6, 4:10] = True
    behind = {
        "colour": torch.rand(8, 12, 3),
        "depth_m": torch.full((8, 12), 9.0),
        "needed": needed,
        "camera": tracks.camera,
    }
    item = FinishedItem(tracks=tracks, background=behind)
    assert len(item.splats()) == 4 * 6 + int(needed.sum())
    assert len(item.splats(1, 2)) == 4 * 6 + int(needed.sum()) // 4
    far = item.splats().still.positions
    assert float(far[:, 2].max()) == 9.0


def test_an_unknown_kind_lists_the_kinds(tracks: PointTracks, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'obj'; known kinds: html, glb, gaussian-glb"):
        export_tracks(tracks, tmp_path, "obj")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", list(EXPORTS))
def test_a_folder_that_cannot_be_made_is_an_input_error(
    tracks: PointTracks, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match="not a folder"):
        export_tracks(tracks, tmp_path / "taken", kind)
