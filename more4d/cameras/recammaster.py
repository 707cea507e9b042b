"""JSON of ReCamMaster and InfCam: cameras of Unreal Engine, several in a file.

    {"frame0": {"cam01": "[1 0 0 0] [0 1 0 0] [0 0 1 0] [3390 1380 240 1] ", ...}, ...}

The four brackets are the columns of a camera-to-world matrix in centimetres, with axes x forward, y right,
z up, in a left-handed world.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from more4d.cameras.formats import FORMATS
from more4d.cameras.raw_path import RawCameraPath, read_poses
from more4d.foundation.errors import InputError, shown

CENTIMETRES = 0.01
FRAME = re.compile(r"frame(\d{1,6})")
_FORMAT = FORMATS["recammaster"]


def is_recammaster(content: dict[str, Any]) -> bool:
    """Whether a JSON object has frames with cameras by name."""
    return bool(content) and all(
        FRAME.fullmatch(key) and isinstance(value, dict) for key, value in content.items()
    )


def read_recammaster(path: Path, content: dict[str, Any], part: str | None) -> RawCameraPath:
    """One camera of the file.

    Args:
        part: its name; needed if there are several.

    Raises:
        InputError: there are several and none is named, or the one that is named is missing or damaged.
    """
    frames = sorted(content, key=lambda key: int(FRAME.fullmatch(key)[1]))  # type: ignore[index]
    names = sorted({name for key in frames for name in content[key]})
    if part is None and len(names) != 1:
        raise InputError(
            f"{path} holds the cameras {', '.join(names)[:200]}; say which: {path}#{[*names, ''][0]}"
        )
    name = part or names[0]
    if name not in names:
        raise InputError(f"{path} has no camera {shown(name)}; there are {', '.join(names)[:200]}")
    matrices = [_matrix(f"{path}: {key}, {name}", content[key].get(name)) for key in frames]
    poses = read_poses(matrices, f"{path}, {name}", axes=_FORMAT.axes, maps=_FORMAT.maps)
    return RawCameraPath(camera_to_world=poses, unit=_FORMAT.unit, source=_FORMAT.name)


def _matrix(where: str, text: Any) -> np.ndarray:
    if not isinstance(text, str):
        raise InputError(f"{where}: a matrix is a text of four bracketed rows, got {shown(text)}")
    rows = [row.split() for row in re.findall(r"\[([^\]]*)\]", text)]
    try:
        numbers = np.array(rows, dtype=np.float64)
    except ValueError as error:
        raise InputError(f"{where} must be four rows of four numbers, got {shown(text)}") from error
    if numbers.shape != (4, 4):
        raise InputError(f"{where} must be four rows of four numbers, got {shown(text)}")
    matrix = numbers.T
    matrix[:3, 3] *= CENTIMETRES
    return matrix
