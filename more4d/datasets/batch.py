"""Batches: clips, view pairs, and the latents and embeddings that frozen encoders make of them.

Latents are encoded from pixels in every step or read from a cache (`latent_cache`); training is the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

SomeBatch = TypeVar("SomeBatch", bound="Batch")


class Batch:
    """A dataclass of tensors [batch, ...] and of tuples with an entry per sample; None: no sample has a
    value.
    """

    def to(self: SomeBatch, device: str | torch.device) -> SomeBatch:
        """The same batch with its tensors on `device`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{n: v.to(device) for n, v in values.items() if isinstance(v, Tensor)})

    @classmethod
    def collate(cls: type[SomeBatch], batches: Sequence[SomeBatch]) -> SomeBatch:
        """Concatenate batches (usually of one sample each) along the first axis."""
        columns = {field.name: [getattr(batch, field.name) for batch in batches] for field in fields(cls)}
        joined = {
            name: torch.cat(column) if isinstance(column[0], Tensor) else sum(column, ())
            for name, column in columns.items()
            if column[0] is not None
        }
        return cls(**joined)


@dataclass(frozen=True, kw_only=True)
class ClipBatch(Batch):
    """Clips of equal size.

    Attributes:
        image: the photo in [-1, 1].
        depth_m: its depth in metres.
        motion: normalised motion (geometry.tracks) of every pixel.
        weight: loss weight of each pixel and frame: 1 for visible points, less for occluded ones, 0 in frames
            that pad a short clip.
        objects: 1 on objects, moving or static; 0 on ground, walls and sky.
        captions: one per clip.
        names: names of the clips, for messages.
        photo: the photo at higher resolution, for encoders with larger inputs; None if there is none.
        labels: classes of each pixel (`labelled_images.label_map`); None if unknown.
    """

    image: Float[Tensor, "b 3 height width"]
    depth_m: Float[Tensor, "b 1 height width"]
    motion: Float[Tensor, "b 3 t height width"]
    weight: Float[Tensor, "b 1 t height width"]
    objects: Float[Tensor, "b 1 height width"]
    captions: tuple[str, ...]
    names: tuple[str, ...] = ()
    photo: Float[Tensor, "b 3 photo_height photo_width"] | None = None
    labels: Int[Tensor, "b 4 height width"] | None = None


@dataclass(frozen=True, kw_only=True)
class ViewBatch(Batch):
    """Videos along a second camera path: rendered point tracks and ground truth.

    Attributes:
        truth: the ground-truth video in [-1, 1].
        known: the rendering in [-1, 1], its holes filled from the background
            (`geometry.background.fill_background`).
        coverage: 1 where the rendering covers the pixel, 0 in holes.
        captions: one per clip.
        names: names of the clips, for messages.
        real: 1 for frames of the clip, 0 for padding of a short one; None: no padding.
    """

    truth: Float[Tensor, "b 3 t height width"]
    known: Float[Tensor, "b 3 t height width"]
    coverage: Float[Tensor, "b 1 t height width"]
    captions: tuple[str, ...]
    names: tuple[str, ...] = ()
    real: Float[Tensor, "b t"] | None = None


class LatentBatch(Batch):
    """A batch whose text embeddings are zero-padded to the longest one."""

    kind: ClassVar[str]
    """Name of the class in a cache."""
    text: Tensor

    @classmethod
    def collate(cls, batches: Sequence["LatentBatch"]) -> "LatentBatch":
        length = max(batch.text.shape[1] for batch in batches)
        return super().collate([replace(batch, text=pad_text(batch.text, length)) for batch in batches])


def pad_text(text: Float[Tensor, "b short dim"], length: int) -> Float[Tensor, "b long dim"]:
    """Text embeddings with zeros appended."""
    return pad(text, (0, 0, 0, length - text.shape[1]))


def trim_text(text: Float[Tensor, "b long dim"]) -> Float[Tensor, "b short dim"]:
    """Text embeddings without the zeros after the longest text; at least one vector remains."""
    used = (text != 0).any(-1).any(0).nonzero()
    return text[:, : int(used[-1]) + 1 if len(used) else 1]


@dataclass(frozen=True, kw_only=True)
class STraGLatents(LatentBatch):
    """Trajectory latents and the conditions of 4D-STraG, on the latent grid [f, h, w].

    Attributes:
        motion: the latents to generate.
        image: the photo's latents; the first frame also gives the reference tokens.
        depth: the depth map's latents.
        text: embeddings of the captions, zero-padded.
        features: motion features of the photo.
        clip: CLIP embedding of the photo.
        weight: loss weight of each latent position: fraction of visible points that are no padding.
        moving: 1 at latent positions with motion.
        reach: how far things go (`geometry.rigid_motion.reach`); None in caches of earlier versions.
        captions: the captions, for messages.
        names: names of the clips, for messages.
    """

    kind: ClassVar[str] = "strag-latents"

    motion: Float[Tensor, "b 16 f h w"]
    image: Float[Tensor, "b image_channels f h w"]
    depth: Float[Tensor, "b depth_channels f h w"]
    text: Float[Tensor, "b length text_dim"]
    features: Float[Tensor, "b feature_dim grid_h grid_w"] | None = None
    clip: Float[Tensor, "b tokens clip_dim"] | None = None
    weight: Float[Tensor, "b 1 f h w"]
    moving: Float[Tensor, "b 1 h w"]
    reach: Float[Tensor, " b"] | None = None
    captions: tuple[str, ...]
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ViSMLatents(LatentBatch):
    """Video latents and the conditions of 4D-ViSM, on the latent grid.

    Attributes:
        video: the latents to generate.
        known: latents of the rendering, grey in its holes.
        mask: 1 where the rendering covers the pixel, for the four video frames of each latent frame.
        text: embeddings of the captions, zero-padded.
        clip: CLIP embedding of the photo.
        real: fraction of each latent frame that is no padding.
        captions: the captions, for messages.
        names: names of the clips, for messages.
    """

    kind: ClassVar[str] = "vism-latents"

    video: Float[Tensor, "b 16 f h w"]
    known: Float[Tensor, "b 16 f h w"]
    mask: Float[Tensor, "b 4 f h w"]
    text: Float[Tensor, "b length text_dim"]
    clip: Float[Tensor, "b tokens clip_dim"] | None = None
    real: Float[Tensor, "b f"]
    captions: tuple[str, ...]
    names: tuple[str, ...] = ()
