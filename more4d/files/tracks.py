"""Point tracks on disk (`tracks.safetensors`, or a plain `.npz`), and points added by view completion.

Format `more4d-tracks` (safetensors). Version 1, of tracks by their positions (`PointTracks`):

    depth       float32 [height, width]             metres, frame 0
    motion      float16 [frames, height, width, 3]  normalised as in `geometry.tracks`
    colours     uint8   [height, width, 3]          RGB
    visibility  uint8   [bytes]                     one bit per frame and pixel, most significant first
    start       float32 [height, width, 3]          metres; only if frame 0 is off the pixels' rays

Version 2, of tracks by the motion that was generated (`UpsampledTracks`): 49 frames of 1280 x 960 take 15 MB.

    depth       float32 [height, width]                   metres, frame 0
    motion      float16 [key frames, small_h, small_w, 3] normalised; spans the time of all frames
    source      int32   [height, width]                   row * small_w + column whose motion a pixel takes
    colours     uint8   [height, width, 3]                RGB
    visibility  uint8   [bytes]                           one bit per frame and small pixel

Metadata: `format`, `version`, `camera` (JSON: fx, fy, cx, cy), `fps`, `caption`, in version 2 `frames`, and
what the caller adds (prompt, seed, model id); `scene_depth_m` where camera paths are scaled by another depth
than that of all pixels.

Format `more4d-filled-points`, version 1 (safetensors): the content of filled holes of a novel view, per
point:

    positions    float32 [points, 3]   metres, world
    colours      uint8   [points, 3]   RGB
    footprint    float32 [points]      side in metres of the square of surface the point covers
    frame        int32   [points]      frame of the view in which it was filled
    lasting      uint8   [points]      1 if the point is visible in all frames

Its metadata has one entry, the format with its version.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from more4d.files.atomic import atomic_write, load_arrays, sort_metadata, write_bytes
from more4d.files.depth_and_cameras import camera_to_json
from more4d.files.image import to_uint8
from more4d.files.problems import error_summary
from more4d.files.tracker_outputs import tracks_of_arrays
from more4d.foundation.documents import check_readable, parse_json
from more4d.foundation.errors import InputError, checked
from more4d.geometry.camera import MAX_ASPECT, Camera
from more4d.geometry.tracks import (
    FilledPoints,
    PointTracks,
    Tracks,
    UpsampledTracks,
    denormalise_motion,
    normalise_motion,
)

FORMAT = "more4d-tracks"
VERSIONS = ("1", "2")
DESCRIPTION = "a track file (.safetensors or .npz)"
FILLED_FORMAT = "more4d-filled-points"
FILLED_VERSIONS = ("1",)
FILLED_DESCRIPTION = "a file of filled points (filled.safetensors of a view)"

CAMERA = dict.fromkeys(("fx", "fy", "cx", "cy"), float)
_RESERVED_KEYS = ("format", "version", "camera", "fps", "caption", "frames", "scene_depth_m")
_FLOAT16_LIMIT = 60_000.0


@checked
def save_tracks(path: str | Path, tracks: Tracks, *, metadata: dict[str, str] | None = None) -> None:
    """Write tracks as safetensors; motion is stored as float16 (11 significant bits) in normalised units.

    Equal tracks give equal files.

    Args:
        metadata: further texts to store, for example prompt, seed and model id.

    Raises:
        InputError: the folder cannot be written to.
        ValueError: `metadata` uses a name reserved by the format.
    """
    clash = set(metadata or {}) & set(_RESERVED_KEYS)
    if clash:
        raise ValueError(f"metadata must not use the format's own names: {sorted(clash)}")
    header = {
        "format": FORMAT,
        "version": str(2 if isinstance(tracks, UpsampledTracks) else 1),
        "camera": json.dumps(camera_to_json(tracks.camera)),
        "fps": repr(tracks.fps),
        "caption": tracks.caption,
        **({"frames": str(tracks.frames)} if isinstance(tracks, UpsampledTracks) else {}),
        **({} if tracks.scene_depth_m is None else {"scene_depth_m": repr(tracks.scene_depth_m)}),
        **(metadata or {}),
    }
    with atomic_write(Path(path)) as temporary:
        # not save_file: it does not raise OSError on a full disk
        temporary.write_bytes(safetensors.torch.save(_to_tensors(tracks), header))
        sort_metadata(temporary)


@checked
def load_tracks(path: str | Path) -> Tracks:
    """Read a track file of either kind.

    `files.tracker_outputs` describes the `.npz` files.

    Raises:
        InputError: the file is missing, truncated, of another format or version, or holds impossible values.
    """
    path = Path(path)
    check_readable(path, DESCRIPTION)
    tracks = (
        tracks_of_arrays(load_arrays(path), path)
        if path.suffix.lower() == ".npz"
        else _load_safetensors(path)
    )
    height, width = tracks.colours.shape[:2]
    if max(height, width) > 2 * MAX_ASPECT * min(height, width):
        raise InputError(
            f"{path} has tracks of {height} x {width} points, the pixels of no film; a picture is at most "
            f"{2 * MAX_ASPECT:g} times as long as wide"
        )
    return tracks


def _load_safetensors(path: Path) -> Tracks:
    if path.suffix.lower() != ".safetensors":
        raise InputError(f"{path} has the suffix '{path.suffix}'; give {DESCRIPTION}")
    header, tensors = read_tensors(path, DESCRIPTION, FORMAT, VERSIONS)
    try:
        return _from_tensors(
            tensors,
            frames=int(header["frames"]) if header["version"] == "2" else None,
            camera=Camera(**parse_json(header["camera"], CAMERA)),
            fps=float(header["fps"]),
            caption=header["caption"],
            scene_depth_m=float(header["scene_depth_m"]) if "scene_depth_m" in header else None,
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{path} is damaged or not a track file: {error_summary(error)}; make it again"
        ) from error


def quantise_tracks(tracks: Tracks) -> Tracks:
    """The tracks as `save_tracks` and `load_tracks` return them: motion in float16, colours in 8 bits.

    What is filmed is what is stored, so that a run that continues from a file gives the same views.
    """
    frames = tracks.frames if isinstance(tracks, UpsampledTracks) else None
    about = {name: getattr(tracks, name) for name in ("camera", "fps", "caption", "scene_depth_m")}
    return _from_tensors(_to_tensors(tracks), frames=frames, **about)


def quantise_filled_points(points: FilledPoints) -> FilledPoints:
    """The points as `save_filled_points` and `load_filled_points` return them: colours in 8 bits."""
    return replace(points, colours=to_uint8(points.colours).float() / 255)


def read_tensors(
    path: Path, what: str, known: str, versions: tuple[str, ...]
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file of the format `known`, in one of its `versions`."""
    check_readable(path, what)
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{path} is truncated or not a safetensors file ({error_summary(error)}); get a whole copy"
        ) from error
    # Tracks have their format and version in two entries, filled points in one.
    version = header.get("version") if header.get("format") == known else header.get(known)
    if version is None:
        raise InputError(f"{path} is not {what}: its format is not '{known}'; give one")
    if version not in versions:
        raise InputError(
            f"{path} has version {version} of the format '{known}'; known: {', '.join(versions)}"
        )
    return header, tensors


def _to_tensors(tracks: Tracks) -> dict[str, Tensor]:
    tracks = tracks.to("cpu")
    if isinstance(tracks, UpsampledTracks):
        motion, seen = tracks.motion, tracks.seen
        tensors = {"source": tracks.source.to(torch.int32).contiguous()}
        if tracks.objects is not None:
            tensors["objects"] = tracks.objects.to(torch.int16).contiguous()
    else:
        motion, seen = normalise_motion(tracks.positions, tracks.camera), tracks.visibility
        tensors = {}
    if float(motion.abs().max()) < _FLOAT16_LIMIT:
        motion = motion.half()
    tensors |= {
        "depth": tracks.depth_m.float().contiguous(),
        "motion": motion.contiguous(),
        "colours": to_uint8(tracks.colours),
        "visibility": torch.from_numpy(np.packbits(seen.numpy().reshape(-1))),
    }
    if isinstance(tracks, PointTracks):
        start = tracks.positions[0]
        on_rays = tracks.camera.unproject_depth(tensors["depth"])
        if not torch.allclose(on_rays, start, rtol=0, atol=1e-4 * float(tracks.footprint_m.min())):
            tensors["start"] = start.float().contiguous()
    return tensors


def _from_tensors(tensors: dict[str, Tensor], *, frames: int | None, camera: Camera, **about: Any) -> Tracks:
    """Tracks of version 2 if `frames` is given; `about` are their other fields."""
    motion, colours = tensors["motion"].float(), tensors["colours"].float() / 255
    shape = torch.Size((frames or len(motion), *motion.shape[1:3]))
    bits = np.unpackbits(tensors["visibility"].numpy(), count=shape.numel())
    seen = torch.from_numpy(bits.astype(bool)).reshape(shape)
    about |= {"colours": colours, "camera": camera}
    if frames is not None:
        source, depth_m = tensors["source"].long(), tensors["depth"]
        objects = tensors["objects"].long() if "objects" in tensors else None
        about |= {"objects": objects, "frames": frames}
        return UpsampledTracks(motion=motion, source=source, start_depth_m=depth_m, seen=seen, **about)
    start = tensors.get("start", camera.unproject_depth(tensors["depth"]))
    return PointTracks(positions=denormalise_motion(motion, start, camera), visibility=seen, **about)


def save_filled_points(path: Path, points: FilledPoints) -> None:
    """Write points; all values but the colours, which are stored as 8 bits, are exact.

    Raises:
        InputError: the folder cannot be written to.
    """
    tensors = {
        "positions": points.positions.cpu().float().contiguous(),
        "colours": to_uint8(points.colours.cpu()).contiguous(),
        "footprint": points.footprint_m.cpu().float().contiguous(),
        "frame": points.frame.cpu().to(torch.int32).contiguous(),
        "lasting": points.visible_in_all_frames.cpu().to(torch.uint8).contiguous(),
    }
    write_bytes(path, safetensors.torch.save(tensors, {FILLED_FORMAT: FILLED_VERSIONS[-1]}))


def load_filled_points(path: Path) -> FilledPoints:
    """Read what `save_filled_points` wrote.

    Raises:
        InputError: the file is missing, truncated, of another format or version, or holds impossible values.
    """
    _, tensors = read_tensors(path, FILLED_DESCRIPTION, FILLED_FORMAT, FILLED_VERSIONS)
    try:
        return FilledPoints(
            positions=tensors["positions"],
            colours=tensors["colours"].float() / 255,
            footprint_m=tensors["footprint"],
            frame=tensors["frame"].long(),
            visible_in_all_frames=tensors["lasting"].bool(),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged or not {FILLED_DESCRIPTION}: {error_summary(error)}") from error
