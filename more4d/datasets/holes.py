"""Training pairs for 4D-ViSM: exact tracks rendered along a second camera path, and what that camera
really saw.

The reference implementation only ever shows the source viewpoint; here holes come from parallax as well as
from moving objects, as they do when a user moves the camera.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from more4d.datasets.batch import ViewBatch
from more4d.files.arrays import load_arrays
from more4d.files.atomic import atomic_write
from more4d.foundation.seeding import derive_seed, numpy_generator
from more4d.geometry.background import fill_background
from more4d.geometry.camera_paths import named_camera_path
from more4d.raster.interface import Rendering
from more4d.raster.render import render_tracks
from more4d.scenes.render import render_clip, render_video
from more4d.scenes.scene_sampling import sample_scene

PATHS = (
    "static",
    "forward_backward",
    "circular",
    "surrounding",
    "anti-surrounding",
    "x_moving",
    "y_moving",
    "camera_rotate",
    "mix1",
    "turn-left",
    "turn-right",
    "orbit",
)


@dataclass(frozen=True, kw_only=True)
class HoleOptions:
    """Which scenes and paths, and where rendered pairs are kept.

    Attributes:
        shapes: (height, width) of the videos; all videos of one group have the same.
        group: consecutive indices that share a shape: the batch size.
        frames: video frames, 4n + 1.
        pairs: how many different pairs there are; later indices return to the first ones.
        cache: folder where pairs are kept once made (filming is dear); None makes them anew each time.
        strength: range of the camera path's size, 1 being what a user gets.
    """

    shapes: tuple[tuple[int, int], ...] = ((96, 128), (96, 128), (96, 128), (128, 96), (112, 112))
    group: int = 8
    frames: int = 13
    pairs: int = 1600
    cache: Path | None = None
    strength: tuple[float, float] = (0.3, 1.5)


class HoleClips(Dataset):
    """Pairs of rendering and truth."""

    def __init__(self, options: HoleOptions, *, seed: int, first_seed: int = 0) -> None:
        self.options, self._seed, self._first = options, seed, first_seed

    @property
    def group(self) -> int | None:
        """So many consecutive samples have one shape; None: all have."""
        return self.options.group if len(set(self.options.shapes)) > 1 else None

    def __getitem__(self, index: int) -> ViewBatch:
        index %= self.options.pairs
        return replace(self._pair(index), names=(f"pair {index}",))

    def _pair(self, index: int) -> ViewBatch:
        if self.options.cache is None:
            return self.make(index)
        path = self.options.cache / f"pair_{self._seed}_{self._first}_{index:06d}.npz"
        if not path.exists():
            view = self.make(index)
            save_view(path, view)
            return view
        return load_view(path)

    def make(self, index: int) -> ViewBatch:
        """Film and render pair `index`."""
        rendering, truth, caption = self.rendered(index)
        known = fill_background(rendering.colour, rendering.depth_m, ~rendering.hole_mask)
        return ViewBatch(
            truth=rearrange(truth, "t h w c -> 1 c t h w") * 2 - 1,
            known=rearrange(known, "t h w c -> 1 c t h w") * 2 - 1,
            coverage=rearrange((~rendering.hole_mask).float(), "t h w -> 1 1 t h w"),
            captions=(caption,),
        )

    def rendered(self, index: int) -> tuple[Rendering, Float[Tensor, "frames height width 3"], str]:
        """What the second camera sees of the tracks, what it truly saw in [0, 1], and the caption."""
        options = self.options
        rng = numpy_generator("holes", self._seed, index)
        shapes = options.shapes
        height, width = shapes[derive_seed("shape", self._seed, index // options.group) % len(shapes)]
        scene = sample_scene(self._first + index, motion_seed=int(rng.integers(2**31)), aspect=width / height)
        clip = render_clip(scene, height=height, width=width, frames=options.frames, visibility="none")
        path = named_camera_path(
            PATHS[int(rng.integers(len(PATHS)))],
            frames=options.frames,
            scene_depth_m=clip.depth.scene_depth_m,
            camera=clip.tracks.camera,
            strength=float(rng.uniform(*options.strength)),
        )
        rendering = render_tracks(clip.tracks, path, height=height, width=width)
        truth = render_video(scene, height=height, width=width, frames=options.frames, camera_path=path)
        return rendering, truth.frames, clip.caption


def save_view(path: Path, view: ViewBatch) -> None:
    """Write one pair, 8 bits per colour and one per coverage; `load_view` is the inverse."""
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            truth=((view.truth + 1) * 127.5).round().byte().numpy(),
            known=((view.known + 1) * 127.5).round().byte().numpy(),
            coverage=np.packbits(view.coverage.numpy() > 0.5, axis=-1),
            caption=np.array(view.captions[0]),
        )


def load_view(path: Path) -> ViewBatch:
    """Read what `save_view` wrote."""
    arrays = load_arrays(path)
    truth, known = (torch.from_numpy(arrays[name]).float() / 127.5 - 1 for name in ("truth", "known"))
    bits = np.unpackbits(arrays["coverage"], axis=-1, count=truth.shape[-1])
    coverage = torch.from_numpy(bits).float()
    return ViewBatch(truth=truth, known=known, coverage=coverage, captions=(str(arrays["caption"]),))
