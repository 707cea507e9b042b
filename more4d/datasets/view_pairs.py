"""Training pairs for 4D-ViSM: rendered point tracks with holes, and the ground-truth video of the same
camera.

From procedural scenes: exact tracks are rendered along a second camera path, which is rendered as ground
truth, too.

From files (video and tracks) the ground truth exists for the source camera only. To create the holes of
another viewpoint, only points visible from a second camera path are rendered into the source camera. The
reference implementation trains on holes from moving objects only; here holes come from parallax as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from more4d.datasets.batch import ViewBatch
from more4d.datasets.file_clips import FileClipOptions, FileClips, pad_frames
from more4d.datasets.labelled_images import ShapedScenes
from more4d.files.atomic import atomic_write, load_arrays
from more4d.foundation.config import numpy_generator
from more4d.foundation.errors import ConfigError
from more4d.geometry.background import fill_background
from more4d.geometry.camera import CameraPath, DepthMap
from more4d.geometry.poses import named_camera_path
from more4d.geometry.tracks import PointTracks
from more4d.raster.interface import Rendering
from more4d.raster.render import render_tracks, surface_patches, visible_points
from more4d.scenes.render import render_clip, render_video
from more4d.scenes.scene_sampling import sample_scene

PATHS = (
    "static forward_backward circular surrounding anti-surrounding x_moving y_moving camera_rotate mix1"
    " turn-left turn-right orbit".split()
)
"""The camera paths that pairs are rendered along."""


@dataclass(frozen=True, kw_only=True)
class HoleOptions:
    """Options of pairs from procedural scenes.

    Attributes:
        shapes: (height, width) of the videos, one per group.
        group: number of consecutive indices with one shape; a multiple of the batch size.
        frames: video frames, 4n + 1.
        pairs: number of different pairs; larger indices wrap around. Whole groups, where shapes differ.
        cache: folder for rendered pairs (rendering is expensive); None: render each time.
        strength: range of the camera path's strength; 1 is the default of inference.
    """

    shapes: tuple[tuple[int, int], ...] = ((96, 128), (96, 128), (96, 128), (128, 96), (112, 112))
    group: int = 8
    frames: int = 13
    pairs: int = 1600
    cache: Path | None = None
    strength: tuple[float, float] = (0.3, 1.5)

    def __post_init__(self) -> None:
        if len(set(self.shapes)) > 1 and self.pairs % self.group:
            raise ConfigError(f"data: pairs {self.pairs} must be a multiple of group {self.group}")


class HoleClips(ShapedScenes):
    """Pairs of rendering and ground truth from procedural scenes."""

    def __init__(self, options: HoleOptions, *, seed: int, first_seed: int = 0) -> None:
        super().__init__(options, seed=seed)
        self._first = first_seed

    def __getitem__(self, index: int) -> ViewBatch:
        index %= self.options.pairs
        folder = self.options.cache
        path = folder and folder / f"pair_{self._seed}_{self._first}_{index:06d}.npz"
        stored = path is not None and path.exists()
        view = load_view(path) if stored else self.make(index)
        if path is not None and not stored:
            save_view(path, view)
        return replace(view, names=(f"pair {index}",))

    def make(self, index: int) -> ViewBatch:
        """Render pair `index`, at the precision of the cache."""
        rendering, truth, caption = self.rendered(index)
        known = fill_background(rendering.colour, rendering.depth_m, ~rendering.hole_mask)
        view = ViewBatch(
            truth=rearrange(truth, "t h w c -> 1 c t h w") * 2 - 1,
            known=rearrange(known, "t h w c -> 1 c t h w") * 2 - 1,
            coverage=rearrange((~rendering.hole_mask).float(), "t h w -> 1 1 t h w"),
            captions=(caption,),
        )
        # As it comes from the cache: a training that is continued sees the same as one that went through.
        return _from_arrays(_to_arrays(view))

    def rendered(self, index: int) -> tuple[Rendering, Float[Tensor, "frames height width 3"], str]:
        """The tracks rendered along the second path, the ground-truth video in [0, 1], and the caption."""
        options = self.options
        rng = numpy_generator("holes", self._seed, index)
        height, width = self._shape(index)
        scene = sample_scene(self._first + index, motion_seed=int(rng.integers(2**31)), aspect=width / height)
        clip = render_clip(scene, height=height, width=width, frames=options.frames, visibility="none")
        path = _second_path(clip.tracks, clip.depth.scene_depth_m, options.strength, rng)
        rendering = render_tracks(clip.tracks, path, height=height, width=width)
        truth = render_video(scene, height=height, width=width, frames=options.frames, camera_path=path)
        return rendering, truth.frames, clip.caption


def save_view(path: Path, view: ViewBatch) -> None:
    """Write one pair, 8 bits per colour and one per coverage; `load_view` is the inverse."""
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **_to_arrays(view))


def load_view(path: Path) -> ViewBatch:
    """Read what `save_view` wrote."""
    return _from_arrays(load_arrays(path))


def _to_arrays(view: ViewBatch) -> dict[str, np.ndarray]:
    return {
        "truth": ((view.truth + 1) * 127.5).round().byte().numpy(),
        "known": ((view.known + 1) * 127.5).round().byte().numpy(),
        "coverage": np.packbits(view.coverage.numpy() > 0.5, axis=-1),
        "caption": np.array(view.captions[0]),
    }


def _from_arrays(arrays: Mapping[str, np.ndarray]) -> ViewBatch:
    truth, known = (torch.from_numpy(arrays[name]).float() / 127.5 - 1 for name in ("truth", "known"))
    bits = np.unpackbits(arrays["coverage"], axis=-1, count=truth.shape[-1])
    coverage = torch.from_numpy(bits).float()
    return ViewBatch(truth=truth, known=known, coverage=coverage, captions=(str(arrays["caption"]),))


@dataclass(frozen=True, kw_only=True)
class FileViewOptions(FileClipOptions):
    """Options of pairs from files.

    Attributes:
        stored_rendering_prob: probability that a rendering stored with the clip is used, if there is one.
        second_view: probability that a second camera path creates holes; otherwise only motion does.
        strength: range of that path's strength; 1 is the default of inference.
    """

    stored_rendering_prob: float = 0.0
    second_view: float = 0.8
    strength: tuple[float, float] = (0.3, 1.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.stored_rendering_prob <= 1 or not 0 <= self.second_view <= 1:
            raise ConfigError("clips: stored_rendering_prob and second_view must lie in [0, 1]")


class FileViews(FileClips):
    """Pairs of rendering and video from files; sample `index` is always the same.

    Raises:
        InputError: the folder holds no shards, or none of its clips has a video.
    """

    def __init__(self, options: FileViewOptions, *, seed: int) -> None:
        super().__init__(options, seed=seed, only_with_video=True)

    def __getitem__(self, index: int) -> ViewBatch:
        """Sample `index` as a batch of one.

        Raises:
            InputError: its clip is damaged.
        """
        clip = self.cut(index, with_video=True)
        tracks = clip.tracks
        assert clip.video is not None  # clips without one are excluded
        rng = numpy_generator("view", self._seed, index)
        size = (tracks.height, tracks.width)
        if (
            clip.rendering is not None
            and clip.coverage is not None
            and rng.random() < self.options.stored_rendering_prob
        ):
            known = resize_video(clip.rendering, size) / 2 + 0.5
            coverage = (resize_video(clip.coverage[..., None] * 255, size) > 0)[..., :1].float()
            depth_m = torch.ones_like(coverage[..., 0])  # unknown: all holes are filled alike
        else:
            rendering = self._rendered(tracks, rng)
            known, depth_m = rendering.colour, rendering.depth_m
            coverage = (~rendering.hole_mask)[..., None].float()
        known = fill_background(known, depth_m, coverage[..., 0] > 0) * 2 - 1
        missing = self.options.frames - tracks.frames
        truth, known, coverage = (
            rearrange(pad_frames(frames, missing), "t h w c -> 1 c t h w")
            for frames in (resize_video(clip.video, size), known, coverage)
        )
        real = torch.arange(self.options.frames) < tracks.frames
        return ViewBatch(
            truth=truth,
            known=known,
            coverage=coverage,
            captions=(tracks.caption,),
            names=(clip.name,),
            real=real[None].float(),
        )

    def _rendered(self, tracks: PointTracks, rng: np.random.Generator) -> Rendering:
        """The tracks rendered into the source camera."""
        if rng.random() < self.options.second_view:
            depth = DepthMap.from_raw(tracks.depth_m, tracks.camera)
            path = _second_path(tracks, depth.scene_depth_m, self.options.strength, rng)
            tracks = hide_unseen(tracks, path)
        source = named_camera_path(
            "static", frames=tracks.frames, scene_depth_m=1.0, camera=tracks.camera, strength=1.0
        )
        return render_tracks(tracks, source, height=tracks.height, width=tracks.width)


def _second_path(
    tracks: PointTracks, scene_depth_m: float, strength: tuple[float, float], rng: np.random.Generator
) -> CameraPath:
    """A random one of `PATHS`."""
    return named_camera_path(
        PATHS[int(rng.integers(len(PATHS)))],
        frames=tracks.frames,
        scene_depth_m=scene_depth_m,
        camera=tracks.camera,
        strength=float(rng.uniform(*strength)),
    )


def open_views(files: FileViewOptions | None, scenes: HoleOptions, *, seed: int) -> Dataset:
    """The data set of files if configured, else procedural scenes."""
    return FileViews(files, seed=seed) if files else HoleClips(scenes, seed=seed)


def hide_unseen(tracks: PointTracks, path: CameraPath) -> PointTracks:
    """The tracks with the points that are not visible from `path` in a frame moved behind the source camera.

    Frame 0, in which every path is at the source camera, is unchanged.
    """
    seen = visible_points(
        tracks.positions.flatten(1, 2),
        tracks.footprint_m.flatten(),
        path,
        tracks.height,
        tracks.width,
        patches_m=surface_patches(tracks.positions, tracks.depth_m, tracks.camera).flatten(1, 2),
    ).view(tracks.visibility.shape)
    seen[0] = True
    behind = tracks.positions.new_tensor((0.0, 0.0, -1.0))
    return replace(tracks, positions=torch.where(seen[..., None], tracks.positions, behind))


def resize_video(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """A uint8 video [frames, height, width, channels] resized to `size`, in [-1, 1]."""
    planes = rearrange(frames, "t h w c -> t c h w").float() / 127.5 - 1
    if planes.shape[-2:] != size:
        planes = interpolate(planes, size, mode="bilinear", antialias=True, align_corners=False).clamp(-1, 1)
    return rearrange(planes, "t c h w -> t h w c")
