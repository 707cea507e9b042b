"""GLB files hold what stands still once, in linear light, and move as the tracks do where they are played."""

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from more4d.files.gltf import GAUSSIANS, gaussians_glb, morph_targets, points_glb
from more4d.files.hdr import srgb_decode
from more4d.geometry.splats import SplatScene, splat_scene
from tests.browser.conftest import long_gaussians, moving_tracks
from tests.files.foreign import played, validation

FLIP = np.array([1, -1, -1])


@pytest.fixture(scope="module")
def scene() -> SplatScene:
    return splat_scene(moving_tracks(), step=2)


def tree_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON and the buffer of a GLB."""
    (length,) = struct.unpack("<I", data[12:16])
    return json.loads(data[20 : 20 + length]), data[28 + length :]


def numbers(data: bytes, accessor: int) -> np.ndarray:
    tree, blob = tree_of(data)
    entry = tree["accessors"][accessor]
    view = tree["bufferViews"][entry["bufferView"]]
    kind = {5126: "<f4"}[entry["componentType"]]
    width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[entry["type"]]
    found = np.frombuffer(blob, kind, entry["count"] * width, view["byteOffset"])
    return found.reshape(entry["count"], width)


def test_a_library_of_meshes_reads_the_points(scene: SplatScene, tmp_path: Path) -> None:
    path = tmp_path / "a.glb"
    path.write_bytes(points_glb(scene))
    read = trimesh.load(path)
    clouds = {read.graph[name][1]: name for name in read.graph.nodes_geometry}
    assert len(clouds) == 2 and {"still", "moving"} <= set(read.graph.nodes_geometry)
    for name, splats in (("still", scene.still), ("moving", scene.moving)):
        cloud = read.geometry[read.graph[name][1]]
        assert np.allclose(cloud.vertices * FLIP, splats.positions.numpy(), atol=1e-6)
        # linear light, as it is stored; trimesh keeps 8 bits of it
        assert np.abs(cloud.colors[:, :3] / 255 - srgb_decode(splats.colours.double()).numpy()).max() < 0.002


def test_khronos_validator_finds_nothing(scene: SplatScene, tmp_path: Path) -> None:
    points, gaussians = tmp_path / "points.glb", tmp_path / "gaussians.glb"
    points.write_bytes(points_glb(scene))
    gaussians.write_bytes(gaussians_glb(scene))
    assert validation(points) == []
    # It does not know the extension's names of attributes yet.
    assert validation(gaussians, "MESH_PRIMITIVE_INVALID_ATTRIBUTE") == []
    unknown = validation(gaussians)
    assert {code for code, _ in unknown} == {"MESH_PRIMITIVE_INVALID_ATTRIBUTE"}
    assert all(GAUSSIANS in pointer for _, pointer in unknown)


def test_three_plays_the_points_as_the_tracks_move(scene: SplatScene, tmp_path: Path) -> None:
    path = tmp_path / "a.glb"
    path.write_bytes(points_glb(scene))
    frames = (0, 3, 6)
    seen = played(path, *(frame / scene.fps for frame in frames))
    assert seen["duration"] == pytest.approx((scene.frames - 1) / scene.fps)
    for frame, nodes in zip(frames, seen["times"], strict=True):
        found = {node["name"]: np.array(node["points"]) for node in nodes}
        assert np.allclose(found["still"][:, :3] * FLIP, scene.still.positions.numpy(), atol=1e-5)
        away = np.linalg.norm(found["moving"][:, :3] * FLIP - scene.paths[frame].numpy(), axis=1)
        error_px = away / scene.moving.positions[:, 2].numpy() * scene.focal_px
        assert np.quantile(error_px, 0.95) < 0.3
        # three shows linear light: its colours are those of the photo again after its own encoding
        shown = np.where(
            (linear := found["still"][:, 3:]) <= 0.0031308,
            linear * 12.92,
            1.055 * linear ** (1 / 2.4) - 0.055,
        )
        assert np.allclose(shown, scene.still.colours.numpy(), atol=1e-3)


def test_what_stands_still_is_stored_once(scene: SplatScene) -> None:
    size = len(points_glb(scene))
    targets = len(morph_targets(scene)[0])
    # positions 12 bytes, colours 12; each target 12 more of what moves
    assert size < 24 * len(scene) + 12 * targets * len(scene.moving) + 6000
    every_frame = (12 + 4) * len(scene) * scene.frames  # as it was written before
    assert size < 0.3 * every_frame


def test_gaussians_are_stored_as_the_extension_says(tmp_path: Path) -> None:
    scene = long_gaussians().lasting()
    data = gaussians_glb(scene)
    tree, _ = tree_of(data)
    assert tree["extensionsUsed"] == [GAUSSIANS]
    names = [node["name"] for node in tree["nodes"]]
    assert names == ["still", *(f"frame_{frame:04d}" for frame in range(scene.frames))]
    still = tree["meshes"][0]["primitives"][0]
    assert still["mode"] == 0 and still["extensions"][GAUSSIANS]["kernel"] == "ellipse"
    stored = {
        name.removeprefix(f"{GAUSSIANS}:"): numbers(data, at) for name, at in still["attributes"].items()
    }
    assert np.allclose(stored["SCALE"], scene.still.scales_m.numpy())
    assert np.allclose(stored["OPACITY"][:, 0], scene.still.opacities.numpy())
    colours = 0.5 + math.sqrt(1 / (4 * math.pi)) * stored["SH_DEGREE_0_COEF_0"]
    assert np.allclose(colours, scene.still.colours.numpy(), atol=1e-6)
    # A turn about x by 180 degrees maps the axes: (w, x, y, z) becomes (w, x, -y, -z); glTF puts w last.
    w, x, y, z = scene.still.rotations.numpy().T
    assert np.allclose(stored["ROTATION"], np.stack([x, -y, -z, w], 1), atol=1e-6)
    assert np.allclose(stored["POSITION"] * FLIP, scene.still.positions.numpy())


def test_three_shows_gaussians_of_one_frame_at_a_time(tmp_path: Path) -> None:
    scene = long_gaussians().lasting()
    path = tmp_path / "a.glb"
    path.write_bytes(gaussians_glb(scene))
    times = (0.0, 3.4 / scene.fps, (scene.frames - 0.5) / scene.fps)
    for frame, nodes in zip((0, 3, scene.frames - 1), played(path, *times)["times"], strict=True):
        shown = {node["name"]: np.array(node["points"]) for node in nodes if node["scale"] == 1}
        assert sorted(shown) == sorted(["still", f"frame_{frame:04d}"])
        moved = shown[f"frame_{frame:04d}"][:, :3] * FLIP
        assert np.allclose(moved, scene.paths[frame].numpy(), atol=1e-5)


def test_a_scene_in_which_nothing_moves_has_no_animation(scene: SplatScene, tmp_path: Path) -> None:
    still = SplatScene(
        still=scene.still,
        moving=scene.moving.select(scene.moving.opacities < 0),
        paths=scene.paths[:, :0],
        camera=scene.camera,
        size=scene.size,
        fps=scene.fps,
    )
    for write in (points_glb, gaussians_glb):
        path = tmp_path / "a.glb"
        path.write_bytes(write(still))
        tree, _ = tree_of(path.read_bytes())
        assert [node["name"] for node in tree["nodes"]] == ["still"] and "animations" not in tree
        assert validation(path, "MESH_PRIMITIVE_INVALID_ATTRIBUTE") == []
