"""The main job for one item, in a folder: what is there already is not made again.

Each stage reads what the stages before it wrote, at the precision at which it is stored, so a run that is
continued gives the same files as one that went through.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from more4d.files.atomic import file_fingerprint, fingerprint, remove_temporary_files
from more4d.files.depth_and_cameras import load_camera, load_depth
from more4d.files.depth_units import METRIC
from more4d.files.fills import load_background, load_fill, save_background
from more4d.files.scene_folder import (
    BACKGROUND,
    COVERAGE,
    DEPTH_FILES,
    FILL,
    FILL_FILES,
    FILLED,
    GAUSSIANS,
    RENDER_FILES,
    SHEET,
    TRACKS,
    TRACKS_FILES,
    animation_name,
    save_animation_stage,
    save_depth_stage,
    save_fill_stage,
    save_render_stage,
    save_scene_sheet,
    save_tracks_stage,
    save_view_stage,
    view_name,
)
from more4d.files.tracks import load_filled_points, load_tracks, quantise_tracks
from more4d.files.video import read_mask_video
from more4d.files.video_formats import DEFAULT_CODEC, check_encoders
from more4d.foundation.errors import InputError
from more4d.geometry.camera import CameraPath, DepthMap
from more4d.geometry.tracks import Tracks, depth_of_tracks
from more4d.pipeline import DEFAULT_FRAMES, VIEW_COMPONENTS, More4DPipeline
from more4d.pipelines.background import Background
from more4d.pipelines.cameras import CameraSpec
from more4d.pipelines.depth import depth_map_from_file, film_size
from more4d.pipelines.preset import TEXTURE
from more4d.pipelines.sampling import Progress, no_progress
from more4d.pipelines.tracks import NOTHING_MOVES, tracks_fingerprint, tracks_metadata
from more4d.pipelines.views import Film, completed_frames, frames_with_alpha
from more4d.raster.registry import AUTO
from more4d.runs.camera_stage import choose_for_item
from more4d.runs.exports import add_exports
from more4d.runs.job import Job, about_run, camera_folders, check_files, control_inputs
from more4d.runs.photos import read_job_photo, read_job_tracks
from more4d.runs.record import RunRecord, as_inputs

MOST_FILM_BYTES = 512 << 20
"""Of what cameras see, kept in memory between stages; what is more is drawn again. Three films of 49 frames
of 960 x 720 fit.
"""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a job wrote.

    Attributes:
        folder: of the item.
        files: relative to the folder.
        stages_run: how many stages had something to do.
        fingerprint: a short name for everything the result was made from.
        cameras: names of the folders of its films.
        still: whether nothing moves, and a note says what to do about it.
    """

    folder: Path
    fingerprint: str
    files: tuple[str, ...]
    stages_run: int
    cameras: tuple[str, ...] = ()
    still: bool = False


def run_job(pipe: More4DPipeline, job: Job, folder: Path, *, progress: Progress = no_progress) -> Result:
    """Do everything `job` asks for that is not done yet, into `folder`.

    Raises:
        InputError: an input cannot be used, or the folder holds something in the way.
        WeightsError: a network cannot be loaded.
    """
    item = _Item(pipe, job, folder, progress)
    try:
        check_files(job)
        remove_temporary_files(folder)  # of a run that was killed
        check_encoders(job.video_codec, job.animation)
        return _run_stages(item)
    except BaseException as error:
        with suppress(InputError):  # a full disk must not hide why the run failed
            item.record.fail(" ".join(str(error).split()) or type(error).__name__)
        raise


@dataclass
class _Item:
    """One item as its stages share it: the folder, its record, and values that are in memory already."""

    pipe: More4DPipeline
    job: Job
    folder: Path
    progress: Progress
    record: RunRecord = field(init=False)
    stages_run: int = 0
    films: dict[str, Film] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.record = RunRecord(self.folder, about_run(self.pipe, self.job))

    @cached_property
    def image(self) -> Float[Tensor, "height width 3"]:
        """The image at the size of its films; of own tracks, their colours."""
        job = self.job
        if job.tracks is not None:
            return read_job_tracks(job).colours
        return self.pipe.prepare_image(read_job_photo(job, self.pipe.film_size))

    @property
    def depth(self) -> DepthMap:
        """As stored by the depth stage."""
        height, width = self.image.shape[:2]
        depth_m = load_depth(self.folder / "depth.npy", height=height, width=width)
        depth = depth_map_from_file(depth_m, load_camera(self.folder / "camera.json"))
        return replace(depth, estimated=self.job.depth is None and self.job.tracks is None)

    @cached_property
    def tracks(self) -> Tracks:
        """As stored by the tracks stage, at its precision."""
        return load_tracks(self.folder / TRACKS)

    def camera_path(self, name: str) -> CameraPath:
        """The path of one of the job's cameras."""
        return self.pipe.camera_path(camera_folders(self.job)[name], self.tracks)

    def film(self, name: str) -> Film:
        """What a camera sees; drawn again if it is not in memory, as render.mp4 is lossy."""
        if name not in self.films:
            self.keep_film(name, self.pipe.render(self.tracks, self.camera_path(name)))
        return self.films[name]

    def keep_film(self, name: str, film: Film) -> None:
        """Keep a film for later stages, and of those before it as many as `MOST_FILM_BYTES` allow."""
        self.films[name] = film
        while len(self.films) > 1 and sum(each.nbytes for each in self.films.values()) > MOST_FILM_BYTES:
            del self.films[next(iter(self.films))]

    def background(self, paths: dict[str, CameraPath]) -> dict[str, Any]:
        """What lies behind the scene, completed for films along some paths: fields of a `Background`."""
        # compiled loops: only where texture is made
        from more4d.pipelines.background_completion import complete_background

        views = [(path, ~read_mask_video(self.folder / name / COVERAGE)) for name, path in paths.items()]
        filled = [load_filled_points(self.folder / name / FILLED) for name in paths]
        return complete_background(self.tracks, views, filled, seed=self.job.seed).values()

    def stage(
        self, name: str, inputs: Any, outputs: Iterable[str], make: Callable, sources: Iterable[str] = ()
    ) -> str:
        """As `RunRecord.stage`, with progress (of no steps if nothing is to do); returns the fingerprint."""
        self.progress(name, 0, 1)
        fingerprint, was_run = self.record.stage(name, inputs, outputs, make, sources)
        self.stages_run += was_run
        self.progress(name, int(was_run), int(was_run))
        return fingerprint

    def report(self, stage: str) -> Progress:
        """Reports steps under the name of a stage of the record; its last step is writing the files."""
        return lambda _, done, total: self.progress(stage, min(done, total - 1), total)


def _run_stages(item: _Item) -> Result:
    tracks_id = _make_tracks(item, _make_depth(item))
    item.record.base = tracks_id
    job = item.job = choose_for_item(item, tracks_id)
    cameras = camera_folders(job)
    textured = item.pipe.preset.fill == TEXTURE
    renders, fills, views = {}, {}, {}
    for name, camera in cameras.items():
        renders[name] = _render(item, name, camera, tracks_id)
        fills[name] = _fill(item, name, renders[name], dict(fills))
        if not textured:
            views[name] = _finish_view(item, name, fills[name], None)
    if textured and cameras:
        background_id = _make_background(item, fills)
        views = {name: _finish_view(item, name, fills[name], background_id) for name in cameras}
    made = [tracks_id, *(each[name] for name in cameras for each in (renders, views))]
    title = job.prompt or item.tracks.caption or job.name
    if job.gaussians:
        made.append(_reconstruct(item))
    earlier = item.record.earlier_films()
    add_exports(item, title, earlier)
    if job.animation:
        _animate(item, job.animation, next(iter(views)), next(iter(views.values())))
    shown, made = [*cameras, *earlier], [*made, *earlier.values()]
    draw = partial(save_scene_sheet, item.folder, shown, title)
    fingerprint = item.stage("sheet", [made, title, shown], [SHEET], draw)
    item.record.remove_outdated()
    return Result(
        folder=item.folder,
        fingerprint=fingerprint,
        files=tuple(item.record.files()),
        stages_run=item.stages_run,
        cameras=tuple(cameras),
        still=any(note.startswith(NOTHING_MOVES) for note in item.record.notes),
    )


def _make_depth(item: _Item) -> str:
    """Stage 1. Returns its fingerprint, as the functions of the other stages do."""
    job, pipe = item.job, item.pipe
    files = {"image": job.image, "depth": job.depth, "tracks": job.tracks}
    inputs = {
        **{name: path and file_fingerprint(path) for name, path in files.items()},
        "intrinsics": job.intrinsics,
        "size": [pipe.preset.pixels, pipe.preset.multiple, pipe.preset.size],
        # Own depth, too, may need the estimate: for its gaps, its scale, or to be held against it.
        "weights": pipe.components.fingerprint("depth") if job.tracks is None else None,
        "sharpen": pipe.preset.sharpen_depth,
        # Left out where nothing is said, so that older records stay valid.
        **(
            {"depth_is": [job.depth_unit, job.depth_kind]}
            if job.depth_unit or job.depth_kind != METRIC
            else {}
        ),
        **({} if job.fov is None else {"fov": job.fov}),
    }

    def make() -> None:
        if job.tracks is None:
            photo = read_job_photo(job, pipe.film_size)
            item.image = pipe.prepare_image(photo)
            depth = pipe.estimate_depth(photo)
        else:
            tracks = read_job_tracks(job)
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
            tracks_fingerprint(pipe.components, job.control),
            preset.frames,
            as_inputs(preset.tracks),
            [preset.median_motion_px, preset.smooth_motion_passes, preset.clip_image],
            [preset.whole_objects, preset.object_relief],
            [file_fingerprint(mask) for mask in job.masks],
            *([[preset.vocabulary, list(preset.objects)]] if preset.objects else []),  # what a prompt means
        ]
        inputs += control_inputs(job)

    def make() -> None:
        if job.tracks is None:
            settings = {"num_frames": frames, "fps": job.fps, "seed": job.seed, "control": job.control}
            photo = read_job_photo(job, pipe.film_size)
            report = item.report("tracks")
            tracks = pipe.generate_tracks(photo, item.depth, job.prompt, **settings, callback=report)
        else:
            tracks = quantise_tracks(read_job_tracks(job))
        about = tracks_metadata(pipe.components, job.seed, job.control) | {"prompt": job.prompt}
        save_tracks_stage(item.folder, tracks, about)
        item.tracks = tracks

    return item.stage("tracks", inputs, TRACKS_FILES, make)


def _render(item: _Item, name: str, camera: CameraSpec, tracks_id: str) -> str:
    """Stage 3 of one camera."""
    preset, folder = item.pipe.preset, item.folder / name

    def make() -> None:
        path = item.camera_path(name)
        film = item.pipe.render(item.tracks, path, callback=item.report(f"render {name}"))
        item.keep_film(name, film)
        covered = (~holes for holes in film.hole_mask)
        save_render_stage(folder, film.colour, covered, path, fps=item.tracks.fps)

    # The automatic choice is one of the z-buffers, which agree bit for bit: it is no input of the stage.
    raster = [] if preset.raster == AUTO else [preset.raster]
    inputs = [tracks_id, camera.content(), preset.size, preset.supersampling, *raster]
    return item.stage(f"render {name}", inputs, [f"{name}/{file}" for file in RENDER_FILES], make)


def _fill(item: _Item, name: str, render_id: str, fills: dict[str, str]) -> str:
    """Stage 4 of one camera; `fills` are the cameras before it and the fingerprints of their fills."""
    job, pipe, preset = item.job, item.pipe, item.pipe.preset
    earlier = fills if preset.consistent_views else {}

    def make() -> None:
        film = item.film(name)
        view = pipe.film(
            item.tracks,
            item.camera_path(name),
            job.prompt,
            rendering=film,
            earlier=[load_filled_points(item.folder / each / FILLED) for each in earlier],
            seed=job.seed,
            callback=item.report(f"fill {name}"),
        )
        save_fill_stage(item.folder / name, view.fill, film.small.hole_mask, view.filled)

    settings = [preset.frames, as_inputs(preset.views), list(earlier.values())]
    inputs = [render_id, job.prompt, job.seed, pipe.components.fingerprint(*VIEW_COMPONENTS), settings]
    return item.stage(f"fill {name}", inputs, [f"{name}/{file}" for file in FILL_FILES], make)


def _make_background(item: _Item, fills: dict[str, str]) -> str:
    """What lies behind the scene, for all of its cameras; `fills` are these and their fills' fingerprints."""

    def make() -> None:
        background = item.background({name: item.camera_path(name) for name in fills})
        save_background(item.folder / BACKGROUND, **background)

    return item.stage("background", [list(fills.values()), item.job.seed], [BACKGROUND], make)


def _finish_view(item: _Item, name: str, fill_id: str, background_id: str | None) -> str:
    """The finished film of one camera."""
    job, folder, stage = item.job, item.folder / name, f"view {name}"

    def counted(frames: Iterable[Tensor]) -> Iterator[Tensor]:
        for index, frame in enumerate(frames):
            item.progress(stage, index, item.tracks.frames)
            yield frame

    def make() -> dict[str, str]:
        film = item.film(name)
        fill = load_fill(folder / FILL, film.small.colour)
        background = None
        if background_id is not None:
            background = Background(**load_background(item.folder / BACKGROUND))
        behind = {"background": background, "camera_path": item.camera_path(name)}
        frames = (frames_with_alpha if job.alpha else completed_frames)(film, fill, **behind)
        save_view_stage(folder, counted(frames), fps=item.tracks.fps, codec=job.video_codec)
        del item.films[name]
        return {"shows": fingerprint([fill_id, background_id])}  # however it is coded

    # The default codec is no input: films of runs before there was a choice are in it.
    coding = [] if job.video_codec == DEFAULT_CODEC else [[job.video_codec, job.alpha]]
    inputs = [fill_id, background_id, *coding]
    return item.stage(stage, inputs, [f"{name}/{view_name(job.video_codec)}"], make)


def _reconstruct(item: _Item) -> str:
    """A scene of Gaussians, of the files that the stages before have written; returns its fingerprint."""
    # compiled loops: only where it is asked for
    from more4d.asset import ReconstructionSettings
    from more4d.runs.reconstruct import Item, add_stages

    cameras = {name: item.camera_path(name) for name in camera_folders(item.job)}
    made = Item(folder=item.folder, tracks=item.tracks, cameras=cameras)
    how = {"seed": item.job.seed, "progress": item.progress}
    add_stages(item.pipe, made, ReconstructionSettings(), item.stage, **how)
    return file_fingerprint(item.folder / GAUSSIANS)


def _animate(item: _Item, kind: str, camera: str, view_id: str) -> str:
    def animate() -> None:
        size = film_size(item.tracks.height, item.tracks.width, item.pipe.film_size)
        how = {"size": size, "fps": item.tracks.fps, "codec": item.job.video_codec}
        save_animation_stage(item.folder, camera, kind, **how)

    files = [animation_name(camera, kind)]
    return item.stage(f"animation {kind}", [view_id], files, animate, [f"view {camera}"])
