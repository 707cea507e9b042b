"""Every format gives the same path; what is written is read again; real files give what is known of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from more4d.cameras.formats import FORMATS, OURS, describe_formats
from more4d.cameras.raw_path import RawCameraPath, from_opencv, invert, to_opencv
from more4d.cameras.registry import camera_format, read_camera_file, write_camera_file
from more4d.geometry.camera import Camera
from more4d.pipelines.camera_spec import CameraSpec
from tests.cameras.camera_files import (
    FRAMES,
    HEIGHT,
    PIVOT,
    WIDTH,
    lenses,
    orbit,
    raw,
    without_lens,
    write_all,
)

CAMERA = Camera(fx=0.7, fy=0.7 * 4 / 3, cx=0.48, cy=0.53)
DEPTH_M = 4.0


def test_one_path_in_all_formats_is_one_camera_path(tmp_path: Path) -> None:
    texts = write_all(tmp_path)
    assert {name.split()[0] for name in texts} == set(FORMATS) - {
        "trajectorycrafter",
        "viewcrafter",
        "inspatio",
    }
    expected = np.linalg.inv(orbit())
    expected[:, :3, 3] *= DEPTH_M / PIVOT
    for name, text in texts.items():
        path = CameraSpec.parse(text).sample(frames=FRAMES, source=CAMERA, scene_depth_m=DEPTH_M)
        np.testing.assert_allclose(path.world_to_camera.numpy(), expected, rtol=0, atol=1e-5, err_msg=name)
        zoom = 1 if name in without_lens() else lenses()[:, :2] / lenses()[0, :2]
        focal = np.array([CAMERA.fx, CAMERA.fy]) * zoom
        focal = np.broadcast_to(focal, (FRAMES, 2))
        np.testing.assert_allclose(path.intrinsics[:, :2].numpy(), focal, rtol=0, atol=1e-5, err_msg=name)
        assert path.intrinsics[:, 2:].unique(dim=0).tolist() == [pytest.approx([0.48, 0.53])]


@pytest.mark.parametrize("name", [name for name, each in FORMATS.items() if each.writes and name != OURS])
@pytest.mark.parametrize("timed", [False, True])
def test_what_is_written_is_read_again(tmp_path: Path, name: str, timed: bool) -> None:
    times = np.cumsum(np.linspace(0.01, 0.2, FRAMES)).round(6)
    given = replace(raw(), times=times if timed else None)
    target = tmp_path / f"path{FORMATS[name].writes.strip('/')}"
    write_camera_file(target, given, format=name)
    again = read_camera_file(target)
    assert camera_format(target) == name
    np.testing.assert_allclose(again.camera_to_world, given.camera_to_world, rtol=0, atol=1e-12)
    assert again.intrinsics is not None
    np.testing.assert_allclose(again.intrinsics, lenses(), rtol=0, atol=1e-12)
    if timed and name != "colmap":  # which has no times
        assert again.times is not None
        np.testing.assert_allclose(again.times, times, rtol=0, atol=1e-6)
    if name != "re10k":  # which has no size
        assert again.size == (HEIGHT, WIDTH)


@pytest.mark.parametrize("axes", ["opencv", "opengl", "unreal"])
def test_axes_there_and_back(axes: str) -> None:
    np.testing.assert_allclose(to_opencv(from_opencv(orbit(), axes), axes), orbit(), rtol=0, atol=1e-12)
    assert (np.linalg.det(to_opencv(orbit(), axes)[:, :3, :3]) > 0).all()


def test_an_inverse_undoes() -> None:
    np.testing.assert_allclose(invert(orbit()) @ orbit(), np.tile(np.eye(4), (FRAMES, 1, 1)), atol=1e-12)


def test_the_table_describes_every_format() -> None:
    text = describe_formats()
    assert all(name in text for name in FORMATS)


def shared_path(shared: Path, name: str) -> RawCameraPath:
    return read_camera_file(shared / "data" / name)


def test_a_colmap_model_is_the_same_in_both_forms(shared: Path) -> None:
    text, binary = (
        shared_path(shared, f"sceaux-colmap/colmap_example_model_{end}") for end in ("txt", "bin")
    )
    assert text.frames == binary.frames == 11 and text.size == (2128, 2832)
    np.testing.assert_allclose(text.camera_to_world, binary.camera_to_world, atol=1e-4)
    np.testing.assert_allclose(text.intrinsics, binary.intrinsics, atol=1e-6)
    assert text.intrinsics is not None and text.intrinsics[0, 0] == pytest.approx(2971.71 / 2832, rel=1e-5)
    assert text.notes == ("its lens distortion is left out",)


def test_colmap_points_project_to_where_they_were_seen(shared: Path) -> None:
    """The pose of every image puts the model's own points to their observed pixels."""
    folder = shared / "data" / "sceaux-colmap" / "colmap_example_model_txt"
    points = {}
    for line in (folder / "points3D.txt").read_text().splitlines():
        if not line.startswith("#"):
            words = line.split()
            points[int(words[0])] = [float(word) for word in words[1:4]]
    lines = [line for line in (folder / "images.txt").read_text().splitlines() if not line.startswith("#")]
    images = sorted(zip(lines[::2], lines[1::2], strict=True), key=lambda pair: pair[0].split()[9])
    path = shared_path(shared, "sceaux-colmap/colmap_example_model_txt")
    errors = []
    for pose, (_, seen) in zip(invert(path.camera_to_world), images, strict=True):
        values = np.array(seen.split(), dtype=float).reshape(-1, 3)
        values = values[values[:, 2] >= 0]
        at = np.array([points[int(number)] for number in values[:, 2]]) @ pose[:3, :3].T + pose[:3, 3]
        radius2 = (at[:, :2] ** 2 / at[:, 2:] ** 2).sum(1, keepdims=True)
        # SIMPLE_RADIAL, whose distortion films leave out
        pixels = 2971.71 * at[:, :2] / at[:, 2:] * (1 - 0.164224 * radius2) + [1416, 1064]
        errors.append(np.linalg.norm(pixels - values[:, :2], axis=1))
    assert np.median(np.concatenate(errors)) < 0.6


def test_lego_cameras_look_at_the_origin_from_four_units(shared: Path) -> None:
    path = shared_path(shared, "lego-transforms/transforms_train.json")
    centre, forward = path.camera_to_world[:, :3, 3], path.camera_to_world[:, :3, 2]
    np.testing.assert_allclose(np.linalg.norm(centre, axis=1), 4.031, atol=1e-3)
    np.testing.assert_allclose(centre + 4.0311 * forward, 0, atol=2e-3)
    assert path.intrinsics is not None
    assert path.intrinsics[0, 0] == pytest.approx(0.5 / np.tan(0.6911112070083618 / 2))


def test_real_estate_rows_are_world_to_camera(shared: Path) -> None:
    path = shared_path(shared, "re10k-cameractrl-a/pose_files/0bf152ef84195293.txt")
    assert path.frames == 16 and path.times is not None and path.times[0] == pytest.approx(158.692025)
    steps = np.diff(path.camera_to_world[:, :3, 3], axis=0)
    forward = path.camera_to_world[:-1, :3, 2]
    # a walk through a room: read the other way round, the camera would go backwards
    assert ((steps * forward).sum(1) > 0).all()


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("I_1.0x", (0, 0, 1)),
        ("O_1.0x", (0, 0, -1)),
        ("L", (-1, 0, 0)),
        ("R", (1, 0, 0)),
        ("U", (0, -1, 0)),
        ("D", (0, 1, 0)),
    ],
)
def test_motionctrl_goes_where_its_names_say(shared: Path, name: str, direction: tuple[int, ...]) -> None:
    path = shared_path(shared, f"motionctrl-poses/basic/test_camera_{name}.json")
    way = path.camera_to_world[-1, :3, 3] - path.camera_to_world[0, :3, 3]
    np.testing.assert_allclose(way / np.linalg.norm(way), direction, atol=1e-6)


@pytest.mark.parametrize(
    ("camera", "looks", "goes"),
    [
        ("cam01", "right", ""),
        ("cam02", "left", ""),
        ("cam03", "up", ""),
        ("cam04", "down", ""),
        ("cam05", "", "forward"),
        ("cam06", "", "back"),
        ("cam07", "down", "up"),
        ("cam08", "up", "down"),
        ("cam09", "right", "left"),
        ("cam10", "left", "right"),
    ],
)
def test_recammaster_cameras_are_the_ten_moves(shared: Path, camera: str, looks: str, goes: str) -> None:
    file = shared / "data" / "camera-files-a" / "recammaster_camera_extrinsics.json"
    poses = read_camera_file(file, part=camera).camera_to_world
    relative = np.linalg.inv(poses[0]) @ poses[-1]
    signs = {
        "right": (0, 1),
        "left": (0, -1),
        "down": (1, 1),
        "up": (1, -1),
        "forward": (2, 1),
        "back": (2, -1),
    }
    for word, vector in ((looks, relative[:3, 2]), (goes, relative[:3, 3])):
        if word:
            axis, sign = signs[word]
            assert vector[axis] * sign > 0.1
    if not goes:
        np.testing.assert_allclose(relative[:3, 3], 0, atol=1e-6)


def test_lyra_ends_where_its_source_says(shared: Path) -> None:
    path = shared_path(shared, "camera-files-a/lyra2_example_0.npz")
    assert path.frames == 500 and path.size == (720, 1280)
    np.testing.assert_allclose(path.camera_to_world[-1, :3, 3], (1.449, -0.579, -2.130), atol=1e-3)
    assert path.intrinsics is not None and path.intrinsics[0, 0] == pytest.approx(821.64 / 1280, rel=1e-4)
    length = np.linalg.norm(np.diff(path.camera_to_world[:, :3, 3], axis=0), axis=1).sum()
    assert length == pytest.approx(2.886, abs=1e-2)


def test_the_garden_of_gsplat_is_seen_by_its_cameras(shared: Path) -> None:
    file = shared / "data" / "gsplat-garden" / "test_garden.npz"
    path, points = read_camera_file(file), np.load(file)["means3d"]
    assert path.intrinsics is not None
    for pose, (fx, fy, cx, cy) in zip(invert(path.camera_to_world), path.intrinsics, strict=True):
        at = points @ pose[:3, :3].T + pose[:3, 3]
        u, v = fx * at[:, 0] / at[:, 2] + cx, fy * at[:, 1] / at[:, 2] + cy
        inside = (at[:, 2] > 0) & (u > 0) & (u < 1) & (v > 0) & (v < 1)
        assert 0.42 < inside.mean() < 0.55  # 43 to 54 % by its source


def test_neoverse_multiplies_operations_as_its_code_does(shared: Path) -> None:
    """The turn is made at frame 0 already, so by the code the film stands still, 25 degrees to the left."""
    path = shared_path(shared, "camera-files-a/neoverse_front_to_left.json")
    assert path.frames == 81
    np.testing.assert_allclose(path.camera_to_world[0], path.camera_to_world[-1], atol=1e-12)
    np.testing.assert_allclose(
        path.camera_to_world[0, :3, 2], (-np.sin(np.deg2rad(25)), 0, np.cos(np.deg2rad(25)))
    )
