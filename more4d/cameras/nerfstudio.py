"""`transforms.json` (nerfstudio, instant-ngp, NeRF data sets, Blender) and nerfstudio's `camera_path.json`.

Both have camera-to-world matrices of OpenGL cameras (x right, y up, z back). `applied_transform` of a
transforms.json changes its world by a rigid motion, which cancels when the path is adopted; `applied_scale`
is undone. Our own files say in `unit` what lengths are.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from more4d.cameras.formats import FORMATS, METRES, SCENE, UNKNOWN
from more4d.cameras.raw_path import RawCameraPath, from_opencv, read_intrinsics, read_poses, read_times
from more4d.files.atomic import write_bytes
from more4d.foundation.documents import DocumentError, check_shape
from more4d.foundation.errors import InputError, shown

NUMBER = (float, int)
MODELS = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "SIMPLE_RADIAL", "RADIAL")
DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
LENS_KEYS = ("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_angle_x", "camera_angle_y")
WIDTH = 1024
"""Of pictures, where a written file needs a size and none is known."""
_FORMAT, _PATH_FORMAT = FORMATS["transforms"], FORMATS["nerfstudio-path"]


def read_transforms(path: Path, content: dict[str, Any]) -> RawCameraPath:
    """A transforms.json.

    Raises:
        InputError: a frame lacks its matrix, or something in it cannot be used.
    """
    frames, notes = _frames(path, content, "frames", "transform_matrix"), []
    model = content.get("camera_model", "OPENCV")
    if model not in MODELS:
        raise InputError(
            f"{path} has the camera_model {shown(model)}; undistort it: films are of {', '.join(MODELS)}"
        )
    if any(
        abs(_number(path, source, key, 0.0)) > 1e-6 for source in (content, *frames) for key in DISTORTION
    ):
        notes.append("its lens distortion is left out")
    frames, times, order = _ordered(path, frames)
    notes += [order] if order else []
    poses = read_poses(
        [frame["transform_matrix"] for frame in frames], path, axes=_FORMAT.axes, maps=_FORMAT.maps
    )
    scale = _number(path, content, "applied_scale", 1.0)
    if not scale > 0:
        raise InputError(f"{path}: 'applied_scale' must be above 0, got {shown(scale)}")
    poses[:, :3, 3] /= scale
    unit = content.get("unit", UNKNOWN)
    if unit not in (METRES, SCENE, UNKNOWN):
        raise InputError(f"{path}: 'unit' must be {METRES}, {SCENE} or {UNKNOWN}, got {shown(unit)}")
    intrinsics, size = _lenses(path, content, frames)
    return RawCameraPath(
        camera_to_world=poses,
        intrinsics=intrinsics,
        times=times,
        size=size,
        unit=unit,
        source=_FORMAT.name,
        notes=tuple(notes),
    )


def write_transforms(path: Path, raw: RawCameraPath) -> None:
    """The inverse of `read_transforms`; without intrinsics the file has none.

    Raises:
        InputError: the folder cannot be written to.
    """
    matrices = from_opencv(raw.camera_to_world, _FORMAT.axes)
    frames: list[dict[str, Any]] = [
        {"file_path": f"images/frame_{index:05d}.png", "transform_matrix": matrix.tolist()}
        for index, matrix in enumerate(matrices)
    ]
    if raw.times is not None:
        for frame, time in zip(frames, raw.times.tolist(), strict=True):
            frame["time"] = time
    if raw.intrinsics is not None:
        height, width = raw.size or size_of_lens(raw.intrinsics[0])
        for frame, (fx, fy, cx, cy) in zip(frames, raw.intrinsics.tolist(), strict=True):
            lens = {"fl_x": fx * width, "fl_y": fy * height, "cx": cx * width, "cy": cy * height}
            frame.update(lens, w=width, h=height)
    content = {"camera_model": "PINHOLE", "unit": raw.unit, "frames": frames}
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())


def read_camera_path(path: Path, content: dict[str, Any]) -> RawCameraPath:
    """A camera_path.json of nerfstudio's viewer.

    Raises:
        InputError: a frame lacks its matrix, or something in it cannot be used.
    """
    frames = _frames(path, content, "camera_path", "camera_to_world")
    kind = content.get("camera_type", "perspective")
    if kind != "perspective":
        raise InputError(f"{path} has the camera_type {shown(kind)}; export it as perspective")
    matrices = [_square(frame["camera_to_world"]) for frame in frames]
    height, width = (_number(path, content, f"render_{side}", 0.0) for side in ("height", "width"))
    lens = []
    for index, frame in enumerate(frames):
        fov = _number(path, frame, "fov", math.nan)
        aspect = _number(path, frame, "aspect", width / height if height > 0 and width > 0 else 1.0)
        if "fov" in frame and not (1 <= fov < 179 and aspect > 0):
            raise InputError(f"{path}: frame {index} has the vertical 'fov' {fov:g}; it is degrees, 1 to 179")
        # vertical: half a picture's height = fy tan(fov / 2)
        fy = 0.5 / math.tan(math.radians(fov) / 2) if "fov" in frame else math.nan
        lens.append([fy / aspect, fy, 0.5, 0.5])
    known = all("fov" in frame for frame in frames)
    return RawCameraPath(
        camera_to_world=read_poses(matrices, path, axes=_PATH_FORMAT.axes, maps=_PATH_FORMAT.maps),
        intrinsics=np.array(lens) if known else None,
        source=_PATH_FORMAT.name,
        notes=() if known else ("some frames have no 'fov', so there is no zoom",),
    )


def size_of_lens(intrinsics: np.ndarray) -> tuple[int, int]:
    """(height, width) of a picture with square pixels for normalised intrinsics [4]."""
    # fx width = fy height
    return max(1, round(WIDTH * float(intrinsics[0] / intrinsics[1]))), WIDTH


def _frames(path: Path, content: dict[str, Any], key: str, matrix: str) -> list[dict[str, Any]]:
    try:
        check_shape(content, {key: [{matrix: list}]})
    except DocumentError as error:
        raise InputError(f"{path} {error}") from error
    if not content[key]:
        raise InputError(f"{path} has no frames in '{key}'; export a path with at least one")
    return content[key]


def _square(values: list[Any]) -> Any:
    """16 numbers row by row as four rows; rows as they are."""
    return [values[row : row + 4] for row in range(0, 16, 4)] if len(values) == 16 else values


def _ordered(path: Path, frames: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], np.ndarray | None, str]:
    """Frames by time, else by the numbers in their file names; their times; and a note."""
    if all("time" in frame for frame in frames) and len(frames) > 1:
        times = [_number(path, frame, "time", 0.0) for frame in frames]
        if len(set(times)) == len(times):
            order = np.argsort(times, kind="stable").tolist()
            return [frames[index] for index in order], read_times(np.array(times)[order], path), ""
        return frames, None, "several frames have the same 'time', so it is left out"
    names = [frame.get("file_path") for frame in frames]
    if not all(isinstance(name, str) for name in names):
        return frames, None, ""
    order = sorted(range(len(frames)), key=lambda index: natural_key(str(names[index])))
    moved = order != list(range(len(frames)))
    return [frames[index] for index in order], None, "frames are taken in the order of their names" * moved


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sorts r_2 before r_10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d{1,18})", name)]


def _lenses(
    path: Path, content: dict[str, Any], frames: list[dict[str, Any]]
) -> tuple[np.ndarray | None, tuple[int, int] | None]:
    """Normalised intrinsics [frames, 4], and (height, width) of the pictures."""
    rows: list[list[float] | None] = []
    sizes = set()
    for index, frame in enumerate(frames):
        lens = {
            key: _number(path, frame if key in frame else content, key, math.nan)
            for key in LENS_KEYS
            if key in frame or key in content
        }
        rows.append(_lens(f"{path}: frame {index}", lens))
        sizes.add((lens.get("h"), lens.get("w")))
    height, width = next(iter(sizes))
    size = (int(height), int(width)) if len(sizes) == 1 and height and width else None
    known = [row for row in rows if row is not None]
    if not known:
        return None, size
    if len(known) < len(rows):
        raise InputError(f"{path}: {len(known)} of {len(rows)} frames have a focal length; give it to all")
    return read_intrinsics(known, path, frames=len(rows)), size


def _lens(where: str, lens: dict[str, float]) -> list[float] | None:
    width, height = lens.get("w", math.nan), lens.get("h", math.nan)
    if width <= 0 or height <= 0:
        raise InputError(f"{where} has a picture of {width:g} x {height:g} pixels; 'w' and 'h' are positive")
    if "fl_x" in lens or "fl_y" in lens:
        if math.isnan(width) and "cx" in lens:
            width, height = 2 * lens["cx"], 2 * lens.get("cy", lens["cx"])
        if math.isnan(width) or math.isnan(height):
            raise InputError(f"{where} has fl_x in pixels and no size of the picture; add 'w' and 'h'")
        fl_x, fl_y = lens.get("fl_x", lens.get("fl_y")), lens.get("fl_y", lens.get("fl_x"))
        centre = lens.get("cx", width / 2) / width, lens.get("cy", height / 2) / height
        return [float(fl_x or 0) / width, float(fl_y or 0) / height, *centre]
    aspect = 1.0 if math.isnan(width / height) else width / height
    if "camera_angle_x" in lens:
        fx = _focal(where, "camera_angle_x", lens["camera_angle_x"])
        return [fx, fx * aspect, 0.5, 0.5]
    if "camera_angle_y" in lens:
        fy = _focal(where, "camera_angle_y", lens["camera_angle_y"])
        return [fy / aspect, fy, 0.5, 0.5]
    return None


def _focal(where: str, key: str, angle: float) -> float:
    """Focal length in picture sides of a full angle in radians."""
    if not 0.01 <= angle <= 3.1:
        raise InputError(f"{where} has the {key} {angle:g}; it is the whole angle in radians, 0.01 to 3.1")
    return 0.5 / math.tan(angle / 2)


def _number(path: Path, source: dict[str, Any], key: str, default: float) -> float:
    value = source.get(key, default)
    if isinstance(value, bool) or not isinstance(value, NUMBER):
        raise InputError(f"{path}: '{key}' must be a number, got {shown(value)}")
    return float(value)
