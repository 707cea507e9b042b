"""Camera paths in npz and npy: Lyra 2, Vista4D, and plain arrays of matrices.

Plain matrices, in JSON and text as well, say nothing about what they mean but by their names. Names that
leave it open (`poses`, `pose`) are refused, unless the user gives the convention.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np

from more4d.cameras.formats import CAMERA_TO_WORLD, CONVENTIONS, FORMATS, OPENCV, WORLD_TO_CAMERA
from more4d.cameras.nerfstudio import size_of_lens
from more4d.cameras.raw_path import RawCameraPath, invert, read_intrinsics, read_poses, read_times
from more4d.files.atomic import write_bytes
from more4d.foundation.errors import InputError

C2W_NAMES = ("c2w", "c2ws", "camera_to_world", "cam2world", "camera2world", "cam_c2w")
W2C_NAMES = ("w2c", "w2cs", "world_to_camera", "world2cam", "world2camera", "viewmats", "viewmat")
LENS_NAMES = ("intrinsics", "Ks", "K", "intrinsic")
_LYRA, _VISTA = FORMATS["lyra"], FORMATS["vista4d"]
Arrays = dict[str, np.ndarray]


def read_lyra(path: Path, arrays: Arrays) -> RawCameraPath:
    """Lyra 2: w2c, intrinsics in pixels, image_height and image_width; and times, if we wrote it.

    Raises:
        InputError: an array cannot be used.
    """
    poses = read_poses(_array(path, arrays, "w2c"), path, axes=_LYRA.axes, maps=_LYRA.maps)
    size = _size(arrays, "image_height", "image_width")
    lens = None
    if "intrinsics" in arrays:
        lens = read_intrinsics(arrays["intrinsics"], path, frames=len(poses), size=size)
    times = read_times(arrays["times"].ravel(), path) if "times" in arrays else None
    if times is not None and len(times) != len(poses):
        raise InputError(f"{path} has {len(poses)} poses and {len(times)} times; give each pose one")
    return RawCameraPath(camera_to_world=poses, intrinsics=lens, times=times, size=size, source=_LYRA.name)


def write_lyra(path: Path, raw: RawCameraPath) -> None:
    """The inverse of `read_lyra`; without intrinsics the file has none.

    Raises:
        InputError: the folder cannot be written to.
    """
    arrays: Arrays = {"w2c": invert(raw.camera_to_world)}
    if raw.intrinsics is not None:
        height, width = raw.size or size_of_lens(raw.intrinsics[0])
        matrices = np.tile(np.eye(3), (raw.frames, 1, 1))
        for column, (row, at) in enumerate(((0, 0), (1, 1), (0, 2), (1, 2))):
            matrices[:, row, at] = raw.intrinsics[:, column] * (width, height)[column % 2]
        arrays |= {"intrinsics": matrices, "image_height": np.array(height), "image_width": np.array(width)}
    if raw.times is not None:
        arrays["times"] = raw.times
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def read_vista(path: Path, arrays: Arrays) -> RawCameraPath:
    """Vista4D: cam_c2w and intrinsics in pixels [frames, 4], and both again beginning at the video's camera.

    The latter (`_fsff`) are taken where there are any. The picture's size is twice the principal point.

    Raises:
        InputError: an array cannot be used.
    """
    same = "_fsff" if "cam_c2w_fsff" in arrays else ""
    poses = read_poses(_array(path, arrays, f"cam_c2w{same}"), path, axes=_VISTA.axes, maps=_VISTA.maps)
    values = arrays.get(f"intrinsics{same}", arrays.get("intrinsics"))
    return RawCameraPath(
        camera_to_world=poses,
        intrinsics=None if values is None else read_intrinsics(values, path, frames=len(poses)),
        source=_VISTA.name,
        notes=("its cameras that begin at the video's are taken (cam_c2w_fsff)",) if same else (),
    )


def read_matrices(path: Path, arrays: Arrays, convention: str | None) -> RawCameraPath:
    """Arrays of matrices [frames, 3 or 4, 4]; intrinsics beside them are read.

    Args:
        convention: a key of `CONVENTIONS`; by default by the array's name.

    Raises:
        InputError: nothing says what they mean, there are several, or they cannot be used.
    """
    found = {name: array for name, array in arrays.items() if _are_matrices(array)}
    named = [name for name in found if name.lower() in (*C2W_NAMES, *W2C_NAMES)]
    if not found:
        held = ", ".join(
            f"{name or 'array'} {'x'.join(map(str, array.shape))}" for name, array in arrays.items()
        )
        raise InputError(f"{path} holds no matrices [frames, 4, 4] or [frames, 3, 4] but {held[:200]}")
    if len(found) > 1 and len(named) != 1:
        raise InputError(
            f"{path} holds several arrays of matrices ({', '.join(found)[:200]}); keep one of them"
        )
    name = named[0] if named else next(iter(found))
    if convention is None and not named:
        raise InputError(_which(path, name, found[name]))
    named_maps = WORLD_TO_CAMERA if name.lower() in W2C_NAMES else CAMERA_TO_WORLD
    maps, axes = CONVENTIONS[convention] if convention else (named_maps, OPENCV)
    poses = read_poses(found[name], path, axes=axes, maps=maps)
    size = _size(arrays, "image_height", "image_width") or _size(arrays, "height", "width")
    lens = next((arrays[each] for each in LENS_NAMES if each in arrays), None)
    return RawCameraPath(
        camera_to_world=poses,
        intrinsics=None if lens is None else read_intrinsics(lens, path, frames=len(poses), size=size),
        size=size,
        source="matrices",
        notes=() if convention else (f"'{name}' is read as {maps} in OpenCV axes",),
    )


def _which(path: Path, name: str, matrices: np.ndarray) -> str:
    """Why matrices are refused: both readings, and how far each begins from the world's own camera."""
    called = f"'{name}'" if name else "its matrices"
    away = []
    for maps in (CAMERA_TO_WORLD, WORLD_TO_CAMERA):
        try:
            poses = read_poses(matrices, path, axes=OPENCV, maps=maps)
        except InputError:
            continue
        first, last = (", ".join(f"{value:.3g}" for value in poses[end, :3, 3]) for end in (0, -1))
        away.append(f"{maps}: from {first} to {last}")
    return (
        f"{path} does not say what {called} map{'s' if name else ''} between ({'; '.join(away)}); write "
        f"{path}:convention= with {', '.join(CONVENTIONS)}"
    )


def _are_matrices(array: np.ndarray) -> bool:
    return array.ndim == 3 and array.shape[1:] in ((3, 4), (4, 4)) and array.dtype.kind in "fiu"


def _array(path: Path, arrays: Arrays, name: str) -> Any:
    if name not in arrays:
        raise InputError(f"{path} has no array '{name}'; it holds {', '.join(arrays)[:200]}")
    return arrays[name]


def _size(arrays: Arrays, height: str, width: str) -> tuple[int, int] | None:
    if height not in arrays or width not in arrays:
        return None
    sides = [int(np.asarray(arrays[side]).ravel()[:1].sum()) for side in (height, width)]
    return (sides[0], sides[1]) if min(sides) > 0 else None
