"""The main job for one item, in a folder: what is there already is not made again.

Each stage reads what the stages before it wrote, at the precision at which it is stored, so a run that is
continued gives the same files as one that went through.
"""

import platform
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.files.atomic import file_fingerprint
from more4d.files.depth_and_cameras import load_camera, load_depth
from more4d.files.export import export_tracks
from more4d.files.scene_folder import (
    DEPTH_FILES,
    FILLED,
    RENDER_FILES,
    SHEET,
    TRACKS,
    TRACKS_FILES,
    VIEW_FILES,
    save_depth_stage,
    save_render_stage,
    save_scene_sheet,
    save_tracks_stage,
    save_view_stage,
)
from more4d.files.tracks import load_filled_points, load_tracks, quantise_tracks
from more4d.foundation.errors import InputError
from more4d.geometry.camera import CameraPath, DepthMap
from more4d.geometry.tracks import Tracks, depth_of_tracks
from more4d.pipeline import DEFAULT_FRAMES, TRACK_COMPONENTS, VIEW_COMPONENTS, More4DPipeline
from more4d.pipelines.cameras import CameraSpec
from more4d.pipelines.depth import Photo, depth_map_from_file, read_photo
from more4d.pipelines.sampling import Progress, no_progress
from more4d.pipelines.views import completed_frames
from more4d.raster.registry import AUTO
from more4d.runs.job import Job, camera_folders, check_files, load_user_tracks
from more4d.runs.record import RunRecord


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a job wrote.

    Attributes:
        folder: of the item.
        files: relative to the folder.
        stages_run: how many stages had something to do.
        fingerprint: a short name for everything the result was made from.
    """

    folder: Path
    fingerprint: str
    files: tuple[str, ...]
    stages_run: int


def run_job(pipe: More4DPipeline, job: Job, folder: Path, *, progress: Progress = no_progress) -> Result:
    """Do everything `job` asks for that is not done yet, into `folder`.

    Raises:
        InputError: an input cannot be used, or the folder holds something in the way.
        WeightsError: a network cannot be loaded.
    """
    item = _Item(pipe, job, folder, progress)
    try:
        check_files(job)
        return _run_stages(item)
    except BaseException as error:
        with suppress(InputError):  # a full disk must not hide why the run failed
            item.record.fail(" ".join(str(error).split()) or type(error).__name__)
        raise


def stage_names(job: Job) -> list[str]:
    """The stages of a job, in order: what a progress bar counts."""
    camera_stages = [f"{kind} {name}" for name in camera_folders(job) for kind in ("render", "view")]
    exports = [f"export {kind}" for kind in dict.fromkeys(job.exports)]
    return ["depth", "tracks", *camera_stages, *exports, "sheet"]


def export_files(kind: str, frames: int) -> list[str]:
    """What `files.export.export_tracks` writes for tracks of `frames` frames."""
    more = [f"scene_frames/frame_{frame:04d}.ply" for frame in range(frames)] if kind == "ply" else []
    return [f"scene.{kind}", *more]


@dataclass
class _Item:
    """One item as its stages share it: the folder, its record, and values that are in memory already."""

    pipe: More4DPipeline
    job: Job
    folder: Path
    progress: Progress
    record: RunRecord = field(init=False)
    stages_run: int = 0

    def __post_init__(self) -> None:
        self.record = RunRecord(self.folder, _about(self.pipe, self.job))

    @cached_property
    def image(self) -> Float[Tensor, "height width 3"]:
        """The image at the size of its films; of own tracks, their colours."""
        job = self.job
        if job.tracks is not None:
            return load_user_tracks(job.tracks).colours
        return self.pipe.prepare_image(_photo(self))

    @property
    def depth(self) -> DepthMap:
        """As stored by the depth stage."""
        height, width = self.image.shape[:2]
        depth_m = load_depth(self.folder / "depth.npy", height=height, width=width)
        return depth_map_from_file(depth_m, load_camera(self.folder / "camera.json"))

    @cached_property
    def tracks(self) -> Tracks:
        """As stored by the tracks stage, at its precision."""
        return load_tracks(self.folder / TRACKS)

    def stage(self, name: str, inputs: Any, outputs: Iterable[str], make: Callable[[], None]) -> str:
        """As `RunRecord.stage`, with progress; returns the fingerprint."""
        self.progress(name, 0, 1)
        fingerprint, was_run = self.record.stage(name, inputs, outputs, make)
        self.stages_run += was_run
        self.progress(name, 1, 1)
        return fingerprint

    def report(self, stage: str) -> Progress:
        """Reports steps under the name of a stage of the record; its last step is writing the files."""
        return lambda _, done, total: self.progress(stage, min(done, total - 1), total)


def _run_stages(item: _Item) -> Result:
    job = item.job
    cameras = camera_folders(job)
    depth_id = _make_depth(item)
    tracks_id = _make_tracks(item, depth_id)
    made, views = [tracks_id], {}
    for name, camera in cameras.items():
        render_id, views[name] = _film_camera(item, name, camera, tracks_id, dict(views))
        made += [render_id, views[name]]
    for kind in dict.fromkeys(job.exports):
        item.stage(
            f"export {kind}",
            [tracks_id],
            export_files(kind, item.tracks.frames),
            lambda kind=kind: export_tracks(item.tracks, item.folder, kind),
        )
    title = job.prompt or item.tracks.caption or job.name
    return Result(
        folder=item.folder,
        fingerprint=item.stage(
            "sheet",
            [made, title, list(cameras)],
            [SHEET],
            lambda: save_scene_sheet(item.folder, list(cameras), title),
        ),
        files=tuple(item.record.files()),
        stages_run=item.stages_run,
    )


def _make_depth(item: _Item) -> str:
    """Stage 1. Returns its fingerprint, as the functions of the other stages do."""
    job, pipe = item.job, item.pipe
    needs_network = job.tracks is None and (job.depth is None or job.intrinsics is None)
    files = {"image": job.image, "depth": job.depth, "tracks": job.tracks}
    inputs = {
        **{name: path and file_fingerprint(path) for name, path in files.items()},
        "intrinsics": job.intrinsics,
        "size": [pipe.preset.pixels, pipe.preset.multiple, pipe.preset.size],
        "weights": pipe.components.fingerprint("depth") if needs_network else None,
        "sharpen": pipe.preset.sharpen_depth,
    }

    def make() -> None:
        if job.tracks is None:
            photo = _photo(item)
            item.image = pipe.prepare_image(photo)
            depth = pipe.estimate_depth(photo)
        else:
            tracks = load_user_tracks(job.tracks)
            item.image, depth = tracks.colours, depth_of_tracks(tracks)
        save_depth_stage(item.folder, item.image, depth)

    return item.stage("depth", inputs, DEPTH_FILES, make)


def _make_tracks(item: _Item, depth_id: str) -> str:
    """Stage 2: generated, or the user's own."""
    job, pipe, preset = item.job, item.pipe, item.pipe.preset
    frames = job.frames or DEFAULT_FRAMES
    inputs: list[Any] = [depth_id]
    if job.tracks is None:
        inputs += [
            job.prompt,
            job.seed,
            frames,
            job.fps,
            pipe.components.fingerprint(*TRACK_COMPONENTS),
            preset.frames,
            asdict(preset.tracks),
            [preset.median_motion_px, preset.smooth_motion_passes, preset.whole_objects, preset.clip_image],
            [file_fingerprint(mask) for mask in job.masks],
        ]

    def make() -> None:
        if job.tracks is None:
            settings = {"num_frames": frames, "fps": job.fps, "seed": job.seed}
            tracks = pipe.generate_tracks(
                _photo(item), item.depth, job.prompt, **settings, callback=item.report("tracks")
            )
        else:
            tracks = quantise_tracks(load_user_tracks(job.tracks))
        save_tracks_stage(item.folder, tracks, pipe.tracks_metadata(job.seed) | {"prompt": job.prompt})
        item.tracks = tracks

    return item.stage("tracks", inputs, TRACKS_FILES, make)


def _film_camera(
    item: _Item, name: str, camera: CameraSpec, tracks_id: str, views: dict[str, str]
) -> tuple[str, str]:
    """Stages 3 and 4 of one camera; `views` are the cameras before it and the fingerprints of their views."""
    job, pipe, preset, folder = item.job, item.pipe, item.pipe.preset, item.folder / name
    earlier = views if preset.consistent_views else {}
    rendering = None

    def camera_path() -> CameraPath:
        return pipe.camera_path(camera, item.tracks)

    def render() -> None:
        nonlocal rendering
        path = camera_path()
        rendering = pipe.render(item.tracks, path, callback=item.report(f"render {name}"))
        covered = (~holes for holes in rendering.hole_mask)
        save_render_stage(folder, rendering.colour, covered, path, fps=item.tracks.fps)

    def film() -> None:
        path = camera_path()
        view = pipe.film(
            item.tracks,
            path,
            job.prompt,
            # Rendered again if the render stage was finished before: render.mp4 is lossy.
            rendering=rendering or pipe.render(item.tracks, path),
            earlier=[load_filled_points(item.folder / each / FILLED) for each in earlier],
            seed=job.seed,
            callback=item.report(f"view {name}"),
        )
        save_view_stage(folder, completed_frames(view.rendering, view.fill), view.filled, fps=item.tracks.fps)

    # The automatic choice is one of the z-buffers, which agree bit for bit: it is no input of the stage.
    raster = [] if preset.raster == AUTO else [preset.raster]
    inputs = [tracks_id, camera.content(), preset.size, preset.supersampling, *raster]
    render_id = item.stage(f"render {name}", inputs, [f"{name}/{file}" for file in RENDER_FILES], render)
    settings = [preset.frames, asdict(preset.views), list(earlier.values())]
    weights = pipe.components.fingerprint(*VIEW_COMPONENTS)
    inputs = [render_id, job.prompt, job.seed, weights, settings]
    return render_id, item.stage(f"view {name}", inputs, [f"{name}/{file}" for file in VIEW_FILES], film)


def _photo(item: _Item) -> Photo:
    """The job's image with the user's own depth, intrinsics and masks."""
    job = item.job
    known = {"depth": job.depth, "intrinsics": job.intrinsics, "mask": job.masks or None}
    return read_photo(job.image, **known, size=item.pipe.film_size)


def _about(pipe: More4DPipeline, job: Job) -> dict[str, Any]:
    """What `run.json` says of the run as a whole."""
    import more4d

    components = pipe.components
    recorded = dict.fromkeys(("depth", *TRACK_COMPONENTS, *VIEW_COMPONENTS))
    return {
        "job": job.as_dict(),
        "preset": components.preset.name,
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
