"""What the pipeline makes: a moving 4-D scene and the views that were filmed of it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.files.fills import save_background
from more4d.files.scene_folder import (
    BACKGROUND,
    VIEW_NAMES,
    save_animation_stage,
    save_depth_stage,
    save_fill_stage,
    save_render_stage,
    save_scene_sheet,
    save_tracks_stage,
    save_view_stage,
    view_name,
)
from more4d.files.video_formats import DEFAULT_CODEC, check_encoders, check_film_format
from more4d.foundation.errors import InputError, checked, shown
from more4d.geometry.camera import CameraPath, DepthMap
from more4d.geometry.tracks import FilledPoints, Tracks
from more4d.pipelines.background import Background
from more4d.pipelines.sampling import Progress, no_progress
from more4d.pipelines.views import Film, completed_frames, frames_with_alpha

BACKGROUND_STAGE = "background"


@dataclass(frozen=True, kw_only=True)
class View:
    """What one camera path films.

    Attributes:
        camera_path: the pose and intrinsics of every frame.
        rendering: the tracks as the camera sees them, with its holes (`rendering.hole_mask`).
        fill: what is shown in the holes, at the size of the networks, RGB in [0, 1].
        filled: what was generated in the holes, as points of the world; later views of the scene show them.
        background: of the scene, shown in the holes; `fill` is shown where it ends. All views share it.
    """

    camera_path: CameraPath
    rendering: Film
    fill: Float[Tensor, "frames small_h small_w 3"]
    filled: FilledPoints
    background: Background | None = None

    def __repr__(self) -> str:
        frames, height, width = self.rendering.coverage.shape
        return f"View({shown(self.camera_path.name)}, {width} x {height} pixels, {frames} frames)"

    @property
    def frames(self) -> Float[Tensor, "frames height width 3"]:
        """The completed film, RGB in [0, 1]; equal to the rendering outside of its holes."""
        return torch.stack(list(self.stream()))

    def stream(self, *, alpha: bool = False) -> Iterator[Float[Tensor, "height width channels"]]:
        """`frames`, one by one: a whole film takes 12 bytes per pixel and frame.

        Args:
            alpha: with the coverage of the tracks as opacity.
        """
        behind = {"background": self.background, "camera_path": self.camera_path}
        return (frames_with_alpha if alpha else completed_frames)(self.rendering, self.fill, **behind)


@checked
@dataclass(frozen=True, kw_only=True)
class Scene:
    """A moving 4-D scene and the views that were filmed of it.

    Attributes:
        image: at the size of the films, RGB in [0, 1].
        depth: of the image, in metres, with the camera that took it.
        tracks: where every pixel of the image goes, in metres; at the precision in which they are stored.
        views: by the name of their camera path.
        prompt: what happens.
        metadata: seed and model, stored with the tracks.
    """

    image: Float[Tensor, "height width 3"]
    depth: DepthMap
    tracks: Tracks
    views: dict[str, View]
    prompt: str
    metadata: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        """What it is, without its tensors."""
        about = f"{self.tracks.width} x {self.tracks.height} pixels, {self.tracks.frames} frames"
        return f"Scene({about}, films: {', '.join(self.views) or 'none'}, prompt: {shown(self.prompt)})"

    def save(
        self,
        folder: str | Path,
        *,
        video_codec: str = DEFAULT_CODEC,
        alpha: bool = False,
        animation: str | None = None,
    ) -> Path:
        """Write the folder that `infer.sh` writes for an item (`files.scene_folder`), without a run record.

        Files of a scene that was saved there before are overwritten.

        Args:
            video_codec: of the finished films: h264, h265, av1, prores or png.
            alpha: films with opacity, for prores and png: opaque as far as the tracks cover a pixel,
                transparent where it was generated; colours are not multiplied by opacity.
            animation: gif or webp: write the first view again as a small picture that moves, for chats.

        Raises:
            InputError: a format is unknown, or cannot be written here; the folder cannot be written to, or
                belongs to a run of `infer.sh`.
        """
        folder = Path(folder)
        check_film_format(video_codec, alpha=alpha, animation=animation)
        check_encoders(video_codec, animation)
        if animation is not None and not self.views:
            raise InputError(f"the {animation} shows the first view, and this scene has none; film one")
        if (folder / "run.json").exists():  # it would go on saying what the run made
            raise InputError(f"{folder} is the folder of a run of infer.sh; save to another one")
        save_depth_stage(folder, self.image, self.depth)
        save_tracks_stage(folder, self.tracks, self.metadata | {"prompt": self.prompt})
        for name, view in self.views.items():
            covered = (~holes for holes in view.rendering.hole_mask)
            save_render_stage(
                folder / name, view.rendering.colour, covered, view.camera_path, fps=self.tracks.fps
            )
            save_fill_stage(folder / name, view.fill, view.rendering.small.hole_mask, view.filled)
            frames = view.stream(alpha=alpha)
            save_view_stage(folder / name, frames, fps=self.tracks.fps, codec=video_codec)
            # A film that was saved here before in a codec of another suffix is of another scene, maybe.
            for other in {*VIEW_NAMES} - {view_name(video_codec)}:
                (folder / name / other).unlink(missing_ok=True)
        for background in [view.background for view in self.views.values() if view.background][:1]:
            save_background(folder / BACKGROUND, **background.values())
        if animation is not None:
            # Read from the file, as the main job does: both make the same animation.
            first, view = next(iter(self.views.items()))
            size = {"size": tuple(view.rendering.coverage.shape[1:]), "fps": self.tracks.fps}
            save_animation_stage(folder, first, animation, **size, codec=video_codec)
        title = self.prompt or self.tracks.caption or "scene"
        save_scene_sheet(folder, list(self.views), title)
        return folder


def film_views(
    film: Callable[..., View], paths: Mapping[str, CameraPath], *, consistent: bool
) -> dict[str, View]:
    """Every camera's view, by the names of `paths`; none has a background yet.

    Args:
        film: takes a camera path, `name` and `earlier`, as `More4DPipeline.film` does.
        consistent: whether a view shows in its holes what the views before it were filled with.
    """
    views: dict[str, View] = {}
    for name, path in paths.items():
        # Views of one scene agree: what an earlier one showed in its holes, the next ones show there too.
        earlier = [view.filled for view in views.values()] if consistent else []
        views[name] = film(path, name=name, earlier=earlier)
    return views


@checked
def with_background(
    tracks: Tracks, views: Mapping[str, View], *, seed: int = 0, progress: Progress = no_progress
) -> dict[str, View]:
    """The views with the background of their scene, completed for all of them together.

    Args:
        tracks: that the views were filmed of.
        seed: of the search for texture.
    """
    # compiled loops: only where texture is made
    from more4d.pipelines.background_completion import complete_background

    progress(BACKGROUND_STAGE, 0, 1)
    background = complete_background(
        tracks,
        [(view.camera_path, view.rendering.hole_mask) for view in views.values()],
        [view.filled for view in views.values()],
        seed=seed,
    )
    progress(BACKGROUND_STAGE, 1, 1)
    return {name: replace(view, background=background) for name, view in views.items()}
