"""What the two generators are told, made by one function each: for pictures that users give and for training.

Everything here runs on the device of its inputs, in the layout of networks: images and videos in [-1, 1].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from more4d.networks.conditioners import ClipVision
from more4d.networks.interface import (
    STraGConditions,
    TextEncoder,
    TrajectoryCodec,
    VideoCodec,
    ViSMConditions,
)
from more4d.networks.vism import ViSMConfig, masked_video, pack_mask
from more4d.networks.wan_config import WanConfig
from more4d.pipelines.preset import Sampling

ClipImage = Literal["photo", "grey"]
NULL_PROMPT = ""
"""The prompt of the unconditional velocity in classifier-free guidance."""
GREY = 127 / 255
"""Of the picture that the published 4D-STraG was trained and shown with."""


def strag_conditions(
    wan: WanConfig,
    codec: TrajectoryCodec,
    text_encoder: TextEncoder,
    motion_features: nn.Module | None,
    clip: ClipVision | None,
    *,
    image: Float[Tensor, "b 3 height width"],
    depth_m: Float[Tensor, "b 1 height width"],
    prompts: list[str],
    frames: int,
    clip_image: ClipImage = "photo",
    photo: Float[Tensor, "b 3 photo_height photo_width"] | None = None,
) -> STraGConditions:
    """Conditions of 4D-STraG with configuration `wan` for `frames` video frames.

    The reference tokens are the photo's first latent frame; motion features see the photo itself, and so does
    CLIP, if it is not shown a grey picture.

    Args:
        photo: the same picture, sharper than `image`, for motion features that look closer.
    """
    image_latents = codec.encode_image(image, frames)
    seen = (image + 1) / 2
    shown = torch.full_like(seen, GREY) if clip_image == "grey" else seen
    features = None
    if motion_features and wan.motion_feature_dim:
        features = motion_features(resize_for_encoder(motion_features, image, photo))
    return STraGConditions(
        image_latents=image_latents,
        depth_latents=codec.encode_depth(depth_m, frames),
        reference_latents=image_latents[:, :, 0] if wan.reference_tokens else None,
        text=text_encoder.encode_text(prompts),
        motion_features=features,
        clip=clip.encode_image(shown) if clip and wan.image_dim else None,
    )


def resize_for_encoder(
    network: nn.Module,
    image: Float[Tensor, "b 3 height width"],
    photo: Float[Tensor, "b 3 photo_height photo_width"] | None,
) -> Float[Tensor, "b 3 closer_height closer_width"]:
    """The picture in [0, 1], as many times larger than `image` as the network wants it (`input_scale`)."""
    closer = getattr(network, "input_scale", 1)
    if closer == 1:
        return (image + 1) / 2
    size = [closer * side for side in image.shape[-2:]]
    photo = image if photo is None else photo
    return (interpolate(photo, size, mode="bilinear", antialias=True).clamp(-1, 1) + 1) / 2


def vism_conditions(
    config: ViSMConfig,
    codec: VideoCodec,
    text_encoder: TextEncoder,
    clip: ClipVision | None,
    *,
    rendering: Float[Tensor, "b 3 t height width"],
    coverage: Float[Tensor, "b 1 t height width"],
    photo: Float[Tensor, "b 3 photo_height photo_width"],
    prompts: list[str],
) -> ViSMConditions:
    """Conditions of 4D-ViSM: the rendering, and where its holes are.

    Args:
        config: of the network; if it is not `behind`, the rendering's holes become grey.
        rendering: in [-1, 1]; in holes what lies behind them, or anything.
    """
    known = codec.encode_video(rendering if config.background_fill else masked_video(rendering, coverage))
    return ViSMConditions(
        known_latents=known,
        known_mask=pack_mask(coverage, (known.shape[-2], known.shape[-1])),
        text=text_encoder.encode_text(prompts),
        clip=clip.encode_image((photo + 1) / 2) if clip and config.wan.image_dim else None,
    )


@dataclass(frozen=True)
class EncodedPrompts:
    """`interface.TextEncoder` for prompts that have been encoded, and for no others."""

    embeddings: Mapping[str, Float[Tensor, "1 length text_dim"]]

    def encode_text(self, prompts: list[str]) -> Float[Tensor, "b length text_dim"]:
        """See `interface.TextEncoder`.

        Raises:
            KeyError: one of them has not been encoded.
        """
        return torch.cat([self.embeddings[prompt] for prompt in prompts])


def uncond_prompts(settings: Sampling) -> tuple[str, ...]:
    """The prompts that guidance needs beside the user's."""
    return () if settings.guidance == 1 else (NULL_PROMPT,)
