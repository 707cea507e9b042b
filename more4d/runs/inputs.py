"""The files of a job as tensors: its photo, the user's own depth, camera and tracks, and its camera paths."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.files.cameras import load_camera_path
from more4d.files.depth import load_depth
from more4d.files.image import load_image
from more4d.files.tracks import load_tracks
from more4d.files.video import read_first_frame
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.geometry.camera_path import CameraPath
from more4d.geometry.camera_paths import named_camera_path
from more4d.geometry.depth_map import DepthMap
from more4d.geometry.framing import MAX_ASPECT
from more4d.geometry.tracks import PointTracks
from more4d.runs.job import MAX_FRAMES, PIXEL_INTRINSICS_FROM, Job, check_intrinsics

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi")
SMALLEST_SIDE = 16
PIXELS_AT_ONCE = 4_000_000
MIN_FOCAL = 0.05
"""In image widths: a field of view of 169 degrees."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A photo as the user gave it, upright, with what the user knows about it."""

    image: Float[Tensor, "height width 3"]
    depth_m: Float[Tensor, "height width"] | None
    camera: Camera | None


def camera_path_of(camera: str, *, frames: int, source: Camera, scene_depth_m: float) -> CameraPath:
    """The path that a name or a JSON file stands for.

    Raises:
        InputError: as `check_camera`.
    """
    if camera.endswith(".json"):
        return load_camera_path(Path(camera), frames=frames, camera=source, scene_depth_m=scene_depth_m)
    return named_camera_path(camera, frames=frames, scene_depth_m=scene_depth_m, camera=source)


def load_photo(job: Job) -> Photo:
    """The picture of a job with the user's own depth and camera, if any.

    Raises:
        InputError: a file cannot be used, or the numbers do not fit the picture.
    """
    if job.image is None:
        raise ValueError(f"job '{job.name}' has no picture")
    # The picture's true size matters to intrinsics in pixels and to a depth map; else a large one is shrunk.
    limit = PIXELS_AT_ONCE if job.depth is None and job.intrinsics is None else None
    if job.image.suffix.lower() in VIDEO_SUFFIXES:
        image = read_first_frame(job.image)
    else:
        image = load_image(job.image, max_pixels=limit)
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise InputError(
            f"{job.image} is {width} x {height} pixels; a picture needs at least {SMALLEST_SIDE} on each side"
        )
    aspect = max(width / height, height / width)
    if aspect > 2 * MAX_ASPECT:
        raise InputError(
            f"{job.image} is {width} x {height} pixels, {aspect:.0f} times longer than wide; crop it to "
            f"at most {MAX_ASPECT:g}:1"
        )
    if aspect > MAX_ASPECT:
        _log.warning("%s is longer than %g:1; its ends are cropped", job.image, MAX_ASPECT)
    depth_m = None if job.depth is None else load_depth(job.depth, height=height, width=width)
    if depth_m is not None and bool(depth_m.isnan().any()):
        share = float(depth_m.isnan().float().mean())
        _log.warning("%s: %.1f %% of the depth is unknown and is put far away", job.depth, 100 * share)
    camera = (
        None if job.intrinsics is None else camera_from_intrinsics(job.intrinsics, height=height, width=width)
    )
    return Photo(image=image, depth_m=depth_m, camera=camera)


def load_user_tracks(job: Job) -> PointTracks:
    """The user's own tracks.

    Raises:
        InputError: the file cannot be used.
    """
    if job.tracks is None:
        raise ValueError(f"job '{job.name}' has no tracks")
    tracks = load_tracks(job.tracks)
    if tracks.frames > MAX_FRAMES:
        raise InputError(f"{job.tracks} has {tracks.frames} frames; at most {MAX_FRAMES} can be filmed")
    return tracks


def camera_from_intrinsics(numbers: tuple[float, float, float, float], *, height: int, width: int) -> Camera:
    """The camera that fx, fy, cx, cy stand for, of a picture of height x width.

    With fx above 10 all four are in pixels, cx and cy from the corner of the picture. Otherwise all four are
    normalised: fx in image widths, fy in image heights, cx and cy in [0, 1].

    Raises:
        InputError: no lens has these numbers.
    """
    check_intrinsics(numbers)
    fx, fy, cx, cy = numbers
    if fx > PIXEL_INTRINSICS_FROM:
        camera = Camera.from_pixels(fx, fy, cx, cy, width=width, height=height)
    else:
        camera = Camera(fx=fx, fy=fy, cx=cx, cy=cy)
    shown = ",".join(f"{number:g}" for number in numbers)
    if not (0 <= camera.cx <= 1 and 0 <= camera.cy <= 1):
        raise InputError(
            f"intrinsics {shown}: the principal point lies outside of the {width} x {height} picture; "
            "give fx,fy,cx,cy of the whole picture"
        )
    if min(camera.fx, camera.fy) < MIN_FOCAL:
        raise InputError(
            f"intrinsics {shown}: a focal length of {camera.fx:.3g} picture widths sees over 169 degrees; "
            "give fx and fy of this picture"
        )
    return camera


def depth_map_from_file(depth_m: Float[Tensor, "height width"], camera: Camera) -> DepthMap:
    """`DepthMap.from_raw` for a user's own depth, of which some is known."""
    return DepthMap.from_raw(torch.where(depth_m.isnan(), torch.zeros_like(depth_m), depth_m), camera)
