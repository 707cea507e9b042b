"""Texts of RealEstate10K (CameraCtrl, VideoX-Fun) and JSON of MotionCtrl: world-to-camera, OpenCV axes.

A row of RealEstate10K (Zhou et al. 2018) is: timestamp in microseconds; fx fy cx cy in picture widths and
heights; two zeros; a 3 x 4 world-to-camera matrix row by row. The first line may be the address of the video.
Timestamps are uneven, so they are used. MotionCtrl keeps the matrices alone.
"""

from pathlib import Path
from typing import Any

import numpy as np

from more4d.cameras.formats import FORMATS
from more4d.cameras.raw_path import RawCameraPath, invert, read_intrinsics, read_poses, read_times
from more4d.files.atomic import write_bytes
from more4d.foundation.errors import InputError, shown

ROW = 19
MICROSECONDS = 1e6
FPS = 30.0
"""Of a written file whose path has no times."""
_FORMAT, _MOTIONCTRL = FORMATS["re10k"], FORMATS["motionctrl"]


def number_rows(path: Path, lines: list[str]) -> list[tuple[int, list[float]]]:
    """Line number and numbers of every line that is not blank; commas may separate numbers.

    Raises:
        InputError: names the line and the word that is no number.
    """
    rows = []
    for number, line in enumerate(lines, start=1):
        words = line.replace(",", " ").split()
        values = []
        for word in words:
            try:
                values.append(float(word))
            except ValueError as error:
                raise InputError(f"{path} line {number}: {shown(word)} is no number; remove it") from error
        if values:
            rows.append((number, values))
    return rows


def read_re10k(path: Path, lines: list[str]) -> RawCameraPath:
    """The text of RealEstate10K and CameraCtrl.

    Raises:
        InputError: a row has another length, or its numbers cannot be used.
    """
    if lines and not number_like(lines[0]):
        lines = ["", *lines[1:]]  # the address of the video, or a header
    rows = number_rows(path, lines)
    if not rows:
        raise InputError(f"{path} has no rows of numbers; RealEstate10K has {ROW} a row")
    for number, values in rows:
        if len(values) != ROW:
            raise InputError(
                f"{path} line {number} has {len(values)} numbers; RealEstate10K has {ROW} a row: "
                "time, fx fy cx cy, 0 0, and a 3 x 4 matrix"
            )
    table = np.array([values for _, values in rows])
    matrices = table[:, 7:].reshape(-1, 3, 4)
    return RawCameraPath(
        camera_to_world=read_poses(matrices, path, axes=_FORMAT.axes, maps=_FORMAT.maps, noun="row"),
        intrinsics=read_intrinsics(table[:, 1:5], path, frames=len(table)),
        times=read_times(table[:, 0] / MICROSECONDS, path, noun="row"),
        source=_FORMAT.name,
    )


def write_re10k(path: Path, raw: RawCameraPath) -> None:
    """The inverse of `read_re10k`. Times are rounded to microseconds; without times there are 30 a second.

    Raises:
        InputError: the path has no intrinsics, two times agree to the microsecond, or the folder cannot be
            written to.
    """
    if raw.intrinsics is None:
        raise InputError(
            f"{path}: RealEstate10K needs a lens, and the path has none; give one (--fov DEGREES)"
        )
    seconds = np.arange(raw.frames) / FPS if raw.times is None else raw.times
    stamps = np.rint(seconds * MICROSECONDS).astype(np.int64)
    if (np.diff(stamps) < 1).any():
        raise InputError(f"{path}: two times are less than the microsecond of the format apart; slow it down")
    matrices = invert(raw.camera_to_world)[:, :3].reshape(-1, 12)
    lines = ["more4d"]
    for stamp, lens, matrix in zip(stamps, raw.intrinsics, matrices, strict=True):
        # 17 digits hold a double exactly
        lines.append(" ".join([str(stamp), *(f"{value:.17g}" for value in (*lens, 0.0, 0.0, *matrix))]))
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def is_re10k(lines: list[str]) -> bool:
    """Whether some line of a text has 19 numbers."""
    return any(len(line.split()) == ROW and number_like(line) for line in lines)


def number_like(line: str) -> bool:
    """Whether a line starts with a number, or is blank."""
    words = line.replace(",", " ").split()
    try:
        return not words or bool(float(words[0]) + 1)
    except ValueError:
        return False


def read_motionctrl(path: Path, content: list[Any]) -> RawCameraPath:
    """MotionCtrl's list of lists of 12 numbers.

    Raises:
        InputError: a list has another length, or its numbers cannot be used.
    """
    for index, row in enumerate(content):
        if not isinstance(row, list) or len(row) != 12:
            length = len(row) if isinstance(row, list) else "no"
            raise InputError(f"{path}: pose {index} has {length} numbers; MotionCtrl has 12, a 3 x 4 matrix")
    matrices = [[row[start : start + 4] for start in (0, 4, 8)] for row in content]
    return RawCameraPath(
        camera_to_world=read_poses(matrices, path, axes=_MOTIONCTRL.axes, maps=_MOTIONCTRL.maps, noun="pose"),
        source=_MOTIONCTRL.name,
    )
