"""Which reader a camera file is for: by what it holds, or by the format that the user names."""

from pathlib import Path
from typing import Any

import numpy as np

from more4d.cameras import arrays, colmap, neoverse, nerfstudio, pivot_angles, real_estate, recammaster
from more4d.cameras.formats import COLMAP_FILES, FORMATS, OURS, check_suffix
from more4d.cameras.raw_path import RawCameraPath
from more4d.files.atomic import load_arrays
from more4d.files.tables import split_lines
from more4d.foundation.documents import read_json, read_text
from more4d.foundation.errors import InputError, checked, shown

FOLDERS_DOWN, SHOWN = 3, 3
"""Folders down to which models are looked for, and how many are named."""
WANTED = "a camera file (more4d camera formats lists what is read)"


@checked
def read_camera_file(
    path: str | Path, *, format: str | None = None, part: str | None = None, convention: str | None = None
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
    path = Path(path)
    content = _content(path)
    name = format or _recognised(path, content)
    if part is not None and name != "recammaster":
        raise InputError(f"{path} holds one camera; leave out #{part}")
    return _read(path, name, content, part, convention)


def camera_format(path: Path) -> str:
    """The name of a file's format; "more4d" for ours, which `files.depth_and_cameras` reads.

    Raises:
        InputError: it is of no known format, or cannot be read.
    """
    return _recognised(path, _content(path))


def frames_of_ours(path: Path) -> int | None:
    """How many poses one of our files has; None for keyframes, which have as many as are asked for.

    Raises:
        InputError: it cannot be read.
    """
    content = read_json(path, WANTED)
    frames = content.get("frames") if isinstance(content, dict) else None
    return len(frames) if isinstance(frames, list) and frames else None


@checked
def write_camera_file(path: str | Path, raw: RawCameraPath, *, format: str) -> None:
    """Write a path in one of the formats that are written; `read_camera_file` is the inverse.

    Raises:
        InputError: the format is not written, needs a lens that the path lacks, or the place cannot be
            written to.
    """
    writers = {
        "re10k": real_estate.write_re10k,
        "transforms": nerfstudio.write_transforms,
        "colmap": colmap.write_colmap,
        "lyra": arrays.write_lyra,
    }
    if format not in writers:
        known = ", ".join(name for name, each in FORMATS.items() if each.writes)
        raise InputError(f"{shown(format)} is not written; there are {known}")
    writers[format](Path(path), raw)


def _content(path: Path) -> Any:
    """What a file holds: a path (of a folder), arrays, a JSON value, or lines of a text."""
    suffix = path.suffix.lower()
    if path.is_dir():
        if not colmap.is_colmap(path):
            inside = [str(each) for each in _cameras_below(path)[:SHOWN]]
            remedy = " or ".join(inside) or WANTED
            raise InputError(f"{path} is a folder without images.bin or images.txt; give {remedy}")
        return path
    if path.name.lower() in COLMAP_FILES:
        return path.parent
    check_suffix(path)
    if suffix in (".npz", ".npy"):
        return load_arrays(path)
    if suffix == ".json":
        return read_json(path, WANTED)
    return split_lines(read_text(path, WANTED))


def _cameras_below(folder: Path) -> list[Path]:
    """COLMAP models in a folder, as in sparse/0, and files of nerfstudio in it."""
    inside = {
        file.parent for level in range(1, FOLDERS_DOWN + 1) for file in folder.glob("*/" * level + "images.*")
    }
    return [
        *sorted(each for each in inside if colmap.is_colmap(each)),
        *sorted(folder.glob("transforms*.json")),
    ]


def _recognised(path: Path, content: Any) -> str:
    if isinstance(content, Path):
        return "colmap"
    if path.suffix.lower() in (".npz", ".npy"):
        return _recognised_arrays(content)
    if path.suffix.lower() == ".txt":
        return _recognised_text(path, content)
    if isinstance(content, list):
        flat = [isinstance(row, list) and not any(isinstance(each, list) for each in row) for row in content]
        return "motionctrl" if flat and all(flat) else "matrices"
    if isinstance(content, dict):
        if isinstance(content.get("camera_path"), list):
            return "nerfstudio-path"
        frames = content.get("frames")
        if isinstance(frames, list) and any(
            isinstance(each, dict) and "transform_matrix" in each for each in frames
        ):
            return "transforms"
        if neoverse.is_neoverse(content):
            return "neoverse"
        if recammaster.is_recammaster(content):
            return "recammaster"
    return OURS


def _recognised_arrays(found: dict[str, np.ndarray]) -> str:
    if "cam_c2w" in found:
        return "vista4d"
    if "frame_matrices" in found:
        return "neoverse"
    return "lyra" if "w2c" in found and "intrinsics" in found else "matrices"


def _recognised_text(path: Path, lines: list[str]) -> str:
    if pivot_angles.is_three_lines(lines) and not real_estate.is_re10k(lines):
        ways = ", ".join(f"{system}={path}" for system in pivot_angles.SYSTEMS)
        raise InputError(
            f"{path} is three lines of numbers, which TrajectoryCrafter, ViewCrafter and InSpatio mean "
            f"differently; write one of {ways}"
        )
    if not any(line.strip() and real_estate.number_like(line) for line in lines):
        raise InputError(f"{path} has no rows of numbers, so it is no camera file; give {WANTED}")
    first = next((line for line in lines[1:] if line.strip()), "") or next(iter(lines), "")
    return "matrices" if len(first.replace(",", " ").split()) in (12, 16) else "re10k"


def _read(path: Path, name: str, content: Any, part: str | None, convention: str | None) -> RawCameraPath:
    is_json, is_text = isinstance(content, dict), path.suffix.lower() == ".txt"
    is_arrays = path.suffix.lower() in (".npz", ".npy")
    if name == "colmap" and isinstance(content, Path):
        return colmap.read_colmap(content)
    if name in pivot_angles.SYSTEMS and is_text:
        return pivot_angles.read_pivot_angles(path, content, name)
    if name == "re10k" and is_text:
        return real_estate.read_re10k(path, content)
    if name == "motionctrl" and isinstance(content, list) and not is_text:
        return real_estate.read_motionctrl(path, content)
    if name == "matrices" and (is_arrays or isinstance(content, list)):
        return arrays.read_matrices(path, _as_arrays(path, content), convention)
    readers = {
        "transforms": (is_json and not is_arrays, nerfstudio.read_transforms),
        "nerfstudio-path": (is_json and not is_arrays, nerfstudio.read_camera_path),
        "vista4d": (is_arrays, arrays.read_vista),
        "lyra": (is_arrays, arrays.read_lyra),
    }
    if name in readers and readers[name][0]:
        return readers[name][1](path, content)
    if name == "neoverse":
        return neoverse.read_neoverse_arrays(path) if is_arrays else neoverse.read_neoverse(path, content)
    if name == "recammaster" and is_json:
        return recammaster.read_recammaster(path, content, part)
    raise InputError(f"{path} cannot be a file of {name}: {FORMATS[name].seen_by or FORMATS[name].source}")


def _as_arrays(path: Path, content: Any) -> dict[str, np.ndarray]:
    """Matrices in JSON or text as arrays of an npz would be."""
    if isinstance(content, dict):  # of a npy the file has the name
        return {name or path.stem: array for name, array in content.items()}
    rows = (
        [values for _, values in real_estate.number_rows(path, content)]
        if path.suffix.lower() == ".txt"
        else content
    )
    try:
        values = np.array(rows, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} must hold matrices: lists of 3 or 4 rows of 4 numbers") from error
    if values.ndim == 2 and values.shape[1] in (12, 16):
        values = values.reshape(len(values), -1, 4)
    return {path.stem: values}
