"""One batch of clips, whatever data set it comes from."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

SomeBatch = TypeVar("SomeBatch", bound="Batch")


class Batch:
    """A dataclass of tensors, whose first axis counts samples, and of tuples with an entry per sample; None
    stands for what no sample of the batch has.
    """

    def to(self: SomeBatch, device: str | torch.device) -> SomeBatch:
        """The same batch with its tensors on `device`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{n: v.to(device) for n, v in values.items() if isinstance(v, Tensor)})

    @classmethod
    def collate(cls: type[SomeBatch], batches: Sequence[SomeBatch]) -> SomeBatch:
        """Join batches (of one sample each, usually) along the first axis."""
        columns = {field.name: [getattr(batch, field.name) for batch in batches] for field in fields(cls)}
        return cls(**{name: concat_field(column) for name, column in columns.items()})


def concat_field(column: Sequence[Tensor | tuple | None]) -> Tensor | tuple | None:
    """The values of one field, one after the other."""
    if column[0] is None:
        return None
    return torch.cat(list(column)) if isinstance(column[0], Tensor) else sum(column, ())


@dataclass(frozen=True, kw_only=True)
class ClipBatch(Batch):
    """Clips of equal size, in the layout that networks take.

    Attributes:
        image: the photo in [-1, 1].
        depth_m: its depth in metres.
        motion: normalised motion (geometry.motion) of every pixel.
        weight: how much each pixel counts in each frame: 1 where the camera sees the point, less where it
            is hidden, 0 in frames that only pad a short clip.
        objects: 1 on things that stand in the scene, whether they move or not; 0 on ground, walls and sky.
        captions: one per clip.
        names: of the clips, for messages.
        photo: the same picture, sharper, for networks that look closer; None where there is none.
        labels: what each pixel shows and does (`datasets.labels`); None where nobody knows.
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
    """Videos along a second camera path: what the rasteriser saw of the point tracks, and the truth.

    Attributes:
        truth: the video in [-1, 1].
        known: the rendering in [-1, 1]; where nothing was seen, what lies behind
            (`geometry.background_fill.fill_background`).
        coverage: 1 where the rendering saw something, else 0.
        captions: one per clip.
        names: of the clips, for messages.
        real: 1 for frames of the clip, 0 for frames that only pad a short one; None: all are real.
    """

    truth: Float[Tensor, "b 3 t height width"]
    known: Float[Tensor, "b 3 t height width"]
    coverage: Float[Tensor, "b 1 t height width"]
    captions: tuple[str, ...]
    names: tuple[str, ...] = ()
    real: Float[Tensor, "b t"] | None = None


class LatentBatch(Batch):
    """A batch whose texts have the length of the longest one in it: zeros beyond the end say nothing."""

    kind: ClassVar[str]
    """What a cache calls these."""
    text: Tensor

    @classmethod
    def collate(cls, batches: Sequence["LatentBatch"]) -> "LatentBatch":
        length = max(batch.text.shape[1] for batch in batches)
        return super().collate([batch.with_text(pad_text(batch.text, length)) for batch in batches])

    def with_text(self, text: Tensor) -> "LatentBatch":
        """The same batch with other text embeddings."""
        return type(self)(**{**vars(self), "text": text})


def pad_text(text: Float[Tensor, "b short dim"], length: int) -> Float[Tensor, "b long dim"]:
    """Text embeddings with zeros appended."""
    return pad(text, (0, 0, 0, length - text.shape[1]))


def trim_text(text: Float[Tensor, "b long dim"]) -> Float[Tensor, "b short dim"]:
    """Text embeddings without the zeros behind the longest text; at least one vector stays."""
    used = (text != 0).any(-1).any(0).nonzero()
    return text[:, : int(used[-1]) + 1 if len(used) else 1]


@dataclass(frozen=True, kw_only=True)
class STraGLatents(LatentBatch):
    """Trajectory latents and what 4D-STraG is told, on the latent grid (f frames of h x w cells).

    Attributes:
        motion: what is to be generated.
        image: the photo's latents, whose first frame also makes the reference tokens.
        depth: the depth map's latents.
        text: embeddings of the captions, zero beyond the end of each.
        features: motion features of the photo.
        clip: CLIP's view of the photo.
        weight: how much of each cell is really seen, and no padding.
        moving: 1 where something in the cell moves.
        captions: the captions themselves, for messages.
        names: of the clips, for messages.
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
    captions: tuple[str, ...]
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ViSMLatents(LatentBatch):
    """Latents of a true video and what 4D-ViSM is told, on the latent grid.

    Attributes:
        video: what is to be generated.
        known: latents of the rendering, grey in its holes.
        mask: 1 where the rendering saw something, for the four frames behind each latent frame.
        text: embeddings of the captions, zero beyond the end of each.
        clip: CLIP's view of the photo.
        real: how much of each latent frame is no padding.
        captions: the captions themselves, for messages.
        names: of the clips, for messages.
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
