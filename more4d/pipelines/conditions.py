"""What the two generators are told, made by one function each: for pictures that users give and for training.

Everything here runs on the device of its inputs, in the layout of networks: images and videos in [-1, 1].
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from more4d.networks.conditioners import ClipVision
from more4d.networks.interface import (
    STraGConditions,
    TextEncoder,
    TrajectoryCodec,
    VideoCodec,
    ViSMConditions,
)
from more4d.networks.vism import masked_video, pack_mask
from more4d.networks.wan_config import WanConfig

ClipImage = Literal["photo", "grey"]
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
) -> STraGConditions:
    """Conditions of 4D-STraG with configuration `wan` for `frames` video frames.

    The reference tokens are the photo's first latent frame; motion features see the photo itself, and so does
    CLIP, if it is not shown a grey picture.
    """
    image_latents = codec.encode_image(image, frames)
    photo = (image + 1) / 2
    shown = torch.full_like(photo, GREY) if clip_image == "grey" else photo
    return STraGConditions(
        image_latents=image_latents,
        depth_latents=codec.encode_depth(depth_m, frames),
        reference_latents=image_latents[:, :, 0] if wan.reference_tokens else None,
        text=text_encoder.encode_text(prompts),
        motion_features=motion_features(photo) if motion_features and wan.motion_feature_dim else None,
        clip=clip.encode_image(shown) if clip and wan.image_dim else None,
    )


def vism_conditions(
    wan: WanConfig,
    codec: VideoCodec,
    text_encoder: TextEncoder,
    clip: ClipVision | None,
    *,
    rendering: Float[Tensor, "b 3 t height width"],
    coverage: Float[Tensor, "b 1 t height width"],
    photo: Float[Tensor, "b 3 photo_height photo_width"],
    prompts: list[str],
) -> ViSMConditions:
    """Conditions of 4D-ViSM with configuration `wan`: the rendering, grey in its holes; where these are."""
    known = codec.encode_video(masked_video(rendering, coverage))
    return ViSMConditions(
        known_latents=known,
        known_mask=pack_mask(coverage, (known.shape[-2], known.shape[-1])),
        text=text_encoder.encode_text(prompts),
        clip=clip.encode_image((photo + 1) / 2) if clip and wan.image_dim else None,
    )
