"""One item of work: an image (or tracks), a prompt, and the cameras that film it.

Jobs are read and checked before torch is imported: what needs it is imported inside the functions.
"""

import logging
import platform
from dataclasses import asdict, dataclass, fields, replace
from os.path import dirname, realpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from more4d.files.depth_units import METRIC, check_depth_options, check_depth_suffix
from more4d.files.video_formats import DEFAULT_CODEC, check_film_format
from more4d.foundation.errors import InputError
from more4d.geometry.intrinsics import check_fov, check_intrinsics
from more4d.pipelines.camera_spec import CameraChooser
from more4d.pipelines.camera_words import steered
from more4d.pipelines.cameras import (
    CameraSpec,
    check_request,
    check_timing,
    folder_name,
    parse_cameras,
    prompt_of,
)
from more4d.pipelines.motion_control import NEUTRAL, MotionControl
from more4d.pipelines.preset import TEXTURE
from more4d.raster.registry import AUTO

if TYPE_CHECKING:
    from more4d.pipeline import More4DPipeline

TRACK_SUFFIXES = (".safetensors", ".npz")
"""What `files.tracks` reads, whose module imports torch."""
EXPORT_FILES = {
    **{kind: (f"scene.{kind}",) for kind in ("html", "glb", "usd", "4dgs", "spz", "splat", "npz")},
    **{f"gaussian-{suffix}": (f"scene_gaussians.{suffix}",) for suffix in ("glb", "ply")},
    **{"gaussian-frames": ("scene_gaussians",), "ply": ("scene.ply", "scene_frames")},
    "cameras": ("scene_cameras",),
}
"""What the kinds of `runs.exports.KINDS`, whose module imports torch, put into the folder of an item."""
EXPORT_PACKAGES = {"usd": "pxr", "4dgs": "fourdgs"}
"""Of kinds that need one, which is in the extra of the kind's name."""
BATCH_FILES = ("run.json", "sheet.png", "index.html")
"""Files beside the folders of the items."""

_log = logging.getLogger(__name__)
ITEM_FILES = (
    *BATCH_FILES,
    *("photo.png", "depth.npy", "depth.png", "camera.json", "tracks.safetensors", "tracks.mp4"),
    *("cameras.png", "gaussians.safetensors", "gaussians.part.safetensors", "gaussians.png", "paths"),
)
"""Files beside the folders of an item's cameras."""
DEFAULT_CAMERAS = parse_cameras(("auto:2",))


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one item needs; `check` refuses what cannot work before any network is loaded.

    Attributes:
        name: of the item and of its folder.
        image: a picture, or a video whose first frame is taken; may be absent if `tracks` are given.
        prompt: what happens.
        cameras: the camera paths to film.
        chooser: who likes which path, where cameras are chosen.
        depth: the user's own depth map.
        depth_unit: of its values, if not as its format says; see `files.depth_units.parse_depth_unit`.
        depth_kind: of `files.depth_units.DEPTH_KINDS`.
        intrinsics: fx, fy, cx, cy of the whole image, in pixels or normalised; see
            `geometry.intrinsics.camera_from_intrinsics`.
        fov: horizontal field of view of the whole image in degrees, in place of intrinsics.
        masks: pictures of what may move, white or by number; see `pipelines.moving_objects`.
        control: what is asked of motion besides words.
        tracks: the user's own tracks; only holes of the views are generated.
        seed: of everything random.
        frames: of the result; the tracks' own if they are given.
        fps: frames per second.
        exports: kinds of `files.export.EXPORTS`.
        video_codec: of the finished films; see `files.video_formats`.
        alpha: whether they have opacity; see `pipelines.views.frames_with_alpha`.
        animation: the suffix of an animation of the first camera, if there is to be one.
        gaussians: whether a scene of Gaussians is made of its films; see `runs.reconstruct`.
    """

    name: str
    image: Path | None
    prompt: str
    cameras: tuple[CameraSpec, ...] = DEFAULT_CAMERAS
    chooser: CameraChooser | None = None
    depth: Path | None = None
    depth_unit: str | None = None
    depth_kind: str = METRIC
    intrinsics: tuple[float, float, float, float] | None = None
    fov: float | None = None
    masks: tuple[Path, ...] = ()
    control: MotionControl = NEUTRAL
    tracks: Path | None = None
    seed: int = 0
    frames: int | None = None
    fps: float = 12.0
    exports: tuple[str, ...] = ()
    video_codec: str = DEFAULT_CODEC
    alpha: bool = False
    animation: str | None = None
    gaussians: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, for the run record."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "chooser"}
        values["cameras"] = [str(camera) for camera in self.cameras]
        values["masks"] = [str(mask) for mask in self.masks]
        values |= {} if self.chooser is None else {"chooser": str(self.chooser)}
        if not self.gaussians:  # so that records of before there was a choice are those of now
            del values["gaussians"]
        if self.control.neutral:
            del values["control"]
        else:
            values["control"] = self.control.as_dict()
        return {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}


def check(job: Job) -> None:
    """Refuse a job that cannot work, by everything but its files: those concern one item of a list only.

    Raises:
        InputError: one line that names the value and the way out.
    """
    if job.image is None and job.tracks is None:
        raise InputError("there is nothing to start from; give a photo or tracks")
    if job.tracks is None:
        check_request(job.prompt, job.frames, job.fps, job.control, masked=bool(job.masks))
    else:
        _check_tracks_only(job)
    check_values(job)
    for camera in job.cameras:
        camera.check(job.frames if job.tracks is None else 0)


def check_values(job: Job) -> None:
    """Refuse what no image, prompt or file could make possible.

    Raises:
        InputError: one line that names the value and the way out.
    """
    check_timing(job.frames, job.fps)
    job.control.check()
    for kind in job.exports:
        if kind not in EXPORT_FILES:
            raise InputError(f"unknown export '{kind}'; known kinds: {', '.join(EXPORT_FILES)}")
    check_film_format(job.video_codec, alpha=job.alpha, animation=job.animation)
    if job.chooser is not None:
        job.chooser.check(job.cameras)
    if job.animation is not None and not job.cameras:
        raise InputError(f"the {job.animation} shows what the first camera films; give a camera path")
    if "cameras" in job.exports and not job.cameras:
        raise InputError("--export cameras writes camera paths, and there is none; give a --camera")
    if job.gaussians and not job.cameras:
        raise InputError("Gaussians are made from films; give a camera path, or better three")
    if job.depth_unit is not None or job.depth_kind != METRIC:
        given = job.depth is not None or Path(job.image or "").suffix.lower() == ".r3d"
        check_depth_options(job.depth_unit, job.depth_kind, given=given)
    if job.fov is not None:
        check_fov(job.fov)
    if job.intrinsics is not None:
        check_intrinsics(job.intrinsics)
        if job.fov is not None:
            raise InputError("intrinsics say the field of view already; leave one of the two out")


def check_files(job: Job) -> None:
    """Refuse a job whose files are not there, or are of another kind by their names.

    Raises:
        InputError: names the file.
    """
    drawn = (stroke.mask for stroke in job.control.strokes)
    for path in (job.image, job.depth, job.tracks, *job.masks, *drawn):
        if path is not None and path.is_dir():
            raise InputError(f"{path} is a folder; give the file itself (--list takes many)")
        if path is not None and not path.is_file():
            special = f"{path} is a pipe or a device; write its contents into a file and give that"
            raise InputError(special if path.exists() else f"there is no file {path}; check the path")
    if job.depth is not None:
        check_depth_suffix(job.depth)
    if job.tracks is not None and job.tracks.suffix.lower() not in TRACK_SUFFIXES:
        raise InputError(
            f"{job.tracks} has the suffix '{job.tracks.suffix}'; tracks are read from "
            f"{', '.join(TRACK_SUFFIXES)} files"
        )


def with_spoken_cameras(job: Job) -> Job:
    """The job with what its prompt says of the camera in place of `auto`.

    A prompt that speaks of nothing else is as good as none.
    """
    prompt, cameras = steered(job.prompt, camera_folders(job))
    if prompt == job.prompt:
        return job
    prompt = prompt_of(job.prompt, prompt, needless=job.tracks is not None or bool(job.control.strokes))
    return replace(job, prompt=prompt, cameras=tuple(cameras.values()))


def control_inputs(job: Job) -> list[Any]:
    """What tracks depend on of the control of motion; nothing if nothing was asked."""
    from more4d.files.atomic import file_fingerprint

    if job.control.neutral:
        return []
    masks = [stroke.mask for stroke in job.control.strokes if stroke.mask is not None]
    return [job.control.as_dict(), [file_fingerprint(mask) for mask in masks]]


def camera_folders(job: Job) -> dict[str, CameraSpec]:
    """The cameras of a job by the name of their folder.

    Raises:
        InputError: two different paths would write into one folder, or one where a file is.
    """
    folders: dict[str, CameraSpec] = {}
    taken = {*ITEM_FILES, *(name for kind in job.exports for name in EXPORT_FILES[kind])}
    for camera in job.cameras:
        if camera.name.lower() in taken:
            raise InputError(
                f"camera path {camera} would be filmed into a folder called '{camera.name}', the name of a"
                " file of each item; rename it"
            )
        other = folders.setdefault(camera.name, camera)
        if other != camera:
            raise InputError(
                f"camera paths {other} and {camera} would both be called '{camera.name}'; rename one file"
            )
    return folders


def stage_names(job: Job, *, fill: str) -> list[str]:
    """The stages of a job, in order: what a progress bar counts.

    Args:
        fill: that of the preset. A background is completed once all cameras have filled their holes; films
            without one are finished camera by camera.
    """
    chosen = any(camera.choose for camera in job.cameras)
    # what `auto` will be is not known yet, only how many
    names = [
        f"{name} {number + 1}" if camera.choose else name
        for name, camera in camera_folders(job).items()
        for number in range(camera.choose or 1)
    ]
    kinds = ("render", "fill") if fill == TEXTURE else ("render", "fill", "view")
    camera_stages = [f"{kind} {name}" for name in names for kind in kinds]
    if fill == TEXTURE and names:
        camera_stages += ["background", *(f"view {name}" for name in names)]
    exports = [f"export {kind}" for kind in dict.fromkeys(job.exports)]
    animation = [f"animation {job.animation}"] if job.animation else []
    gaussians = [*(f"frozen {name}" for name in names), "gaussians"] if job.gaussians else []
    return [
        "depth",
        "tracks",
        *(["cameras"] if chosen else ()),
        *camera_stages,
        *gaussians,
        *exports,
        *animation,
        "sheet",
    ]


def _check_tracks_only(job: Job) -> None:
    """Own tracks hold image, depth, camera and frames already."""
    given = {
        "a photo": job.image,
        "a depth map": job.depth,
        "intrinsics": job.intrinsics,
        "a field of view": job.fov,
        "masks": job.masks or None,
        "what moves": None if job.control.neutral else job.control,
        "a number of frames (--frames)": job.frames,
    }
    extra = [name for name, value in given.items() if value is not None]
    if extra:
        raise InputError(f"{job.tracks} already holds {extra[0]}; leave out one of the two")


def unique_names(jobs: list[Job]) -> list[Job]:
    """The jobs with names that can be folders, each once: a repeated name gets a number."""
    named: list[Job] = []
    taken: set[str] = set()
    for job in jobs:
        plain, count = folder_name(job.name), 1
        if plain.lower() in BATCH_FILES:
            plain = plain.replace(".", "_")
        name = plain
        while name.casefold() in taken:  # disks of macOS take names that differ in case for one
            count += 1
            name = f"{plain}-{count}"
        taken.add(name.casefold())
        named.append(replace(job, name=name))
    return named


def job_identity(job: Job) -> str | None:
    """A short name for photo (or tracks), prompt, seed and motion, whose folder it is; None: no such file."""
    from more4d.files.atomic import file_fingerprint, fingerprint

    source = job.image or job.tracks
    if source is None or not source.is_file():
        return None
    masks = [file_fingerprint(mask) for mask in job.masks if mask.is_file()]
    motion = [*(() if job.control.neutral else (job.control.as_dict(),)), *([masks] if masks else [])]
    return fingerprint([file_fingerprint(source), " ".join(job.prompt.split()), job.seed, *motion])


def about_run(pipe: "More4DPipeline", job: Job) -> dict[str, Any]:
    """What `run.json` says of the run as a whole."""
    import torch

    import more4d
    from more4d.pipeline import VIEW_COMPONENTS
    from more4d.pipelines.prompt_words import understand
    from more4d.pipelines.tracks import TRACK_COMPONENTS

    components = pipe.components
    recorded = dict.fromkeys(("depth", *TRACK_COMPONENTS, *VIEW_COMPONENTS))
    return {
        "job": job.as_dict(),
        "identity": job_identity(job),
        "preset": components.preset.name,
        **({} if job.tracks is not None else {"understood": understand(job.prompt, components.preset).said}),
        "settings": {
            key: value
            for key, value in asdict(components.preset).items()
            if key not in ("name", "loras") and (key, value) != ("raster", AUTO)
        },
        "weights": {component: components.fingerprint(component) for component in recorded},
        "loras": {
            component: [{"file": str(lora.path), "strength": lora.strength} for lora in each]
            for component, each in components.loras.items()
        },
        "device": str(components.device),
        "software": {
            "more4d": more4d.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def own_folders(jobs: list[Job], output: Path) -> list[Job]:
    """The jobs with the names of folders in `output` that are free or theirs (`job_identity`).

    A run that is started again goes on in its folder and replaces nothing else: `goat` is followed by
    `goat-2`. Other cameras, frames, sizes or weights are made anew in the same folder. Items whose files are
    missing keep their names: they fail when run.

    Raises:
        InputError: a folder holds a `run.json` that is not ours.
    """
    from more4d.runs.record import read_identity

    named: list[Job] = []
    taken = {job.name for job in jobs}
    for job in jobs:
        identity = job_identity(job)
        if identity is not None:
            names = (job.name, *(f"{job.name}-{count}" for count in range(2, 100_000)))
            name = next(
                name
                for name in names
                if (name == job.name or name not in taken)
                and read_identity(output / name) in (None, identity)
                and (job.tracks is None or realpath(output / name) != dirname(realpath(job.tracks)))
            )
            if name != job.name:
                _log.warning(
                    "%s was made from another photo, prompt, seed or motion; this one goes to %s",
                    *(output / job.name, output / name),
                )
            taken.add(name)
            job = replace(job, name=name)
        named.append(job)
    return named
