"""The script that exports the camera of Blender, with a stand-in for it; numbers are what Blender gives."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from more4d.cameras.raw_path import invert
from more4d.cameras.registry import read_camera_file

SCRIPT = runpy.run_path(str(Path(__file__).resolve().parents[2] / "examples" / "blender_camera.py"))
# From Blender 4.5: a camera that orbits the origin at 5 units and zooms from 50 to 75 mm; the world point
# (1, 0.5, 0.3) as bpy_extras.object_utils.world_to_camera_view sees it (right, up from the corner, depth).
POINT = (1.0, 0.5, 0.3)
SEEN = {0: (0.75252521, 0.60101002, 5.5), 20: (0.95125639, 0.66251224, 5.12782621)}


class Turned(list):
    """A rotation as `decompose` returns it."""

    def to_matrix(self) -> list[list[float]]:
        return list(self)


def scene(angle_deg: float = 0.0, lens: float = 50.0, **changed: Any) -> SimpleNamespace:
    """A scene whose camera stands at an angle round the origin, at 5 units, looking at it; z is up."""
    angle = np.deg2rad(angle_deg)
    right, up = np.array([np.cos(angle), np.sin(angle), 0]), np.array([0.0, 0, 1])
    place = 5 * np.array([np.sin(angle), -np.cos(angle), 0])
    back = place / 5
    rotation = Turned(np.stack([right, up, back], 1).tolist())
    matrix = SimpleNamespace(decompose=lambda: (place.tolist(), rotation, [2.0, 2.0, 2.0]))
    data = {"type": "PERSP", "lens": lens, "sensor_width": 36.0, "sensor_height": 24.0, "sensor_fit": "AUTO"}
    data |= {"shift_x": 0.0, "shift_y": 0.0} | changed
    render = {"resolution_x": 640, "resolution_y": 480, "resolution_percentage": 100}
    render |= {"pixel_aspect_x": 1.0, "pixel_aspect_y": 1.0, "fps": 24, "fps_base": 1.0}
    return SimpleNamespace(
        frame_set=lambda frame: None,
        camera=SimpleNamespace(
            type="CAMERA", name="Camera", data=SimpleNamespace(**data), matrix_world=matrix
        ),
        render=SimpleNamespace(**render),
        unit_settings=SimpleNamespace(scale_length=0.01),
    )


def test_points_are_seen_where_blender_sees_them(tmp_path: Path) -> None:
    frames = [SCRIPT["frame_entry"](scene(a, 50 + 1.25 * a), 1 + a, False) for a in (0, 20)]
    file = tmp_path / "camera.json"
    file.write_text(json.dumps({"frames": frames}))
    path = read_camera_file(file)
    assert path.intrinsics is not None and path.times is not None
    for frame, expected in enumerate(SEEN.values()):
        pose, (fx, fy, cx, cy) = invert(path.camera_to_world)[frame], path.intrinsics[frame]
        x, y, z = pose[:3, :3] @ POINT + pose[:3, 3]
        assert (fx * x / z + cx, 1 - (fy * y / z + cy), z) == pytest.approx(expected, abs=1e-6)
    assert np.diff(path.times) == pytest.approx(20 / 24)


@pytest.mark.parametrize(
    ("fit", "size", "expected"),
    [
        ("AUTO", (640, 480), 50 * 640 / 36),
        ("AUTO", (480, 640), 50 * 640 / 36),
        ("HORIZONTAL", (480, 640), 50 * 480 / 36),
        ("VERTICAL", (640, 480), 50 * 480 / 24),
    ],
)
def test_the_sensor_spans_the_side_that_it_fits(fit: str, size: tuple[int, int], expected: float) -> None:
    assert SCRIPT["focal_px"](50.0, (36.0, 24.0), fit, size) == pytest.approx(expected)


def test_metres_take_the_unit_scale_and_a_shift_moves_the_middle() -> None:
    entry = SCRIPT["frame_entry"](scene(shift_x=0.1), 1, True)
    assert np.array(entry["transform_matrix"])[:3, 3] == pytest.approx([0, -0.05, 0])
    assert entry["cx"] == pytest.approx(320 - 64)


def test_a_panorama_is_refused() -> None:
    with pytest.raises(SystemExit, match="PANO"):
        SCRIPT["frame_entry"](scene(type="PANO"), 1, False)
