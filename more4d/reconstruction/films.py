"""The films that a scene is reconstructed from, at the size at which it is optimised.

A film is what one camera saw at given times, finished: with its holes filled. `known` says where the tracks
show something themselves; elsewhere the film was made up, and counts less.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from more4d.geometry.camera import CameraPath
from more4d.raster.interface import pack_cameras

WHITE = 255


@dataclass(frozen=True, kw_only=True)
class TrainingFilm:
    """One camera's finished film.

    Attributes:
        camera_path: a pose and intrinsics per picture.
        times: of the pictures, in frames of the scene; all 0 where time stands still.
        pictures: RGB.
        known: where the tracks show something.
    """

    camera_path: CameraPath
    times: tuple[float, ...]
    pictures: UInt8[Tensor, "frames height width 3"]
    known: Bool[Tensor, "frames height width"]

    def __post_init__(self) -> None:
        frames = self.camera_path.frames
        if len(self.times) != frames or len(self.pictures) != frames or len(self.known) != frames:
            raise ValueError(
                f"{frames} poses need as many times, pictures and masks, got {len(self.times)}, "
                f"{len(self.pictures)} and {len(self.known)}"
            )

    def __len__(self) -> int:
        return len(self.times)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return self.pictures.shape[1], self.pictures.shape[2]

    def cameras(self) -> Float[Tensor, "frames 16"]:
        """As the rasterisers take them."""
        return pack_cameras(self.camera_path, *self.size)

    def picture(self, index: int) -> Float[Tensor, "height width 3"]:
        """RGB in [0, 1]."""
        return self.pictures[index].float() / WHITE

    @classmethod
    def shrunk(
        cls,
        camera_path: CameraPath,
        times: Iterable[float],
        frames: Iterable[Float[Tensor, "film_height film_width 3"]],
        holes: Iterable[Bool[Tensor, "film_height film_width"]],
        size: tuple[int, int],
    ) -> "TrainingFilm":
        """A film of any size at `size` (height, width): the mean of what each pixel covers.

        Args:
            holes: where the tracks show nothing; a pixel is known if most of it is.
        """
        pictures, known = [], []
        for frame, hole in zip(frames, holes, strict=True):
            small = adaptive_avg_pool2d(frame.movedim(-1, 0)[None], size)[0].movedim(0, -1)
            pictures.append((small * WHITE).round().clamp(0, WHITE).byte())
            known.append(adaptive_avg_pool2d(hole.float()[None, None], size)[0, 0] < 0.5)
        return cls(
            camera_path=camera_path,
            times=tuple(times),
            pictures=torch.stack(pictures),
            known=torch.stack(known),
        )
