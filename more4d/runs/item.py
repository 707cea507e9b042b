"""The main job for one item: depth, tracks, and for every camera what it sees and the finished video.

Each stage reads what the stages before it wrote to the item's folder, so a run that is continued gives the
same files as one that went through.
"""

import platform
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import more4d
from more4d.files.depth_and_cameras import load_camera, load_depth, save_camera, save_camera_path, save_depth
from more4d.files.export import export_tracks
from more4d.files.fingerprint import file_fingerprint
from more4d.files.image import save_image
from more4d.files.previews import draw_tracks
from more4d.files.tracks import load_filled_points, load_tracks, save_filled_points, save_tracks
from more4d.files.video import write_mask_video, write_video
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.geometry.camera_path import CameraPath
from more4d.geometry.depth_map import DepthMap
from more4d.geometry.filled_points import FilledPoints
from more4d.geometry.framing import fit, fit_depth, working_size
from more4d.geometry.tracks import PointTracks
from more4d.pipelines.components import Components
from more4d.pipelines.fill_memory import composite_fill, unproject_fill
from more4d.pipelines.preset import Preset
from more4d.pipelines.progress import Progress, no_progress
from more4d.pipelines.tracks import image_to_tracks
from more4d.pipelines.views import finish_video
from more4d.pipelines.weighted_median import weighted_median_filter
from more4d.raster.interface import Rendering, render_tracks
from more4d.runs.item_sheet import save_item_sheet
from more4d.runs.job import (
    Job,
    camera_path_of,
    check_files,
    depth_map_from_file,
    load_photo,
    load_user_tracks,
)
from more4d.runs.record import RunRecord

DEFAULT_FRAMES = 49
TRACK_PARTS = ("strag", "trajectory_codec", "text", "motion_features", "clip")
VIEW_PARTS = ("vism", "video_codec", "text", "clip")
FILLED = "filled.safetensors"


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


def run_job(models: Components, job: Job, folder: Path, *, progress: Progress = no_progress) -> Result:
    """Do everything `job` asks for that is not done yet, into `folder`.

    Raises:
        InputError: an input cannot be used, or the folder holds something in the way.
        WeightsError: a network cannot be loaded.
    """
    run = _Run(models, job, folder, progress)
    try:
        check_files(job)
        return run.run()
    except BaseException as error:
        with suppress(InputError):  # a full disk must not hide why the run failed
            run.record.fail(" ".join(str(error).split()) or type(error).__name__)
        raise


def stage_names(job: Job) -> list[str]:
    """The stages of a job, in order: what a progress bar counts."""
    camera_stages = [f"{kind} {name}" for name in camera_folders(job) for kind in ("render", "view")]
    return [
        "depth",
        "tracks",
        *camera_stages,
        *(f"export {kind}" for kind in dict.fromkeys(job.exports)),
        "sheet",
    ]


def camera_folders(job: Job) -> dict[str, str]:
    """Folder name of each camera path of a job: its name, or the stem of its file.

    Raises:
        InputError: two different paths would write into one folder.
    """
    folders: dict[str, str] = {}
    for camera in job.cameras:
        name = Path(camera).stem if camera.endswith(".json") else camera
        if folders.get(name, camera) != camera:
            raise InputError(
                f"camera paths {folders[name]} and {camera} would both be called '{name}'; rename one file"
            )
        folders[name] = camera
    return folders


def export_files(kind: str, frames: int) -> list[str]:
    """What `files.export.export_tracks` writes for tracks of `frames` frames."""
    more = [f"scene_frames/frame_{frame:04d}.ply" for frame in range(frames)] if kind == "ply" else []
    return [f"scene.{kind}", *more]


def output_size(height: int, width: int, preset: Preset) -> tuple[int, int]:
    """The size of everything a preset makes from a picture of this shape: (height, width)."""
    rows, columns = working_size(height, width, pixels=preset.pixels, multiple=preset.multiple)
    return rows * preset.output_scale, columns * preset.output_scale


class _Run:
    """The stages of one job."""

    def __init__(self, models: Components, job: Job, folder: Path, progress: Progress) -> None:
        self.models, self.job, self.folder, self.progress = models, job, folder, progress
        self.record = RunRecord(folder, _about(models, job))
        self.stages_run = 0
        self._image: Tensor | None = None
        self._loaded_tracks: PointTracks | None = None

    def run(self) -> Result:
        cameras = camera_folders(self.job)
        depth_id = self._depth_stage()
        tracks_id = self._tracks_stage(depth_id)
        made = [tracks_id]
        views: dict[str, str] = {}
        for name, camera in cameras.items():
            render_id, views[name] = self._camera_stages(name, camera, tracks_id, views)
            made += [render_id, views[name]]
        frames = self._tracks().frames
        for kind in dict.fromkeys(self.job.exports):
            self._stage(
                f"export {kind}",
                [tracks_id],
                export_files(kind, frames),
                lambda report, kind=kind: export_tracks(self._tracks(), self.folder, kind),
            )
        title = self.job.prompt or self._tracks().caption or self.job.name
        fingerprint = self._stage(
            "sheet",
            [made, title, list(cameras)],
            ["sheet.png"],
            lambda report: save_item_sheet(self.folder, list(cameras), title),
        )
        files = tuple(self.record.files())
        return Result(folder=self.folder, fingerprint=fingerprint, files=files, stages_run=self.stages_run)

    def _depth_stage(self) -> str:
        job = self.job
        needs_network = job.tracks is None and (job.depth is None or job.intrinsics is None)
        inputs = {
            **{name: _content(getattr(job, name)) for name in ("image", "depth", "tracks")},
            "intrinsics": job.intrinsics,
            "size": [self.models.preset.pixels, self.models.preset.multiple, self.models.preset.output_scale],
            "weights": self.models.fingerprint("depth") if needs_network else None,
            "sharpen": self.models.preset.sharpen_depth,
        }

        def make(report: Progress) -> None:
            depth = self._estimate_depth()
            save_depth(self.folder / "depth.npy", torch.where(depth.valid, depth.depth_m, torch.nan))
            save_camera(self.folder / "camera.json", depth.camera)
            save_image(self.folder / "photo.png", self._working_image())

        return self._stage("depth", inputs, ["photo.png", "depth.npy", "depth.png", "camera.json"], make)

    def _estimate_depth(self) -> DepthMap:
        if self.job.tracks is not None:
            tracks = self._user_tracks()
            known = torch.ones(tracks.height, tracks.width, dtype=torch.bool)
            return DepthMap(depth_m=tracks.depth_m, valid=known, camera=tracks.camera)
        photo, image = load_photo(self.job), self._working_image()
        height, width = image.shape[:2]
        camera = photo.camera and fit(photo.image, photo.camera, height=height, width=width)[1]
        if photo.depth_m is not None and camera is not None:
            return fit_depth(depth_map_from_file(photo.depth_m, photo.camera), height=height, width=width)
        given = "depth" if photo.depth_m is not None else "intrinsics" if camera is not None else ""
        with self.models.free_after():
            estimate = self.models.depth_estimator(given).estimate(image, camera)
        if photo.depth_m is None and self.models.preset.sharpen_depth:
            return replace(estimate, depth_m=weighted_median_filter(estimate.depth_m, image))
        if photo.depth_m is None:
            return estimate
        own = fit_depth(
            depth_map_from_file(photo.depth_m, Camera(fx=1.0, fy=1.0)), height=height, width=width
        )
        return replace(own, camera=estimate.camera)

    def _tracks_stage(self, depth_id: str) -> str:
        job, preset = self.job, self.models.preset
        frames = job.frames or DEFAULT_FRAMES
        inputs: list[Any] = [depth_id]
        if job.tracks is None:
            weights = self.models.fingerprint(*TRACK_PARTS)
            inputs += [
                job.prompt,
                job.seed,
                frames,
                job.fps,
                weights,
                preset.frames,
                asdict(preset.tracks),
                [preset.median_motion_px, preset.smooth_motion_passes, preset.clip_image],
            ]

        def make(report: Progress) -> None:
            if job.tracks is not None:
                tracks = self._user_tracks()
            else:
                depth, image = self._scene_depth(), self._working_image()
                tracks = image_to_tracks(
                    self.models,
                    image,
                    depth,
                    job.prompt,
                    seed=job.seed,
                    frames=frames,
                    fps=job.fps,
                    progress=report,
                )
            notes = {"seed": str(job.seed), "model": f"{preset.name} {self.models.fingerprint(*TRACK_PARTS)}"}
            save_tracks(self.folder / "tracks.safetensors", tracks, metadata=notes | {"prompt": job.prompt})
            write_video(self.folder / "tracks.mp4", draw_tracks(tracks), fps=tracks.fps)

        return self._stage("tracks", inputs, ["tracks.safetensors", "tracks.mp4"], make)

    def _camera_stages(
        self, name: str, camera: str, tracks_id: str, views: Mapping[str, str]
    ) -> tuple[str, str]:
        """Rendering and view of one camera; `views` are the cameras before it and what their views are."""
        job, preset = self.job, self.models.preset
        earlier = dict(views) if preset.consistent_views else {}
        rendered: list[Rendering] = []  # kept from one stage to the next, if both are run

        def render(report: Progress) -> Rendering:
            if not rendered:
                path = self._path(camera)
                height, width = self._size()
                rendered.append(
                    render_tracks(
                        self._tracks(),
                        path,
                        height=height,
                        width=width,
                        progress=lambda done, total: report("", done, total),
                    )
                )
            return rendered[0]

        def make_render(report: Progress) -> None:
            rendering, fps = render(report), self._tracks().fps
            write_video(self.folder / name / "render.mp4", rendering.colour, fps=fps)
            write_mask_video(self.folder / name / "coverage.mkv", ~rendering.hole_mask, fps=fps)
            save_camera_path(self.folder / name / "camera_path.json", self._path(camera))

        def make_view(report: Progress) -> None:
            tracks, rendering = self._tracks(), render(lambda stage, done, total: None)
            prompt = job.prompt or tracks.caption
            if earlier:
                filled = [load_filled_points(self.folder / each / FILLED) for each in earlier]
                rendering = composite_fill(rendering, self._path(camera), FilledPoints.concat(filled))
            video = finish_video(
                self.models, rendering, tracks.colours, prompt, seed=job.seed, progress=report
            )
            filled_here = unproject_fill(video, rendering, self._path(camera))
            save_filled_points(self.folder / name / FILLED, filled_here)
            write_video(self.folder / name / "view.mp4", video, fps=tracks.fps)

        content = _content(Path(camera)) if camera.endswith(".json") else camera
        files = [f"{name}/{file}" for file in ("render.mp4", "coverage.mkv", "camera_path.json")]
        render_id = self._stage(f"render {name}", [tracks_id, content], files, make_render)
        settings = [preset.frames, preset.output_scale, asdict(preset.views), list(earlier.values())]
        inputs = [render_id, job.prompt, job.seed, self.models.fingerprint(*VIEW_PARTS), settings]
        files = [f"{name}/{file}" for file in ("view.mp4", FILLED)]
        return render_id, self._stage(f"view {name}", inputs, files, make_view)

    def _stage(self, name: str, inputs: Any, outputs: Iterable[str], make: Callable[[Progress], Any]) -> str:
        def report(stage: str, done: int, total: int) -> None:
            self.progress(name, min(done, total - 1), total)  # the last step is writing what was made

        self.progress(name, 0, 1)
        fingerprint, ran = self.record.stage(name, inputs, outputs, lambda: make(report))
        self.stages_run += ran
        self.progress(name, 1, 1)
        return fingerprint

    def _working_image(self) -> Float[Tensor, "height width 3"]:
        """The photo at the size everything is made at."""
        if self._image is None and self.job.tracks is not None:
            self._image = self._user_tracks().colours
        if self._image is None:
            image = load_photo(self.job).image
            height, width = output_size(*image.shape[:2], self.models.preset)
            self._image = fit(image, Camera(fx=1.0, fy=1.0), height=height, width=width)[0]
        return self._image

    def _scene_depth(self) -> DepthMap:
        height, width = self._working_image().shape[:2]
        depth_m = load_depth(self.folder / "depth.npy", height=height, width=width)
        return depth_map_from_file(depth_m, load_camera(self.folder / "camera.json"))

    def _user_tracks(self) -> PointTracks:
        return load_user_tracks(self.job)

    def _tracks(self) -> PointTracks:
        """As the file has them, whether just written or found there; only after their stage."""
        if self._loaded_tracks is None:
            self._loaded_tracks = load_tracks(self.folder / "tracks.safetensors")
        return self._loaded_tracks

    def _size(self) -> tuple[int, int]:
        return output_size(*self._working_image().shape[:2], self.models.preset)

    def _path(self, camera: str) -> CameraPath:
        """The camera path, for a film of the output's shape: own tracks may have another."""
        tracks = self._tracks()
        height, width = self._size()
        _, source = fit(tracks.colours, tracks.camera, height=height, width=width)
        depth_m = self._scene_depth().scene_depth_m
        return camera_path_of(camera, frames=tracks.frames, source=source, scene_depth_m=depth_m)


def _content(path: Path | None) -> str | None:
    return None if path is None else file_fingerprint(path)


def _about(models: Components, job: Job) -> dict[str, Any]:
    """What `run.json` says of the run as a whole."""
    asked = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(job).items()}
    preset = asdict(models.preset)
    return {
        "job": asked,
        "preset": models.preset.name,
        "settings": {
            "parts" if key == "components" else key: value  # as run.json has always called them
            for key, value in preset.items()
            if key not in ("name", "loras")
        },
        "weights": {
            part: models.fingerprint(part) for part in dict.fromkeys(("depth", *TRACK_PARTS, *VIEW_PARTS))
        },
        "loras": {
            part: [{"file": str(lora.path), "strength": lora.strength} for lora in each]
            for part, each in models.loras.items()
        },
        "device": str(models.device),
        "software": {
            "more4d": more4d.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
