"""One batch of clips, whatever data set it comes from."""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ClipBatch:
    """Clips of equal size, in the layout that networks take.

    Attributes:
        image: the photo in [-1, 1].
        depth_m: its depth in metres.
        motion: normalised motion (geometry.motion) of every pixel.
        weight: how much each pixel counts in each frame: 1 where the camera sees the point, less where it
            is hidden.
        objects: 1 on things that stand in the scene, whether they move or not; 0 on ground, walls and sky.
        captions: one per clip.
    """

    image: Float[Tensor, "b 3 height width"]
    depth_m: Float[Tensor, "b 1 height width"]
    motion: Float[Tensor, "b 3 t height width"]
    weight: Float[Tensor, "b 1 t height width"]
    objects: Float[Tensor, "b 1 height width"]
    captions: tuple[str, ...]

    def to(self, device: str | torch.device) -> "ClipBatch":
        moved = {
            field.name: value.to(device)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)

    @classmethod
    def collate(cls, clips: list["ClipBatch"]) -> "ClipBatch":
        """Join batches (of one clip each, usually) along the first axis."""
        joined = {
            name: torch.cat([getattr(clip, name) for clip in clips])
            for name in ("image", "depth_m", "motion", "weight", "objects")
        }
        return cls(captions=tuple(text for clip in clips for text in clip.captions), **joined)


@dataclass(frozen=True, kw_only=True)
class ViewBatch:
    """Videos along a second camera path: what the rasteriser saw of the point tracks, and the truth.

    Attributes:
        truth: the video in [-1, 1].
        known: the rendering in [-1, 1], 0 where nothing was seen.
        coverage: 1 where the rendering saw something, else 0.
        captions: one per clip.
    """

    truth: Float[Tensor, "b 3 t height width"]
    known: Float[Tensor, "b 3 t height width"]
    coverage: Float[Tensor, "b 1 t height width"]
    captions: tuple[str, ...]

    def to(self, device: str | torch.device) -> "ViewBatch":
        return replace(
            self,
            truth=self.truth.to(device),
            known=self.known.to(device),
            coverage=self.coverage.to(device),
        )

    @classmethod
    def collate(cls, views: list["ViewBatch"]) -> "ViewBatch":
        """Join batches (of one video each, usually) along the first axis."""
        joined = {
            name: torch.cat([getattr(v, name) for v in views]) for name in ("truth", "known", "coverage")
        }
        return cls(captions=tuple(text for view in views for text in view.captions), **joined)
