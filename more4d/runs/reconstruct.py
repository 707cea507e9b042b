"""A scene of Gaussians as stages of an item: of what its folder holds, whatever run made that.

CAMERA/frozen.mp4          the path with time frozen at the photo, finished
gaussians.safetensors      the scene (`files.gaussians`)
gaussians.png              what it shows beside the films; while it is fitted, how far it is

While a scene is fitted `gaussians.part.safetensors` holds the fit: a run that is stopped goes on from there.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from more4d.asset import (
    FILLS,
    FROZEN,
    ReconstructionSettings,
    build,
    fit_device,
    freeze,
    moves,
    training_film,
)
from more4d.files.atomic import file_fingerprint, fingerprint
from more4d.files.depth_and_cameras import load_camera_path
from more4d.files.fills import load_background
from more4d.files.gaussians import load_fit, load_gaussians, save_fit, save_gaussians
from more4d.files.previews import save_sheet
from more4d.files.scene_folder import BACKGROUND, FILLED, GAUSSIANS, TRACKS, VIEW_NAMES
from more4d.files.tracks import load_filled_points, load_tracks
from more4d.files.video import stream_video, write_video
from more4d.foundation.errors import InputError
from more4d.geometry.camera import CameraPath
from more4d.geometry.gaussian_scene import GaussianScene
from more4d.geometry.tracks import Tracks, depth_of_tracks
from more4d.pipeline import VIEW_COMPONENTS, More4DPipeline
from more4d.pipelines.background import Background
from more4d.pipelines.sampling import Progress, no_progress
from more4d.raster.splatting import render_gaussians
from more4d.reconstruction.films import TrainingFilm
from more4d.reconstruction.fit import Fit
from more4d.runs.record import RunRecord

PICTURE, PART = "gaussians.png", "gaussians.part.safetensors"
FROZEN_FILM = f"{FROZEN}.mp4"
STEPS_PER_SAVE = 100
"""Between two savings of a fit, each of some 20 MB, and two pictures of it."""
WHITE = 255
MOMENTS = (0.25, 0.5, 0.75, 1.0)
"""Parts of a film that the picture shows."""

Stage = Callable[..., Any]
"""As `RunRecord.stage`."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """The folder of an item that has been made, as far as a scene of Gaussians needs it."""

    folder: Path
    tracks: Tracks
    cameras: dict[str, CameraPath]

    @classmethod
    def read(cls, folder: Path) -> "Item":
        """Find tracks and finished films.

        Raises:
            InputError: the folder holds no item, or nothing has been filmed.
        """
        if not (folder / TRACKS).is_file():
            raise InputError(f"{folder} is not the folder of an item: it has no {TRACKS}; make one by infer")
        tracks = load_tracks(folder / TRACKS)
        scale = tracks.scene_depth_m or depth_of_tracks(tracks).scene_depth_m
        known = {"frames": tracks.frames, "camera": tracks.camera, "scene_depth_m": scale}
        outdated = RunRecord.reopened(folder).outdated
        cameras = {
            path.parent.name: load_camera_path(path, **known)
            for path in sorted(folder.glob("*/camera_path.json"))
            if (film := film_of(path.parent)) and not outdated(f"{path.parent.name}/{film.name}")
        }
        if not cameras:
            raise InputError(
                f"{folder} has no finished film (CAMERA/view.mp4) of its tracks; film it along a camera path"
            )
        return cls(folder=folder, tracks=tracks, cameras=cameras)

    def filled(self) -> list[Any]:
        """What was generated in the holes of all films, as points."""
        files = [self.folder / name / FILLED for name in self.cameras]
        return [load_filled_points(file) for file in files if file.is_file()]

    def background(self) -> Background | None:
        file = self.folder / BACKGROUND
        return Background(**load_background(file)) if file.is_file() else None


def film_of(folder: Path) -> Path | None:
    """The finished film in the folder of a camera."""
    return next((folder / name for name in VIEW_NAMES if (folder / name).is_file()), None)


def reconstruct_item(
    pipe: More4DPipeline,
    folder: Path,
    settings: ReconstructionSettings | None = None,
    *,
    seed: int | None = None,
    progress: Progress = no_progress,
) -> GaussianScene:
    """Make `gaussians.safetensors` of an item unless it is there; the item's record says so.

    Args:
        seed: of everything random; None: that of the item.

    Raises:
        InputError: the folder holds no item, or something is in the way.
        WeightsError: a network's file cannot be used.
    """
    item = Item.read(folder)
    record = RunRecord.reopened(folder)
    seed = record.seed if seed is None else seed

    def stage(name: str, *how: Any) -> None:
        progress(name, 0, 1)
        record.stage(name, *how)
        progress(name, 1, 1)

    try:
        add_stages(pipe, item, settings or ReconstructionSettings(), stage, seed=seed, progress=progress)
    except BaseException as error:
        with suppress(InputError):  # a full disk must not hide why it failed
            record.fail(" ".join(str(error).split()) or type(error).__name__)
        raise
    return load_gaussians(folder / GAUSSIANS)


def add_stages(
    pipe: More4DPipeline,
    item: Item,
    settings: ReconstructionSettings,
    stage: Stage,
    *,
    seed: int,
    progress: Progress,
) -> None:
    """Films of frozen time, then the scene; `stage` is that of the item's record."""
    settings = replace(settings, fit=replace(settings.fit, seed=seed))
    folder = item.folder
    sources = {TRACKS: file_fingerprint(folder / TRACKS)}
    for name in item.cameras:
        film = film_of(folder / name)
        for file in (film, folder / name / "camera_path.json"):
            sources[file.relative_to(folder).as_posix()] = file_fingerprint(file)
    frozen = [name for name, path in item.cameras.items() if settings.frozen and moves(path)]
    networks = pipe.components.fingerprint(*VIEW_COMPONENTS) if frozen else None
    for name in item.cameras if settings.frozen else ():

        def make(name: str = name) -> None:
            if name not in frozen:  # the camera stays where the photo was taken: the film is the photo
                return
            view = freeze(
                pipe,
                item.tracks,
                item.cameras[name],
                item.filled(),
                item.tracks.caption,
                background=item.background(),
                seed=seed,
                callback=lambda _, done, total: progress(f"{FROZEN} {name}", min(done, total - 1), total),
            )
            write_video(folder / name / FROZEN_FILM, view.stream(), fps=item.tracks.fps)

        outputs = [f"{name}/{FROZEN_FILM}"] if name in frozen else []
        stage(f"{FROZEN} {name}", [sources, networks, seed], outputs, make)
    inputs = [sources, networks, seed, asdict(settings)]

    def fit() -> None:
        made = {"identity": fingerprint(inputs), "device": fit_device(pipe)}
        scene = _fit(item, settings, frozen=frozen, progress=progress, **made)
        save_gaussians(folder / GAUSSIANS, scene, metadata={"seed": str(seed)})
        (folder / PART).unlink(missing_ok=True)

    stage(
        "gaussians", inputs, [GAUSSIANS, PICTURE], fit, ["tracks", *(f"view {name}" for name in item.cameras)]
    )


def _fit(
    item: Item,
    settings: ReconstructionSettings,
    *,
    frozen: list[str],
    identity: str,
    device: torch.device,
    progress: Progress,
) -> GaussianScene:
    size = settings.size(item.tracks)
    films: dict[str, TrainingFilm] = {}
    for name, path in item.cameras.items():
        films[name] = training_film(item.tracks, path, _frames(item, name), size)
        if name in frozen:
            stopped = _pictures(item.folder / name / FROZEN_FILM, item.tracks)
            films[f"{name}, {FROZEN}"] = training_film(item.tracks, path, stopped, size, frozen=True)
    part = item.folder / PART

    def after(fit: Fit) -> None:
        if fit.step % STEPS_PER_SAVE == 0 and fit.step < fit.settings.steps:
            save_fit(part, fit.step, fit.tensors, identity)
            draw(
                item.folder / PICTURE,
                fit.scene().to("cpu"),
                films,
                f"step {fit.step} of {fit.settings.steps}",
            )

    state = load_fit(part, identity)
    before = 0 if state is None else state[0]  # steps of a run that was stopped are no progress of this one
    pictures = sum(len(film) for film in films.values())

    def report(part: str, done: int, _: int) -> None:
        # One stage of two parts: all pictures are asked for what fills holes, then come the steps.
        done += 0 if part == FILLS else pictures - before  # and in the end the file is written
        progress("gaussians", done, pictures + settings.fit.steps - before + 1)

    scene = build(
        item.tracks,
        list(films.values()),
        settings,
        device=device,
        state=state,
        callback=report,
        after=after,
    )
    draw(item.folder / PICTURE, scene, films, item.tracks.caption)
    return scene


def _frames(item: Item, name: str) -> Iterator[Tensor]:
    film = film_of(item.folder / name)
    if film is None:
        raise InputError(f"the film of camera {name} in {item.folder} is gone; make the item again")
    return _pictures(film, item.tracks)


def _pictures(film: Path, tracks: Tracks) -> Iterator[Tensor]:
    """As many as the tracks have frames.

    Raises:
        InputError: there are fewer or more.
    """
    count, (height, width) = 0, (tracks.height, tracks.width)
    for frame in stream_video(film):
        count += 1
        # Videos have even sides: one of a photo with odd sides has a row or column more.
        rows = height if frame.shape[0] == height + 1 else frame.shape[0]
        columns = width if frame.shape[1] == width + 1 else frame.shape[1]
        yield frame[:rows, :columns].float() / WHITE
    if count != tracks.frames:
        raise InputError(
            f"{film} has {count} frames and the tracks have {tracks.frames}; make the item again"
        )


def draw(path: Path, scene: GaussianScene, films: dict[str, TrainingFilm], title: str) -> None:
    """A sheet of what the films show and what the scene shows there."""
    rows, labels, captions = [], [], []
    for name, film in films.items():
        chosen = [round(part * (len(film) - 1)) for part in MOMENTS]
        cameras = CameraPath(
            name=name,
            world_to_camera=film.camera_path.world_to_camera[chosen],
            intrinsics=film.camera_path.intrinsics[chosen],
        )
        times = [film.times[index] for index in chosen]
        height, width = film.size
        shown = render_gaussians(scene, cameras, height=height, width=width, times=times)
        rows += [[film.picture(index) for index in chosen], list(shown.colour * shown.coverage[..., None])]
        labels += [f"camera {name}: film", f"camera {name}: Gaussians"]
        captions += [[f"frame {index}" for index in chosen]] * 2
    save_sheet(path, rows, captions=captions, row_labels=labels, title=title or "Gaussians")
