"""Tracks for other programs: PLY, NPZ and GLB, by trimesh.

    ply  scene.ply (frame 0) and scene_frames/frame_0000.ply ...: x, y, z metres, red, green, blue, visible
    npz  scene.npz: positions float32 [frames, height, width, 3] metres, colours uint8, visibility bool,
         intrinsics (fx, fy, cx, cy normalised), fps, caption; `files.tracks.load_tracks` reads it back
    glb  scene.glb: one point cloud per frame under nodes frame_0000 ..., and an animation that shows one at a
         time at the tracks' frame rate

PLY and NPZ keep this package's axes (x right, y down, z forward). GLB prescribes y up and z towards the
viewer, so there y and z are negated.
"""

import base64
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from more4d.files.atomic import write_bytes
from more4d.files.image import to_uint8
from more4d.foundation.errors import InputError
from more4d.geometry.tracks import Tracks

_FLOAT, _SCALAR, _VECTOR = 5126, "SCALAR", "VEC3"
_HIDDEN_SCALE = 1e-6


def export_tracks(tracks: Tracks, folder: Path, kind: str) -> list[Path]:
    """Write tracks for other programs, as a `kind` of `EXPORTS`; a missing folder is made.

    Returns:
        The files written, the main one first.

    Raises:
        InputError: the kind is unknown, or the folder cannot be written to.
    """
    check_export_kind(kind)
    return EXPORTS[kind](tracks.to("cpu"), Path(folder))


def check_export_kind(kind: str) -> None:
    """Refuse an unknown kind, before anything is computed.

    Raises:
        InputError: lists the kinds.
    """
    if kind not in EXPORTS:
        raise InputError(f"unknown export '{kind}'; known kinds: {', '.join(EXPORTS)}")


def _export_ply(tracks: Tracks, folder: Path) -> list[Path]:
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


def _export_npz(tracks: Tracks, folder: Path) -> list[Path]:
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


def _export_glb(tracks: Tracks, folder: Path) -> list[Path]:
    import trimesh

    scene = trimesh.Scene()
    colours = to_uint8(tracks.colours).reshape(-1, 3).numpy()
    for frame, name in enumerate(_frame_names(tracks)):
        points = tracks.positions_in(slice(frame, frame + 1)).reshape(-1, 3).numpy() * np.array(
            [1, -1, -1], np.float32
        )
        scene.add_geometry(trimesh.PointCloud(points, colors=colours), node_name=name, geom_name=name)

    def animate(tree: dict[str, Any]) -> None:
        _add_flipbook(tree, _frame_names(tracks), tracks.fps)

    data = trimesh.exchange.gltf.export_glb(scene, tree_postprocessor=animate)
    write_bytes(folder / "scene.glb", data)
    return [folder / "scene.glb"]


def _frame_names(tracks: Tracks) -> list[str]:
    return [f"frame_{frame:04d}" for frame in range(tracks.frames)]


def _add_flipbook(tree: dict[str, Any], names: list[str], fps: float) -> None:
    """Animate the scale of the nodes in steps, so that a viewer shows one frame after the other.

    The numbers go into a buffer of their own, as base64 text; hidden nodes are tiny rather than of scale 0,
    because a singular transform is not allowed everywhere.
    """
    count = len(names)
    times = (np.arange(count + 1) / fps).astype("<f4")
    shown = np.full((count, count + 1, 3), _HIDDEN_SCALE, "<f4")
    shown[np.arange(count), np.arange(count)] = 1
    shown[-1, -1] = 1  # the last frame stays
    blob = times.tobytes() + shown.tobytes()
    buffer = len(tree["buffers"])
    text = base64.b64encode(blob).decode()
    tree["buffers"].append({"byteLength": len(blob), "uri": f"data:application/octet-stream;base64,{text}"})
    view, accessor = len(tree["bufferViews"]), len(tree["accessors"])
    tree["bufferViews"] += [
        {"buffer": buffer, "byteOffset": 0, "byteLength": times.nbytes},
        {"buffer": buffer, "byteOffset": times.nbytes, "byteLength": shown.nbytes},
    ]
    tree["accessors"].append(_accessor(view, 0, count + 1, _SCALAR, min=[0.0], max=[float(times[-1])]))
    tree["accessors"] += [
        _accessor(view + 1, index * shown[0].nbytes, count + 1, _VECTOR) for index in range(count)
    ]
    samplers = [
        {"input": accessor, "output": accessor + 1 + index, "interpolation": "STEP"} for index in range(count)
    ]
    node_of = {node.get("name"): index for index, node in enumerate(tree["nodes"])}
    channels = [
        {"sampler": index, "target": {"node": node_of[name], "path": "scale"}}
        for index, name in enumerate(names)
    ]
    tree["animations"] = [{"name": "frames", "samplers": samplers, "channels": channels}]


def _accessor(view: int, offset: int, count: int, kind: str, **limits: list[float]) -> dict[str, Any]:
    return {
        "bufferView": view,
        "byteOffset": offset,
        "componentType": _FLOAT,
        "count": count,
        "type": kind,
        **limits,
    }


EXPORTS: Mapping[str, Callable[[Tracks, Path], list[Path]]] = MappingProxyType(
    {"ply": _export_ply, "npz": _export_npz, "glb": _export_glb}
)
