"""What the generators are trained on, after all that is frozen has looked at it: latents and embeddings.

A batch of them comes from pixels in every step, or once and for all from a cache (`latent_cache`); training
does not know the difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from more4d.datasets.batch import Batch


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
