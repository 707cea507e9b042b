"""The pipeline's scene as one asset of Gaussians: the films it is made from, and the whole way to it.

    from more4d import More4DPipeline, reconstruct, save_gaussians

    pipe = More4DPipeline.from_pretrained("tiny")
    scene = pipe("photo.jpg", prompt="the dog runs to the left", cameras=["static", "orbit", "mix2"])
    gaussians = reconstruct(pipe, scene)
    save_gaussians("dog.safetensors", gaussians)

Films of the scene's cameras show its motion; films of the same paths at frame 0, with time frozen, show what
stands still from all sides. Both have their holes filled; `reconstruction` does the rest.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.foundation.errors import InputError, MissingPackageError, checked
from more4d.foundation.optional import check_installed
from more4d.geometry.camera import CameraPath, working_size
from more4d.geometry.gaussian_scene import GaussianScene
from more4d.geometry.splats import SIGMA_PER_FOOTPRINT
from more4d.geometry.tracks import FilledPoints, PointTracks, Tracks
from more4d.pipeline import More4DPipeline
from more4d.pipelines.background import Background
from more4d.pipelines.sampling import Progress, no_progress
from more4d.pipelines.scene import Scene, View
from more4d.raster.render import render_tracks
from more4d.reconstruction.films import TrainingFilm
from more4d.reconstruction.fit import Fit, FitSettings
from more4d.reconstruction.initial import SIGMA_TO_OPTIMISE, add_filled, scene_of_tracks

_log = logging.getLogger(__name__)
FROZEN = "frozen"
"""What a film of frozen time is called after its camera."""
FILLS = "gaussians: fills"
"""The first part of `build`, for progress."""


@checked
@dataclass(frozen=True, kw_only=True)
class ReconstructionSettings:
    """How a scene of Gaussians is made.

    Attributes:
        pixels: about as many splats stand for the photo, and the films that are compared have as many.
        frozen: whether films of frozen time are made, too.
        fit: of the optimiser; without a step the scene is as tracks and fills say.
    """

    pixels: int = 192 * 256
    frozen: bool = True
    fit: FitSettings = field(default_factory=FitSettings)

    def size(self, tracks: Tracks) -> tuple[int, int]:
        """(height, width) of grid and films; no larger than the photo."""
        pixels = min(self.pixels, tracks.height * tracks.width)
        return working_size(tracks.height, tracks.width, pixels=pixels, multiple=1)


@checked
def reconstruct(
    pipe: More4DPipeline,
    scene: Scene,
    settings: ReconstructionSettings | None = None,
    *,
    seed: int = 0,
    callback: Progress = no_progress,
) -> GaussianScene:
    """One scene of moving Gaussians that shows what the scene's films show.

    Args:
        scene: of `pipe`, with at least one view; views from several sides are better.
        settings: how fine the scene is and how long it is fitted; by default `ReconstructionSettings()`.
        seed: of what 4D-ViSM generates in the films of frozen time.
        callback: called with (stage, step, steps in all).

    Raises:
        InputError: the scene has no views.
        WeightsError: a network's file cannot be used.
    """
    settings = settings or ReconstructionSettings()
    if not scene.views:
        raise InputError("a scene of Gaussians is made from films; film it along a camera path first")
    size = settings.size(scene.tracks)
    films = []
    for view in scene.views.values():
        films.append(training_film(scene.tracks, view.camera_path, view.stream(), size))
        if settings.frozen and moves(view.camera_path):
            filled = [each.filled for each in scene.views.values()]
            behind = {"background": view.background, "seed": seed, "callback": callback}
            frozen = freeze(pipe, scene.tracks, view.camera_path, filled, scene.prompt, **behind)
            films.append(training_film(scene.tracks, frozen.camera_path, frozen.stream(), size, frozen=True))
    return build(scene.tracks, films, settings, device=fit_device(pipe), callback=callback)


def fit_device(pipe: More4DPipeline) -> torch.device:
    """Where a scene is fitted: on the pipeline's GPU if gsplat is there, else on the CPU, with a note."""
    device = pipe.components.device
    if device.type == "cuda":
        try:
            check_installed("gsplat", extra="gsplat")
        except MissingPackageError as error:
            _log.warning("%s; until then Gaussians are fitted on the CPU", error)
            return torch.device("cpu")
    return device


def moves(path: CameraPath) -> bool:
    """Whether the camera ever leaves the photo's place: a film of frozen time is the photo otherwise."""
    poses = path.world_to_camera
    return not bool((poses == poses[:1]).all() and (path.intrinsics == path.intrinsics[:1]).all())


def still_tracks(tracks: Tracks) -> PointTracks:
    """The moment of the photo: tracks of one frame."""
    one = slice(0, 1)
    return PointTracks(
        positions=tracks.positions_in(one),
        colours=tracks.colours,
        visibility=tracks.visibility[one],
        camera=tracks.camera,
        fps=tracks.fps,
        caption=tracks.caption,
        scene_depth_m=tracks.scene_depth_m,
    )


def freeze(
    pipe: More4DPipeline,
    tracks: Tracks,
    path: CameraPath,
    filled: Sequence[FilledPoints],
    prompt: str,
    *,
    background: Background | None = None,
    seed: int = 0,
    callback: Progress = no_progress,
) -> View:
    """The film of a path with time frozen at the photo.

    Args:
        filled: what the scene's films were filled with; the holes of this one show that first.
        background: of the scene, shown in the holes.
        seed: of what is generated in the rest.

    Raises:
        WeightsError: a network's file cannot be used.
    """
    settings = {"earlier": list(filled), "seed": seed, "name": f"{path.name} {FROZEN}"}
    made = pipe.film(still_tracks(tracks), path, prompt, callback=callback, **settings)
    return replace(made, background=background)


def training_film(
    tracks: Tracks,
    path: CameraPath,
    frames: Iterable[Float[Tensor, "height width 3"]],
    size: tuple[int, int],
    *,
    frozen: bool = False,
) -> TrainingFilm:
    """A finished film at the size of the optimisation, and where the tracks themselves show something.

    Args:
        frozen: whether it shows frame 0 in all of its frames.
    """
    shown = still_tracks(tracks) if frozen else tracks
    holes = render_tracks(shown, path, height=size[0], width=size[1]).hole_mask
    times = [0.0 if frozen else float(frame) for frame in range(path.frames)]
    return TrainingFilm.shrunk(path, times, frames, holes, size)


def build(
    tracks: Tracks,
    films: Sequence[TrainingFilm],
    settings: ReconstructionSettings,
    *,
    device: str | torch.device = "cpu",
    state: tuple[int, dict[str, Tensor]] | None = None,
    callback: Progress = no_progress,
    after: Callable[[Fit], None] | None = None,
) -> GaussianScene:
    """The scene of tracks and films: without an optimiser, and then fitted.

    Args:
        device: where it is fitted; on a GPU by gsplat.
        state: of a fit of the same that was stopped.
        after: called after each step.
    """
    fitted = settings.fit.steps > 0
    sigma = SIGMA_TO_OPTIMISE if fitted else SIGMA_PER_FOOTPRINT
    scene = scene_of_tracks(tracks, films[0].size, sigma=sigma)
    scene = add_filled(scene, films, sigma=sigma, progress=lambda done, total: callback(FILLS, done, total))
    if not fitted:
        return scene

    def report(fit: Fit) -> None:
        callback("gaussians: fit", fit.step, settings.fit.steps)
        if after is not None:
            after(fit)

    return Fit(scene.to(device), films, settings.fit, state).run(report).to("cpu")
