"""Damaged and ambiguous camera files are one clear line each, and nothing large is allocated for them."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.pipelines.camera_spec import CameraSpec
from tests.cameras.camera_files import lenses, orbit, unreal, write_colmap_binary, write_colmap_text

EYE = np.eye(4).tolist()
ROW = "0 0.5 0.9 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 0"
MIRROR = np.diag([-1.0, 1, 1, 1]).tolist()
Case = tuple[Callable[[Path], str], str]
CASES: dict[str, Case] = {}


def case(name: str, words: str, file: str, content: Any, modifiers: str = "", *, form: str = "") -> None:
    """A file of text, bytes, JSON or arrays, and words of the message that it gives."""

    def build(folder: Path) -> str:
        path = folder / file
        if isinstance(content, dict) and file.endswith(".npz"):
            np.savez(path, **content)
        elif isinstance(content, np.ndarray):
            np.save(path, content)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return f"{form}{path}{modifiers}"

    CASES[name] = (build, words)


def model(name: str, words: str, change: Callable[[Path], None], *, binary: bool = False) -> None:
    """A whole COLMAP model with something changed."""

    def build(folder: Path) -> str:
        w2c = np.linalg.inv(orbit())
        (write_colmap_binary if binary else write_colmap_text)(folder, w2c, lenses())
        change(folder)
        return str(folder)

    CASES[name] = (build, words)


def edit(file: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))

    return change


def put(file: str, at: int, data: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = bytearray((folder / file).read_bytes())
        content[at : at + len(data)] = data
        (folder / file).write_bytes(content)

    return change


def rows(*changes: tuple[int, int, str]) -> str:
    """Four rows of RealEstate10K with some words replaced."""
    table = [[str(index), *ROW.split()[1:]] for index in range(4)]
    for row, column, word in changes:
        table[row][column] = word
    return "\n".join(" ".join(words) for words in table)


def frames(*matrices: Any, **more: Any) -> dict[str, Any]:
    return {**more, "frames": [{"transform_matrix": matrix} for matrix in matrices]}


def changed(matrix: Any, row: int, column: int, value: float) -> Any:
    copy = np.array(matrix, dtype=float)
    copy[row, column] = value
    return copy.tolist()


# texts
case("empty", "is empty", "a.txt", "")
case("blank", "no rows of numbers", "a.txt", "\n\n \n")
case("words", "no rows of numbers", "a.txt", "hello\nworld\n")
case("utf16", "UTF-8", "a.txt", "1 2 3".encode("utf-16-le"))
case("short row", "line 3 has 18 numbers", "a.txt", f"{ROW}\n1{ROW[1:]}\n{ROW[:-2]}\n")
case("long row", "line 2 has 20 numbers", "a.txt", f"{ROW}\n1{ROW[1:]} 7\n{ROW}\n2{ROW[1:]}")
case("word in a row", "line 2: 'x' is no number", "a.txt", rows((1, 3, "x")))
case("nan in a row", "matrix of row 2 holds NaN", "a.txt", rows((2, 10, "nan")))
case("infinite", "matrix of row 1 holds NaN or infinite", "a.txt", rows((1, 18, "inf")))
case("equal times", "row 2 has the time", "a.txt", rows((2, 0, "1")))
case("times that run back", "times increase", "a.txt", rows((3, 0, "0")))
case("mirrored row", "is mirrored", "a.txt", rows((0, 7, "-1")))
case("scaled rotation", "is no rotation", "a.txt", rows((0, 7, "2")))
case("no focal length", "intrinsics 0,0.9", "a.txt", rows((1, 1, "0")))
case("mixed intrinsics", "must both be in pixels", "a.txt", rows((1, 1, "500")))
case("three lines", "trajectorycrafter=", "a.txt", "0 1 2\n0 1 2\n0 0 0\n")
case("two lines", "has 2 lines of numbers", "a.txt", "0 1\n0 1\n", form="viewcrafter=")
case("great angles", "angles over 720", "a.txt", "0 7000\n0 1\n0 1\n", form="inspatio=")
# transforms.json and camera_path.json
case("no frames", "no frames", "t.json", {"frames": [], "camera_path": []})
case(
    "a frame without matrix",
    "no 'transform_matrix'",
    "t.json",
    {"frames": [{"transform_matrix": EYE}, {}]},
)
case("a matrix of text", "no numbers", "t.json", frames([["a"] * 4] * 4))
case("a ragged matrix", "rows of different lengths", "t.json", frames([[1, 0, 0], [0, 1], [0], []]))
case("3x3 matrices", "3 or 4 rows of 4 numbers", "t.json", frames(np.eye(3).tolist()))
case("a mirror", "matrix of frame 1 is mirrored", "t.json", frames(EYE, MIRROR))
case("a shear", "is no rotation", "t.json", frames(changed(EYE, 0, 1, 0.4)))
case("transposed", "transposed", "t.json", frames(changed(EYE, 3, 0, 2.0)))
case("NaN in JSON", "NaN and Infinity are none", "t.json", '{"frames": [{"transform_matrix": [[NaN]]}]}')
case("1e400", "numbers are at most", "t.json", '{"frames": [{"transform_matrix": [[1e400]]}]}')
case("fisheye", "camera_model 'OPENCV_FISHEYE'", "t.json", frames(EYE, camera_model="OPENCV_FISHEYE"))
case("no size", "add 'w' and 'h'", "t.json", frames(EYE, fl_x=500))
case("a size of 0", "'w' and 'h' are positive", "t.json", frames(EYE, fl_x=500, w=0, h=480))
case("degrees", "whole angle in radians", "t.json", frames(EYE, camera_angle_x=60))
case("text for a number", "'fl_x' must be a number", "t.json", frames(EYE, fl_x="500", w=1, h=1))
case("unit of feet", "'unit' must be metres", "t.json", frames(EYE, unit="feet"))
case("applied scale 0", "'applied_scale' must be above 0", "t.json", frames(EYE, applied_scale=0))
case(
    "some lenses",
    "1 of 2 frames have a focal length",
    "t.json",
    {
        "frames": [
            {"transform_matrix": EYE, "fl_x": 500, "w": 640, "h": 480},
            {"transform_matrix": EYE},
        ]
    },
)
case(
    "a panorama",
    "camera_type 'equirectangular'",
    "c.json",
    {
        "camera_type": "equirectangular",
        "camera_path": [{"camera_to_world": np.eye(4).ravel().tolist()}],
    },
)
case(
    "a view of 200 degrees",
    "vertical 'fov' 200",
    "c.json",
    {
        "camera_path": [{"camera_to_world": np.eye(4).ravel().tolist(), "fov": 200}],
    },
)
case("15 numbers", "3 or 4 rows of 4 numbers", "c.json", {"camera_path": [{"camera_to_world": [1.0] * 15}]})
# JSON of others
case("cut JSON", "is not JSON", "j.json", '{"frames": [')
case("a number", "has no list 'keyframes'", "j.json", {"a": 1})
case("an empty list", "holds no matrices", "j.json", [])
case("11 numbers", "pose 1 has 11 numbers", "j.json", [[1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0], [1.0] * 11])
case("matrices in JSON", "convention=", "j.json", [EYE, EYE])
case("several cameras", "#cam01", "u.json", unreal(orbit()))
case("no such camera", "no camera 'cam77'", "u.json", unreal(orbit()), "#cam77")
case(
    "three brackets",
    "four rows of four numbers",
    "u.json",
    {"frame0": {"cam01": "[1 0 0 0] [0 1 0 0] [0 0 1 0]"}},
)
case("a part of one camera", "holds one camera", "t.json", frames(EYE), "#cam01")
case("unknown operation", "'fly'", "n.json", {"keyframes": [{"0": [{"fly": {}}]}, {"80": [{"static": {}}]}]})
case(
    "key frames out of order",
    "must begin with 0 and increase",
    "n.json",
    {
        "keyframes": [{"0": [{"static": {}}]}, {"40": [{"static": {}}]}, {"20": [{"static": {}}]}],
    },
)
case("an angle of text", "must be a number", "n.json", {"keyframes": [{"0": [{"pan_left": {"angle": "a"}}]}]})
case("2^40 frames", "'num_frames'", "n.json", {"num_frames": 1 << 40, "keyframes": [{"0": [{"static": {}}]}]})
case("a missing file", "cannot read", "n.json", {"trajectory": {"file": "gone.npz"}})
# arrays
case("no array", "holds no matrices", "a.npz", {"points": np.zeros((5, 3))})
case("unnamed matrices", "convention=", "poses.npy", np.tile(np.eye(4), (3, 1, 1)))
case(
    "two arrays", "several arrays of matrices", "a.npz", {"a": np.zeros((2, 4, 4)), "b": np.zeros((2, 4, 4))}
)
case("zeros", "is no rotation", "c2w.npy", np.zeros((2, 3, 4)))
case(
    "3 lenses for 2 poses",
    "2 poses and intrinsics of shape 3 x 4",
    "a.npz",
    {
        "w2c": np.tile(np.eye(4), (2, 1, 1)),
        "intrinsics": np.ones((3, 4)),
    },
)
case("pickle", "Python objects", "a.npz", {"w2c": np.array([{"a": 1}], dtype=object)})
case("cut npz", "truncated", "a.npz", b"PK\x03\x04 nothing")
case("no indices", "no array 'frame_indices'", "a.npz", {"frame_matrices": np.tile(np.eye(4), (2, 1, 1))})
# COLMAP
case("a scene of Blender", "from which no path is read", "a.blend", b"BLENDER")
model("no cameras", "cameras.txt", lambda folder: (folder / "cameras.txt").unlink())
model(
    "2^63 images",
    "says that 9223372036854775808 images",
    put("images.bin", 0, struct.pack("<Q", 1 << 63)),
    binary=True,
)
model("2^60 cameras", "cameras follow", put("cameras.bin", 0, struct.pack("<Q", 1 << 60)), binary=True)
model(
    "many points",
    "more than its",
    put("images.bin", 8 + 64 + 12, struct.pack("<Q", 1 << 50)),
    binary=True,
)
model(
    "cut images",
    "images.bin",
    lambda folder: (folder / "images.bin").write_bytes((folder / "images.bin").read_bytes()[:200]),
    binary=True,
)
model("a fisheye in binary", "has the model 5", put("cameras.bin", 12, struct.pack("<i", 5)), binary=True)
model("NaN in binary", "NaN or infinite", put("images.bin", 12, struct.pack("<d", float("nan"))), binary=True)
model("a fisheye", "'OPENCV_FISHEYE'", edit("cameras.txt", "PINHOLE", "OPENCV_FISHEYE"))
model(
    "a missing parameter",
    "PINHOLE has 4",
    lambda folder: (folder / "cameras.txt").write_text("1 PINHOLE 640 360 500 500 320\n"),
)
model("an unknown camera", "has the camera 99", edit("images.txt", " 1 view 0.png", " 99 view 0.png"))
model("a long quaternion", "quaternion of length", edit("images.txt", "100 ", "100 2"))
model(
    "a skipped line of points", "which may be empty but must be there", edit("images.txt", "1.5 2.5 -1\n", "")
)
model("no images", "has no images", lambda folder: (folder / "images.txt").write_text("# nothing\n\n"))


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str) -> None:
    build, words = CASES[name]
    with pytest.raises(InputError) as caught:
        spec = CameraSpec.parse(build(tmp_path))
        spec.check()
        spec.sample(frames=5, source=Camera(fx=1.0, fy=1.0), scene_depth_m=1.0)
    message = str(caught.value)
    assert words in message and "\n" not in message and len(message) < 1000
    assert str(tmp_path) in message


def test_there_are_sixty_of_them() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize(
    ("file", "content", "pasted"),
    [
        ("loop.txt", "0 5 9\n0 0 0\n0 0 0\n", "viewcrafter={}"),
        ("poses.json", [EYE, EYE], "{}:convention="),
        ("cameras.json", {"frame0": {"cam01": "", "cam02": ""}}, "{}#cam01"),
    ],
)
def test_what_a_message_says_to_write_finds_the_file(
    tmp_path: Path, file: str, content: Any, pasted: str
) -> None:
    path = tmp_path / file
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError) as refused:
        CameraSpec.parse(str(path)).check()
    assert pasted.format(path) in str(refused.value)
