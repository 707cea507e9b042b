"""What comes with a photo or in its place: depth, fields of view, camera files, own tracks."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.cli.test_bad_input import SAY, no_output, refuses


def field_case(shared, name):
    return shared / "data/field-cases" / name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--depth", "d.npy", "--depth-unit", "miles"), ("miles", "1/5000")),
        (("--depth", "d.npy", "--depth-kind", "disparity"), ("disparity", "inverse")),
        (("--depth", "d.npy", "--depth-kind", "inverse", "--depth-unit", "mm"), ("has no unit",)),
        (("--depth-unit", "mm"), ("--depth FILE",)),
        (("--fov", "200"), ("200", "169")),
        (("--fov", "60", "--intrinsics", "1,1,0.5,0.5"), ("leave one of the two out",)),
    ],
)
def test_wrong_words_about_known_inputs_leave_with_two(command, photo, arguments, words):
    refuses(command(photo, "--prompt", "the ball rolls", *arguments), *words, code=2)


def test_a_unit_and_a_view_are_taken_and_another_unit_is_other_depth(command, photo, tmp_path):
    np.save(tmp_path / "d.npy", np.full((60, 80), 3000, np.uint16))
    result = command(photo, *SAY, "--depth", tmp_path / "d.npy")
    refuses(result, "whole numbers (3000 to 3000)", "--depth-unit")
    known = (photo, *SAY, "--depth", tmp_path / "d.npy", "--fov", "90")
    assert command(*known, "--depth-unit", "mm").code == 0
    assert (np.load(tmp_path / "out/ball/depth.npy") == 3.0).all()
    assert json.loads((tmp_path / "out/ball/camera.json").read_text())["fx"] == pytest.approx(0.5)
    assert command(*known, "--depth-unit", "cm").code == 0
    assert (np.load(tmp_path / "out/ball/depth.npy") == 30.0).all()


def test_a_list_says_what_depth_is(command, photo, tmp_path):
    Image.fromarray(np.full((60, 80), 15000, np.uint16)).save(tmp_path / "d.png")
    columns = "image,prompt,depth,depth_unit,fov,camera,frames"
    (tmp_path / "jobs.csv").write_text(f"{columns}\nball.png,it rolls,d.png,1/5000,60,static,2\n")
    result = command("--list", tmp_path / "jobs.csv")
    assert result.code == 0, result.err
    assert (np.load(tmp_path / "out/ball/depth.npy") == 3.0).all()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("loop1.txt", ("three lines of numbers", "viewcrafter=")),
        ("matrices.json", ("convention=", "c2w-opengl")),
        ("neoverse_keyframes.json", ("unknown key",)),
    ],
)
def test_ambiguous_camera_files_are_refused_with_the_way_out(command, shared, photo, name, words):
    path = field_case(shared, "camera-files-other") / name
    refuses(command(photo, "--prompt", "x moves left", "--camera", path), str(path), *words)


@pytest.mark.parametrize("name", ["PATH.JSON", "bom.json"])
def test_camera_files_of_windows_are_read(command, shared, tmp_path, name):
    tracks = field_case(shared, "camera-path-elsewhere") / "good.npz"
    path = field_case(shared, "camera-files-other") / name
    result = command("--tracks", tracks, "--camera", path)
    assert result.code == 0, result.err
    assert "does not begin" not in result.err and "nothing of the photo" not in result.err


def test_a_path_elsewhere_is_reported_and_a_quaternion_of_another_order_refused(command, shared, tmp_path):
    folder = field_case(shared, "camera-path-elsewhere")
    refuses(command("--tracks", folder / "good.npz", "--camera", folder / "quat_xyzw.json"), '"xyzw"')
    assert no_output(tmp_path / "out")
    result = command("--tracks", folder / "good.npz", "--camera", folder / "notident.json")
    assert result.code == 0
    assert "does not begin at the photo (5 away" in result.err and '"start": "photo"' in result.err
    assert "nothing of the photo" in result.err
    moved = json.loads((folder / "notident.json").read_text()) | {"start": "photo"}
    (tmp_path / "moved.json").write_text(json.dumps(moved))
    result = command("--tracks", folder / "good.npz", "--camera", tmp_path / "moved.json")
    assert (
        result.code == 0 and "does not begin" not in result.err and "nothing of the photo" not in result.err
    )


def test_a_path_in_pixels_films_the_scene(command, shared):
    folder = field_case(shared, "camera-path-pixel-intrinsics")
    result = command("--tracks", folder / "good.npz", "--camera", folder / "full_pix.json")
    assert result.code == 0 and "nothing of the photo" not in result.err


def test_a_photo_with_inverse_depth_is_not_inside_out(command, shared, tmp_path):
    folder = field_case(shared, "depth-is-disparity")
    say = (folder / "goat.png", "--prompt", "x moves left", "--camera", "static", "--frames", "2")
    result = command(*say, "--depth", folder / "metres.npy")
    assert result.code == 0, result.err
    assert np.array_equal(np.load(tmp_path / "out/goat/depth.npy"), np.load(folder / "metres.npy"))
