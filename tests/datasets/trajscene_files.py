"""A small data set in both layouts of TrajScene-60K, made of procedural tracks."""

import functools
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from more4d.files.video import write_video
from more4d.geometry.camera import Camera, pixel_centres
from more4d.geometry.tracks import PointTracks
from more4d.scenes.render import render_clip, render_video
from more4d.scenes.scene_sampling import sample_scene

FRAMES, HEIGHT, WIDTH = 5, 48, 64
VIDEO_HEIGHT, VIDEO_WIDTH = 96, 128
CAMERA = Camera(fx=1.0, fy=WIDTH / HEIGHT)


@functools.cache
def tracked(seed: int = 3) -> tuple[PointTracks, Tensor]:
    """Tracks through the tracker's camera, and the film of 2 x FRAMES - 1 frames that they are of."""
    scene = replace(sample_scene(seed), camera=CAMERA)
    tracks = render_clip(scene, height=HEIGHT, width=WIDTH, frames=FRAMES).tracks
    frames = render_video(scene, height=VIDEO_HEIGHT, width=VIDEO_WIDTH, frames=2 * FRAMES - 1).frames
    return tracks, frames


def content(tracks: PointTracks, form: str = "torch") -> dict[str, Any]:
    """What the tracker pickles: tensors with a batch axis, or plain arrays."""
    fields = {
        "coords": tracks.positions.flatten(1, 2),
        "colors": (tracks.colours * 255).flatten(0, 1),
        "vis": tracks.visibility.flatten(1),
    }
    if form == "torch":
        return {key: value[None].clone() for key, value in fields.items()}
    return {key: value.numpy() for key, value in fields.items()}


def write_sample(
    folder: Path,
    name: str,
    *,
    tracks: PointTracks | None = None,
    frames: Tensor | None = None,
    pickled: Any = None,
    form: str = "torch",
    caption: str | None = "a thing moves",
    leave_out: tuple[str, ...] = (),
    other: Path | None = None,
) -> None:
    """One sample; `other` is the folder of everything but the video and the caption."""
    scene_tracks, scene_frames = tracked()
    tracks = tracks or scene_tracks
    frames = scene_frames[::2] if frames is None else frames
    other = other or folder
    folder.mkdir(parents=True, exist_ok=True)
    other.mkdir(parents=True, exist_ok=True)
    holes = np.zeros((tracks.frames, tracks.height, tracks.width), np.uint8)
    holes[:, : tracks.height // 4] = 1
    rendered = tracks.colours.expand(tracks.frames, *tracks.colours.shape)
    if "video" not in leave_out:
        write_video(folder / f"{name}.mp4", frames, fps=10)
    if caption is not None:
        (folder / f"{name}.txt").write_text(caption)
    if "tracks" not in leave_out:
        data = content(tracks, form) if pickled is None else pickled
        (other / f"{name}_dt3d_pred.pkl").write_bytes(data if isinstance(data, bytes) else pickle.dumps(data))
    if "rendering" not in leave_out:
        write_video(other / f"{name}_dt3d_render.mp4", rendered, fps=10)
    if "mask_video" not in leave_out:
        mask = torch.from_numpy(holes).float()[..., None].expand(-1, -1, -1, 3)
        write_video(other / f"{name}_mask_render.mp4", mask, fps=10)
    if "mask_array" not in leave_out:
        np.save(other / f"{name}_mask_render_binary.npy", holes)


def pack(folder: Path, archive: Path, *, names: list[str] | None = None) -> Path:
    """The files of a folder as an archive, in the given order or sorted."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        for name in names or sorted(path.name for path in folder.iterdir()):
            tar.add(folder / name, name)
    return archive


def counted_from_zero(tracks: PointTracks) -> PointTracks:
    """The tracks of a tracker that counts pixels from 0 instead of from their centres."""
    u, v = pixel_centres(tracks.height, tracks.width).unbind(-1)
    centre = {"cx": 0.5 + 0.5 / tracks.width, "cy": 0.5 + 0.5 / tracks.height}
    moved = Camera(fx=1.0, fy=tracks.width / tracks.height, **centre)
    start = moved.unproject(torch.stack([u, v], -1), tracks.depth_m)
    return replace(tracks, positions=tracks.positions - tracks.positions[0] + start)
