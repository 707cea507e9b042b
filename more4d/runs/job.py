"""One item of work: a photo (or tracks), what shall happen, and the cameras that film it."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.files.depth_and_cameras import load_camera_path, load_depth
from more4d.files.export import check_export_kind
from more4d.files.image import load_image
from more4d.files.tracks import load_tracks
from more4d.files.video import read_first_frame
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.geometry.camera_path import CameraPath
from more4d.geometry.camera_paths import check_camera_path_name, named_camera_path
from more4d.geometry.depth_map import DepthMap
from more4d.geometry.framing import MAX_ASPECT
from more4d.geometry.tracks import PointTracks

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi")
MAX_FRAMES = 400
SMALLEST_SIDE = 16
PIXELS_AT_ONCE = 4_000_000
MIN_FOCAL = 0.05
"""In image widths: a field of view of 169 degrees."""
PIXEL_INTRINSICS_FROM = 10.0
"""A focal length above this is in pixels: in image widths it would be a view of under 6 degrees."""
DEFAULT_CAMERAS = ("orbit", "forward_backward", "surrounding")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one item needs; `check` refuses what cannot work before any network is loaded.

    Attributes:
        name: of the item and of its folder.
        image: a picture, or a video whose first frame is taken; may be absent if `tracks` are given.
        prompt: what happens.
        cameras: names of camera paths, or paths of their JSON files.
        depth: the user's own depth map.
        intrinsics: fx, fy, cx, cy of the whole photo, in pixels or normalised (see `camera_from_intrinsics`).
        tracks: the user's own tracks; nothing is generated but what fills holes.
        seed: of everything random.
        frames: of the result; the tracks' own if they are given.
        fps: frames per second.
        exports: kinds of `files.export.EXPORTS`.
    """

    name: str
    image: Path | None
    prompt: str
    cameras: tuple[str, ...] = DEFAULT_CAMERAS
    depth: Path | None = None
    intrinsics: tuple[float, float, float, float] | None = None
    tracks: Path | None = None
    seed: int = 0
    frames: int | None = None
    fps: float = 12.0
    exports: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A photo as the user gave it, upright, with what the user knows about it."""

    image: Float[Tensor, "height width 3"]
    depth_m: Float[Tensor, "height width"] | None
    camera: Camera | None


def check(job: Job) -> None:
    """Refuse a job that cannot work, by everything but its files: those are one item's own matter.

    Raises:
        InputError: one line that names the value and the way out.
    """
    if job.image is None and job.tracks is None:
        raise InputError("there is nothing to start from; give a photo (or tracks with --tracks)")
    if job.tracks is None and not job.prompt.strip():
        raise InputError(
            "the prompt is empty; say what shall happen, for example --prompt 'the dog runs to the left'"
        )
    if job.tracks is not None:
        _check_tracks_only(job)
    check_values(job)
    for camera in job.cameras:
        check_camera(camera)


def check_values(job: Job) -> None:
    """Refuse what no photo, prompt or file could make possible.

    Raises:
        InputError: one line that names the value and the way out.
    """
    if job.frames is not None and not 1 <= job.frames <= MAX_FRAMES:
        raise InputError(f"the number of frames must lie between 1 and {MAX_FRAMES}, got {job.frames}")
    if not (math.isfinite(job.fps) and 0.1 <= job.fps <= 240):
        raise InputError(f"frames per second must lie between 0.1 and 240, got {job.fps:g}")
    for kind in job.exports:
        check_export_kind(kind)
    if job.intrinsics is not None:
        _check_intrinsics(job.intrinsics)


def check_files(job: Job) -> None:
    """Refuse a job whose files are not there.

    Raises:
        InputError: names the file.
    """
    for path in (job.image, job.depth, job.tracks):
        if path is not None and not path.is_file():
            raise InputError(
                f"{path} is a folder; give the file itself (or a --list of many)"
                if path.exists()
                else f"there is no file {path}; check the path"
            )


def check_camera(camera: str) -> None:
    """Refuse the name of a camera path that does not exist, and a file that is none.

    Raises:
        InputError: lists the names, or says what is wrong with the file.
    """
    if camera.endswith(".json"):
        load_camera_path(Path(camera), frames=2, camera=Camera(fx=1.0, fy=1.0), scene_depth_m=1.0)
    else:
        check_camera_path_name(camera)


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
    _check_intrinsics(numbers)
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


def _check_tracks_only(job: Job) -> None:
    """Own tracks hold picture, depth, camera and frames already."""
    given = {
        "a photo": job.image,
        "a depth map": job.depth,
        "intrinsics": job.intrinsics,
        "a number of frames": job.frames,
    }
    extra = [name for name, value in given.items() if value is not None]
    if extra:
        raise InputError(f"{job.tracks} already holds {extra[0]}; leave that out, or leave out the tracks")


def _check_intrinsics(numbers: tuple[float, float, float, float]) -> None:
    shown = ",".join(f"{number:g}" for number in numbers)
    fx, fy = numbers[:2]
    if not all(math.isfinite(number) for number in numbers) or min(fx, fy) <= 0:
        raise InputError(f"intrinsics {shown}: fx,fy,cx,cy must be finite, and fx and fy positive")
    if (fx > PIXEL_INTRINSICS_FROM) != (fy > PIXEL_INTRINSICS_FROM):
        raise InputError(
            f"intrinsics {shown}: fx and fy must both be in pixels (above {PIXEL_INTRINSICS_FROM:g}) or both "
            "normalised (fx in picture widths, fy in picture heights)"
        )
