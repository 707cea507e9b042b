"""What an item is exported as: the scene, by `files.export`, and its camera paths for other programs.

    scene_cameras/NAME/transforms.json        in the world of PLY, .splat and NPZ: x right, y down, z forward
    scene_cameras/NAME/transforms_y_up.json   in that of glTF, SPZ, USD and .4dgs: y and z negated
    scene_cameras/NAME/sparse/0/              a COLMAP model in the world of PLY, .splat and NPZ

Lengths are metres, and the photo's camera stands at the origin, as in exported scenes. Each folder is laid
out as a data set: programs look for the film's frames in its `images/`.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from more4d.cameras.adoption import raw_of_path
from more4d.cameras.registry import write_camera_file
from more4d.files.export import EXPORTS, export_files, export_item
from more4d.files.scene_folder import load_finished_item
from more4d.geometry.camera import CameraPath

CAMERAS = "cameras"
KINDS = (*EXPORTS, CAMERAS)
"""Of `infer --export`; `runs.job.EXPORT_FILES` has their files without importing torch."""
FOLDER, MODEL = "scene_cameras", "sparse/0"
MODEL_FILES = tuple(f"{MODEL}/{name}.txt" for name in ("cameras", "images", "points3D"))
WORLDS = {"transforms.json": np.eye(4), "transforms_y_up.json": np.diag([1.0, -1.0, -1.0, 1.0])}
"""From this package's world to that of a file."""


def files_of(kind: str, *, frames: int, cameras: Iterable[str]) -> list[str]:
    """What `export_folder` writes, relative to the folder of the item."""
    if kind != CAMERAS:
        return export_files(kind, frames)
    return [f"{FOLDER}/{name}/{file}" for name in cameras for file in (*WORLDS, *MODEL_FILES)]


def export_folder(
    folder: Path, kind: str, cameras: list[str], *, size: tuple[int, int], **about: Any
) -> list[Path]:
    """Write an item, of what its folder holds, for other programs; returns the files.

    Args:
        kind: one of `KINDS`.
        size: (height, width) of its films, which lenses of camera files refer to.
        about: further arguments of `load_finished_item`.

    Raises:
        InputError, MissingPackageError: as `load_finished_item` and `export_item`.
    """
    item = load_finished_item(folder, cameras, **about)
    if kind != CAMERAS:
        return export_item(item, folder, kind)
    for name, path in item.cameras.items():
        export_camera(path, folder / FOLDER / name, size=size, fps=item.tracks.fps)
    return [folder / file for file in files_of(kind, frames=item.tracks.frames, cameras=cameras)]


def export_camera(path: CameraPath, folder: Path, *, size: tuple[int, int], fps: float | int) -> None:
    """Write one camera path in all formats of this module, with the times of its frames in seconds."""
    raw = raw_of_path(path)
    # Films of an odd size have a row or column more, at the end: pixels stay where they are.
    height, width = (side + side % 2 for side in size)
    lens = np.asarray(raw.intrinsics) * np.array([size[1] / width, size[0] / height] * 2)
    raw = replace(raw, intrinsics=lens, times=np.arange(path.frames) / fps, size=(height, width))
    for name, turn in WORLDS.items():
        turned = replace(raw, camera_to_world=turn @ raw.camera_to_world)
        write_camera_file(folder / name, turned, format="transforms")
    write_camera_file(folder / MODEL, raw, format="colmap")
