"""Training pairs for 4D-ViSM from files: what a video shows, and what its point tracks alone tell of it.

The source camera is the only one such data have the truth of. To open the holes that another viewpoint
would, the tracks are looked at from a second camera path first; only points that it sees are then rendered
back into the source camera. The reference implementation trains on holes from moving objects alone.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from more4d.datasets.batch import ViewBatch
from more4d.datasets.file_clips import FileClipOptions, FileClips, pad_frames
from more4d.datasets.holes import PATHS, HoleClips, HoleOptions
from more4d.foundation.errors import ConfigError
from more4d.foundation.seeding import numpy_generator
from more4d.geometry.background import fill_background
from more4d.geometry.camera import CameraPath, DepthMap
from more4d.geometry.camera_paths import named_camera_path
from more4d.geometry.tracks import PointTracks
from more4d.raster.interface import Rendering
from more4d.raster.render import render_tracks, surface_patches, visible_points

BEHIND_CAMERA = (0.0, 0.0, -1.0)


@dataclass(frozen=True, kw_only=True)
class FileViewOptions(FileClipOptions):
    """Which data set, how its clips are cut, and what opens holes in them.

    Attributes:
        stored_rendering_prob: how often a rendering that came with the data is used, where there is one.
        second_view: how often a second camera path opens holes; else only what moves does.
        strength: range of that path's size, 1 being what a user gets.
    """

    stored_rendering_prob: float = 0.0
    second_view: float = 0.8
    strength: tuple[float, float] = (0.3, 1.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.stored_rendering_prob <= 1 or not 0 <= self.second_view <= 1:
            raise ConfigError("clips: stored_rendering_prob and second_view must lie in [0, 1]")


class FileViews(Dataset):
    """Pairs of rendering and video; sample `index` is always the same.

    Raises:
        InputError: the folder holds no shards, or none of its clips has a video.
    """

    def __init__(self, options: FileViewOptions, *, seed: int) -> None:
        self.options, self._seed = options, seed
        self.clips = FileClips(options, seed=seed, only_with_video=True)

    def __len__(self) -> int:
        """Samples in an epoch; later indices go on with the next one."""
        return len(self.clips)

    @property
    def group(self) -> int | None:
        """So many consecutive samples have one shape; None: all have."""
        return self.clips.group

    def __getitem__(self, index: int) -> ViewBatch:
        """Sample `index` as a batch of one.

        Raises:
            InputError: its clip is damaged.
        """
        clip = self.clips.cut(index, with_video=True)
        tracks = clip.tracks
        assert clip.video is not None  # the others were left out
        rng = numpy_generator("view", self._seed, index)
        size = (tracks.height, tracks.width)
        if (
            clip.rendering is not None
            and clip.coverage is not None
            and rng.random() < self.options.stored_rendering_prob
        ):
            known = resize_video(clip.rendering, size) / 2 + 0.5
            coverage = (resize_video(clip.coverage[..., None] * 255, size) > 0)[..., :1].float()
            depth_m = torch.ones_like(coverage[..., 0])  # nobody knows it: all holes are filled alike
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
        """What the source camera sees of the tracks."""
        size = {"height": tracks.height, "width": tracks.width}
        if rng.random() < self.options.second_view:
            tracks = hide_unseen(tracks, self._second_path(tracks, rng))
        source = named_camera_path(
            "static", frames=tracks.frames, scene_depth_m=1.0, camera=tracks.camera, strength=1.0
        )
        return render_tracks(tracks, source, **size)

    def _second_path(self, tracks: PointTracks, rng: np.random.Generator) -> CameraPath:
        depth = DepthMap.from_raw(tracks.depth_m, tracks.camera)
        return named_camera_path(
            PATHS[int(rng.integers(len(PATHS)))],
            frames=tracks.frames,
            scene_depth_m=depth.scene_depth_m,
            camera=tracks.camera,
            strength=float(rng.uniform(*self.options.strength)),
        )


def open_views(files: FileViewOptions | None, scenes: HoleOptions, *, seed: int) -> Dataset:
    """The data set of files if there is one, else procedural scenes."""
    return FileViews(files, seed=seed) if files else HoleClips(scenes, seed=seed)


def hide_unseen(tracks: PointTracks, path: CameraPath) -> PointTracks:
    """The tracks with everything that `path` does not see in a frame put behind the source camera there.

    Frame 0, where every path stands at the source camera, stays as it is.
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
    behind = tracks.positions.new_tensor(BEHIND_CAMERA)
    return replace(tracks, positions=torch.where(seen[..., None], tracks.positions, behind))


def resize_video(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """A video of bytes at `size`, in [-1, 1], frames height width channels."""
    planes = rearrange(frames, "t h w c -> t c h w").float() / 127.5 - 1
    if planes.shape[-2:] != size:
        planes = interpolate(planes, size, mode="bilinear", antialias=True, align_corners=False).clamp(-1, 1)
    return rearrange(planes, "t c h w -> t h w c")
