"""What an item is exported as: the scene, by `files.export`, and its camera paths for other programs.

    scene_cameras/NAME/transforms.json        in the world of PLY, .splat and NPZ: x right, y down, z forward
    scene_cameras/NAME/transforms_y_up.json   in that of glTF, SPZ, USD and .4dgs: y and z negated
    scene_cameras/NAME/sparse/0/              a COLMAP model in the world of PLY, .splat and NPZ

Lengths are metres, and the photo's camera stands at the origin, as in exported scenes. Each folder is laid
out as a data set: programs look for the film's frames in its `images/`.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from more4d.cameras.adoption import raw_of_path
from more4d.cameras.registry import write_camera_file
from more4d.files.depth_and_cameras import load_camera_path
from more4d.files.export import EXPORTS, TRACK_EXPORTS, export_files, export_item
from more4d.files.scene_folder import GAUSSIANS, load_finished_item
from more4d.geometry.camera import CameraPath
from more4d.pipelines.depth import film_size
from more4d.pipelines.preset import TEXTURE
from more4d.runs.job import camera_folders

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


def add_exports(item: Any, title: str, earlier: Iterable[str]) -> None:
    """What an item's job asks for, of all that its folder holds of its tracks: films, and Gaussians of these.

    Args:
        item: of `runs.item`, all of whose films are made.
        earlier: cameras of films that are there and are not of this job.
    """
    job, record, tracks, size = item.job, item.record, item.tracks, item.pipe.film_size
    asked, kinds = list(camera_folders(job)), dict.fromkeys(job.exports)
    cameras, gaussians = [*asked, *earlier], record.up_to_date("gaussians")
    scenes = [kind for kind in kinds if kind not in (*TRACK_EXPORTS, CAMERAS)]
    if scenes and not gaussians and (item.folder / GAUSSIANS).is_file():
        record.note(f"exports leave out {GAUSSIANS}, which was made from other films; ask for --gaussians")
    textured = item.pipe.preset.fill == TEXTURE and not gaussians

    @cache
    def behind() -> dict[str, Any]:
        """The background of this job's films is completed for their cameras alone."""
        known = {"frames": tracks.frames, "camera": tracks.camera, "scene_depth_m": 1.0}
        files = {name: item.folder / name / "camera_path.json" for name in cameras}
        return item.background({name: load_camera_path(file, **known) for name, file in files.items()})

    about = {"title": title, "gaussians": gaussians, "size": film_size(tracks.height, tracks.width, size)}
    about |= {"behind": behind} if textured and cameras != asked else {"textured": textured}
    shown = ["tracks", *(f"view {name}" for name in cameras), *(["gaussians"] if gaussians else [])]
    paths = ["tracks", *(f"{name}/camera_path.json" for name in cameras)]
    for kind in kinds:
        sources = shown if kind in scenes else paths if kind == CAMERAS else ["tracks"]
        item.stage(
            f"export {kind}",
            [record.states(sources), title, textured] if kind in scenes else record.states(sources),
            files_of(kind, frames=tracks.frames, cameras=cameras),
            lambda kind=kind: export_folder(item.folder, kind, cameras, **about),
            sources,
        )


def export_folder(
    folder: Path,
    kind: str,
    cameras: list[str],
    *,
    size: tuple[int, int],
    behind: Callable[[], dict[str, Any]] | None = None,
    **about: Any,
) -> list[Path]:
    """Write an item, of what its folder holds, for other programs; returns the files.

    Args:
        kind: one of `KINDS`.
        size: (height, width) of its films, which lenses of camera files refer to.
        behind: what lies behind the scene, if it is not the background of the folder.
        about: further arguments of `load_finished_item`.

    Raises:
        InputError, MissingPackageError: as `load_finished_item` and `export_item`.
    """
    item = load_finished_item(folder, cameras, **about, **({} if behind is None else {"textured": False}))
    if behind is not None and kind in EXPORTS:
        item = replace(item, background=behind())
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
