"""Perceptual measures by published networks: CLIP for similarity, VideoMAE for FVD-style distances, LPIPS.

CLIP and VideoMAE are folders of the transformers library that the user provides; nothing is fetched. FVD as
published uses a network (I3D) whose weights come as a program or a pickle; a distance of VideoMAE features
has the same form and other numbers, so it can be compared with itself only.

LPIPS (Zhang et al., arXiv 1801.03924) is by its authors' package, whole and masked as DyCheck does (mLPIPS).
The adapter follows the published interface of `lpips`. It was tested with a stand-in of that interface: the
package needs torchvision and the weights of AlexNet, which were not at hand, so it has not been run with
them.
"""

from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import CLIPVisionModelWithProjection, VideoMAEModel

from more4d.foundation.errors import WeightsError
from more4d.foundation.optional import require

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Video = Float[Tensor, "frames height width 3"]


class _Network:
    """A model of transformers from a folder.

    Attributes:
        kind: its class.
        what: what messages call it.
    """

    kind: ClassVar[type]
    what: ClassVar[str]

    def __init__(self, folder: Path, *, device: str | torch.device = "cpu") -> None:
        """Load the model; safetensors only, since other weight files are pickles, which can run code.

        Raises:
            WeightsError: nothing loadable is there.
        """
        try:
            model = self.kind.from_pretrained(folder, use_safetensors=True, local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"cannot load {self.what} from {folder} ({reason})") from error
        self._model, self._device = model.to(device).eval(), device


class ClipSimilarity(_Network):
    """Similarity of images by CLIP, by its vision tower and projection."""

    kind, what = CLIPVisionModelWithProjection, "a CLIP model"

    @torch.inference_mode()
    def embed(self, images: Video) -> Float[Tensor, "frames dim"]:
        """Unit vectors of images in [0, 1], squeezed to CLIP's square."""
        size = self._model.config.image_size
        pixels = _pixels(images, size, CLIP_MEAN, CLIP_STD).to(self._device)
        return torch.nn.functional.normalize(self._model(pixel_values=pixels).image_embeds, dim=-1).cpu()

    def similarity(self, video: Video, truth: Video) -> float:
        """Mean cosine of each frame with the true one. Diffusion4D's CLIP-F along the photo's own camera, and
        its CLIP-O along an orbit.
        """
        return float((self.embed(video) * self.embed(truth)).sum(-1).mean())


class VideoFeatures(_Network):
    """What a video is to VideoMAE: the mean of its tokens."""

    kind, what = VideoMAEModel, "a VideoMAE model"

    @torch.inference_mode()
    def embed(self, video: Video) -> Float[Tensor, " dim"]:
        """Features of a video in [0, 1]; frames are picked or repeated evenly to the number it was trained
        with.
        """
        config = self._model.config
        picked = torch.linspace(0, len(video) - 1, config.num_frames).round().long()
        pixels = _pixels(video[picked], config.image_size, IMAGENET_MEAN, IMAGENET_STD)
        return self._model(pixel_values=pixels[None].to(self._device)).last_hidden_state[0].mean(0).cpu()


class Lpips:
    """Perceptual distance of pictures: 0 for equal ones."""

    def __init__(self, model: Any) -> None:
        """`model` is called as `lpips.LPIPS(spatial=True)` is: two batches in [-1, 1] to [b, 1, h, w]."""
        self._model = model

    @classmethod
    def open(cls) -> "Lpips":
        """The version with AlexNet; torchvision keeps its weights, and fetches them where it has none.

        Raises:
            MissingPackageError: lpips is not installed.
            WeightsError: AlexNet's weights cannot be had.
        """
        module = require("lpips", extra="evaluate")
        try:
            return cls(module.LPIPS(net="alex", spatial=True, verbose=False).eval())
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"cannot load the weights that LPIPS needs ({reason})") from error

    @torch.inference_mode()
    def distance(
        self, video: Video, truth: Video, mask: Bool[Tensor, "frames height width"] | None = None
    ) -> float:
        """Mean over the frames, of the pixels of `mask` only, outside which both are black."""
        kept = torch.ones(video.shape[:3]) if mask is None else mask.float()
        first, second = (each.permute(0, 3, 1, 2) * kept[:, None] * 2 - 1 for each in (video, truth))
        distance = self._model(first, second)[:, 0].cpu()
        return float((distance * kept).sum() / kept.sum())


def _pixels(images: Video, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    resized = interpolate(
        images.permute(0, 3, 1, 2), (size, size), mode="bicubic", align_corners=False, antialias=True
    ).clamp(0, 1)
    middle, spread = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    return (resized - middle) / spread
