"""Which reader a camera file is for: by what it holds, or by the format that the user names."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from more4d.cameras import nerfstudio
from more4d.cameras.formats import FORMATS, OTHER_SUFFIXES, SUFFIXES
from more4d.cameras.raw_path import RawCameraPath
from more4d.foundation.documents import read_json
from more4d.foundation.errors import InputError

WANTED = "a camera file (more4d camera formats lists them)"


def read_camera_file(
    path: Path, *, format: str | None = None, part: str | None = None, convention: str | None = None
) -> RawCameraPath:
    """The path in a camera file of another program.

    Args:
        path: a file, or the folder of a COLMAP model.
        format: a key of `FORMATS`; by default as its content says.
        part: which of several cameras of the file.
        convention: a key of `formats.CONVENTIONS`, for matrices that do not say it.

    Raises:
        InputError: it is of no known format, damaged, or ambiguous; the message says what to write.
    """
    content = read_json(path, WANTED)
    if "camera_path" in content:
        return nerfstudio.read_camera_path(path, content)
    return nerfstudio.read_transforms(path, content)


def camera_format(path: Path) -> str:
    content = read_json(path, WANTED)
    return "transforms" if "frames" in content and "transform_matrix" in content["frames"][0] else "more4d"
