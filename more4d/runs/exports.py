"""What an item is exported as: the scene, by `files.export`, and its camera paths for other programs.

    scene_cameras/NAME/transforms.json        in the world of PLY, .splat and NPZ: x right, y down, z forward
    scene_cameras/NAME/transforms_y_up.json   in that of glTF, SPZ, USD and .4dgs: y and z negated
    scene_cameras/NAME/sparse/0/              a COLMAP model in the world of PLY, .splat and NPZ

Lengths are metres, and the photo's camera stands at the origin, as in exported scenes. Each folder is laid
out as a data set: programs look for the film's frames in its `images/`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from more4d.cameras.adoption import raw_of_path
from more4d.cameras.registry import write_camera_file
from more4d.files.export import EXPORTS, FinishedItem, export_files, export_item
from more4d.geometry.camera import CameraPath

CAMERAS = "cameras"
KINDS = (*EXPORTS, CAMERAS)
"""Of `infer --export`; `runs.job.EXPORT_FILES` has their files without importing torch."""
FOLDER, MODEL = "scene_cameras", "sparse/0"
MODEL_FILES = tuple(f"{MODEL}/{name}.txt" for name in ("cameras", "images", "points3D"))
WORLDS: Mapping[str, np.ndarray] = {
    "transforms.json": np.eye(4),
    "transforms_y_up.json": np.diag([1.0, -1.0, -1.0, 1.0]),
}
"""From this package's world to that of a file."""


def files_of(kind: str, *, frames: int, cameras: Iterable[str]) -> list[str]:
    """What `export_kind` writes, relative to the folder of the item."""
    if kind != CAMERAS:
        return export_files(kind, frames)
    return [f"{FOLDER}/{name}/{file}" for name in cameras for file in (*WORLDS, *MODEL_FILES)]


def export_kind(item: FinishedItem, folder: Path, kind: str, *, size: tuple[int, int]) -> list[Path]:
    """Write an item for other programs.

    Args:
        kind: one of `KINDS`.
        size: (height, width) of its films, which lenses of camera files refer to.

    Returns:
        The files written.

    Raises:
        InputError: the kind is unknown, or the folder cannot be written to.
        MissingPackageError: the kind needs a package that is not installed.
    """
    if kind != CAMERAS:
        return export_item(item, folder, kind)
    for name, path in item.cameras.items():
        export_camera(path, folder / FOLDER / name, size=size, fps=item.tracks.fps)
    return [folder / file for file in files_of(kind, frames=item.tracks.frames, cameras=item.cameras)]


def export_camera(path: CameraPath, folder: Path, *, size: tuple[int, int], fps: float | int) -> None:
    """Write one camera path in all formats of this module, with the times of its frames in seconds.

    Raises:
        InputError: the folder cannot be written to.
    """
    raw = raw_of_path(path)
    # Films of an odd size have a row or column more, at the end: pixels stay where they are.
    height, width = (side + side % 2 for side in size)
    shrunk = np.array([size[1] / width, size[0] / height] * 2)
    lens = np.asarray(raw.intrinsics) * shrunk
    raw = replace(raw, intrinsics=lens, times=np.arange(path.frames) / fps, size=(height, width))
    for name, turn in WORLDS.items():
        turned = replace(raw, camera_to_world=turn @ raw.camera_to_world)
        write_camera_file(folder / name, turned, format="transforms")
    write_camera_file(folder / MODEL, raw, format="colmap")
