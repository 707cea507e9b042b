"""One item of work: a photo (or tracks), what shall happen, and the cameras that film it.

Imports no torch: what the arguments and lists alone decide is refused before that is imported.
`runs.inputs` reads the files of a job.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from more4d.foundation.errors import InputError
from more4d.geometry.camera_recipes import check_camera_path_name

MAX_FRAMES = 400
PIXEL_INTRINSICS_FROM = 10.0
"""A focal length above this is in pixels: in image widths it would be a view of under 6 degrees."""
EXPORT_KINDS = ("ply", "npz", "glb")
"""Keys of `files.export.EXPORTS`, whose module imports torch."""
DEFAULT_CAMERAS = ("orbit", "forward_backward", "surrounding")


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
        if kind not in EXPORT_KINDS:
            raise InputError(f"unknown export '{kind}'; known kinds: {', '.join(EXPORT_KINDS)}")
    if job.intrinsics is not None:
        check_intrinsics(job.intrinsics)


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
        if not Path(camera).exists():
            raise InputError(f"cannot read {camera}: No such file or directory; give a JSON file of keyframes")
        # Only the content of a file needs torch; a name is refused without it.
        from more4d.files.cameras import load_camera_path
        from more4d.geometry.camera import Camera

        load_camera_path(Path(camera), frames=2, camera=Camera(fx=1.0, fy=1.0), scene_depth_m=1.0)
    else:
        check_camera_path_name(camera)


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


def check_intrinsics(numbers: tuple[float, float, float, float]) -> None:
    shown = ",".join(f"{number:g}" for number in numbers)
    fx, fy = numbers[:2]
    if not all(math.isfinite(number) for number in numbers) or min(fx, fy) <= 0:
        raise InputError(f"intrinsics {shown}: fx,fy,cx,cy must be finite, and fx and fy positive")
    if (fx > PIXEL_INTRINSICS_FROM) != (fy > PIXEL_INTRINSICS_FROM):
        raise InputError(
            f"intrinsics {shown}: fx and fy must both be in pixels (above {PIXEL_INTRINSICS_FROM:g}) or both "
            "normalised (fx in picture widths, fy in picture heights)"
        )
