"""A finished item for other programs: a page that plays it, splats, point clouds, tracks.

    html             scene.html: plays the scene in any browser (`files.html_page`)
    glb              scene.glb: coloured points that move, for programs that open glTF (`files.gltf`)
    usd              scene.usd: points that move, and the item's cameras (`files.moving_splats_backend`)
    4dgs             scene.4dgs: Gaussians that move
    gaussian-glb     scene_gaussians.glb: Gaussians that move, as KHR_gaussian_splatting
    gaussian-ply     scene_gaussians.ply: Gaussians of frame 0, as files of 3D Gaussian Splatting
    gaussian-frames  scene_gaussians/frame_0000.ply ...: the same of every frame
    spz, splat       scene.spz, scene.splat: Gaussians of frame 0, packed (`files.splat_formats`)
    ply              scene.ply (frame 0) and scene_frames/frame_0000.ply ... of the tracks alone: x, y, z
                     metres, red, green, blue, visible
    npz              scene.npz, the tracks alone: positions float32 [frames, height, width, 3] metres, colours
                     uint8, visibility bool, intrinsics (fx, fy, cx, cy normalised), fps, caption;
                     `files.tracks.load_tracks` reads it back

PLY, NPZ and .splat keep this package's axes (x right, y down, z forward); glTF, SPZ, USD and .4dgs are y up
with z towards the viewer, so there y and z are negated. docs/exports.md says which program opens which.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from more4d.files.atomic import write_bytes
from more4d.files.gltf import gaussians_glb, points_glb
from more4d.files.html_page import MOST_SPLATS, export_page, fitting_scene
from more4d.files.image import to_uint8
from more4d.files.moving_splats_backend import fourdgs_bytes, usd_bytes
from more4d.files.splat_formats import gaussian_ply, splat_bytes, spz_bytes
from more4d.foundation.errors import InputError
from more4d.geometry.camera import CameraPath
from more4d.geometry.gaussian_scene import LEAST_OPACITY
from more4d.geometry.splats import Splats, SplatScene, splat_scene, splats_of_grid
from more4d.geometry.tracks import FilledPoints, Tracks

MOST_IN_SEQUENCES = 200_000
"""Splats of formats that hold a moving scene frame by frame: 49 PLY files of so many take 550 MB."""


@dataclass(frozen=True, kw_only=True)
class FinishedItem:
    """What exports are made of.

    Attributes:
        tracks: on the CPU.
        background: what lies behind (fields of `pipelines.background.Background`), if it was completed.
        filled: filled points of the views, shown where there is no background.
        cameras: camera paths of the item, by name.
        title: of the page.
        gaussians: a scene of optimised Gaussians, which then takes the place of the points.
    """

    tracks: Tracks
    background: Mapping[str, Any] | None = None
    filled: FilledPoints | None = None
    cameras: Mapping[str, CameraPath] = field(default_factory=dict)
    title: str = ""
    gaussians: SplatScene | None = None

    def splats(self, step: int = 1, step_behind: int = 1) -> SplatScene:
        """The scene as splats, one for each block of so many pixels a side."""
        if self.gaussians is not None:
            return self.gaussians
        if self.background is None:
            return splat_scene(self.tracks, step=step, filled=self.filled, step_filled=step_behind)
        behind = background_splats(self.background, step=step_behind)
        return splat_scene(self.tracks, step=step, behind=[behind])

    @cached_property
    def sharp(self) -> SplatScene:
        """A splat for every pixel."""
        return self.splats()

    def at_most(self, count: int) -> SplatScene:
        """The sharpest scene of at most `count` splats, if its blocks allow that few."""
        if self.gaussians is not None:  # they have no blocks
            return self.gaussians
        step = 1
        while len(scene := self.sharp if step == 1 else self.splats(step, step)) > count and step < 16:
            step += 1
        return scene


def background_splats(background: Mapping[str, Any], *, step: int = 1) -> Splats:
    """What is needed of a completed background (fields of `pipelines.background.Background`), as splats."""
    depth_m, camera = background["depth_m"], background["camera"]
    height, width = depth_m.shape
    splats, _ = splats_of_grid(
        camera.unproject_depth(depth_m),
        background["colour"],
        depth_m / min(camera.focal_px(width=width, height=height)),
        known=background["needed"],
        step=step,
    )
    return splats


def export_item(item: FinishedItem, folder: Path, kind: str) -> list[Path]:
    """Write an item for other programs, as a `kind` of `EXPORTS`; a missing folder is made.

    Returns:
        The files written, the main one first.

    Raises:
        InputError: the kind is unknown, or the folder cannot be written to.
        MissingPackageError: the kind needs a package that is not installed.
    """
    if kind not in EXPORTS:
        raise InputError(f"unknown export '{kind}'; known kinds: {', '.join(EXPORTS)}")
    return EXPORTS[kind](item, Path(folder))


def export_files(kind: str, frames: int) -> list[str]:
    """What `export_item` writes for tracks of `frames` frames, the main file first."""
    numbered = [f"frame_{frame:04d}.ply" for frame in range(frames)]
    if kind == "gaussian-frames":
        return [f"scene_gaussians/{name}" for name in numbered]
    more = [f"scene_frames/{name}" for name in numbered] if kind == "ply" else []
    return [MAIN_FILES[kind], *more]


def _export_ply(item: FinishedItem, folder: Path) -> list[Path]:
    tracks = item.tracks
    frames = [folder / "scene_frames" / f"frame_{frame:04d}.ply" for frame in range(tracks.frames)]
    paths = [folder / "scene.ply", *frames]
    for path, frame in zip(paths, [0, *range(tracks.frames)], strict=True):
        write_bytes(path, _ply(tracks, frame))
    return paths


def _ply(tracks: Tracks, frame: int) -> bytes:
    """One frame as a binary PLY file: x, y, z float32, red, green, blue, visible uint8."""
    import trimesh  # takes a second to import

    cloud = trimesh.PointCloud(tracks.positions_in(slice(frame, frame + 1)).reshape(-1, 3).float().numpy())
    colours = to_uint8(tracks.colours).reshape(-1, 3).numpy()
    # Colours as attributes: as colours of the cloud they would get a fourth channel, alpha.
    cloud.vertex_attributes = {
        "red": colours[:, 0],
        "green": colours[:, 1],
        "blue": colours[:, 2],
        "visible": tracks.visibility[frame].reshape(-1).to(torch.uint8).numpy(),
    }
    header, end, body = trimesh.exchange.ply.export_ply(cloud).partition(b"end_header\n")
    note = f"comment frame {frame} of {tracks.frames}; metres, x right, y down, z forward\n"
    return header + note.encode() + end + body


def _export_npz(item: FinishedItem, folder: Path) -> list[Path]:
    tracks = item.tracks
    camera = tracks.camera
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        positions=tracks.positions.float().numpy(),
        colours=to_uint8(tracks.colours).numpy(),
        visibility=tracks.visibility.numpy(),
        intrinsics=np.array([camera.fx, camera.fy, camera.cx, camera.cy]),
        fps=np.array(tracks.fps),
        caption=np.array(tracks.caption),
    )
    write_bytes(folder / "scene.npz", buffer.getvalue())
    return [folder / "scene.npz"]


def _export_html(item: FinishedItem, folder: Path) -> list[Path]:
    path = folder / MAIN_FILES["html"]
    title = item.title or item.tracks.caption or "scene"
    style = "points" if item.gaussians is None else "splats"
    scene, encoded = fitting_scene(item.splats, most=MOST_SPLATS)
    export_page(path, scene, item.cameras, title=title, style=style, encoded=encoded)
    return [path]


def _export_gaussian_frames(item: FinishedItem, folder: Path) -> list[Path]:
    scene, count = item.at_most(MOST_IN_SEQUENCES), item.tracks.frames
    paths = [folder / name for name in export_files("gaussian-frames", count)]
    for frame, path in enumerate(paths):
        write_bytes(
            path, gaussian_ply(shown(scene, frame), f"frame {frame} of {count}, {scene.fps:g} per second")
        )
    return paths


def shown(scene: SplatScene, frame: int) -> Splats:
    """What shows in a frame: not what is of other moments."""
    splats = scene.at(frame)
    return splats.select(splats.opacities >= LEAST_OPACITY)


def _written(kind: str, make: Callable[[FinishedItem], bytes]) -> Callable[[FinishedItem, Path], list[Path]]:
    """The export of one file."""

    def export(item: FinishedItem, folder: Path) -> list[Path]:
        path = folder / MAIN_FILES[kind]
        write_bytes(path, make(item))
        return [path]

    return export


MAIN_FILES: Mapping[str, str] = MappingProxyType(
    {
        **{kind: f"scene.{kind}" for kind in ("html", "glb", "usd", "4dgs", "spz", "splat", "ply", "npz")},
        "gaussian-glb": "scene_gaussians.glb",
        "gaussian-ply": "scene_gaussians.ply",
        "gaussian-frames": "scene_gaussians/frame_0000.ply",
    }
)
TRACK_EXPORTS = ("ply", "npz")
"""Kinds that hold the tracks alone."""
EXPORTS: Mapping[str, Callable[[FinishedItem, Path], list[Path]]] = MappingProxyType(
    {
        "html": _export_html,
        "glb": _written("glb", lambda item: points_glb(item.sharp.lasting())),
        "gaussian-glb": _written(
            "gaussian-glb", lambda item: gaussians_glb(item.at_most(MOST_IN_SEQUENCES).lasting())
        ),
        "usd": _written("usd", lambda i: usd_bytes(i.sharp.lasting(), i.cameras, title=i.title)),
        "4dgs": _written("4dgs", lambda item: fourdgs_bytes(item.sharp)),
        "gaussian-ply": _written("gaussian-ply", lambda item: gaussian_ply(shown(item.sharp, 0), "frame 0")),
        "gaussian-frames": _export_gaussian_frames,
        "spz": _written("spz", lambda item: spz_bytes(shown(item.sharp, 0))),
        "splat": _written("splat", lambda item: splat_bytes(shown(item.sharp, 0))),
        "ply": _export_ply,
        "npz": _export_npz,
    }
)
