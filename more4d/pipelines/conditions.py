"""What the two generators are told, made by one function each: for pictures that users give and for training.

Everything here runs on the device of its inputs, in the layout of networks: images and videos in [-1, 1].
"""

from collections.abc import Callable, Mapping
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

# What the CLIP encoder of 4D-STraG sees.
ClipImage = Literal["photo", "grey"]
# Prompts are dropped in training with probability 0.1: the empty prompt is the unconditional one.
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
    # [b, c, f, h, w]: the image, repeated for every frame.
    image_latents = codec.encode_image(image, frames)
    # Image encoders take [0, 1] and normalise themselves.
    seen = (image + 1) / 2
    shown = torch.full_like(seen, GREY) if clip_image == "grey" else seen
    # Motion perception (MPM): features of a video network on the still image, [b, d, grid, grid].
    features = None
    if motion_features and wan.motion_feature_dim:
        features = motion_features(resize_for_encoder(motion_features, image, photo))
    # The transformer concatenates [noisy | image | zeros | depth] along channels (64 of them at 14B).
    return STraGConditions(
        image_latents=image_latents,
        depth_latents=codec.encode_depth(depth_m, frames),
        # Tokens of the image in front of the video tokens.
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
    # Antialiased, or small objects would alias in the features.
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
    # [b, 16, f, h, w], with holes grey (0 in [-1, 1]) or filled from the background.
    known = codec.encode_video(rendering if config.background_fill else masked_video(rendering, coverage))
    return ViSMConditions(
        known_latents=known,
        # [b, 4, f, h, w]: the mask of the 4 frames of each latent as channels.
        known_mask=pack_mask(coverage, (known.shape[-2], known.shape[-1])),
        text=text_encoder.encode_text(prompts),
        # The image, not the rendering: what the scene looks like without holes.
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
        # [b, length, text_dim]; the text encoder itself may be freed by now.
        return torch.cat([self.embeddings[prompt] for prompt in prompts])


def uncond_prompts(settings: Sampling) -> tuple[str, ...]:
    """The prompts that guidance needs beside the user's."""
    # v = v_uncond + 1 (v_cond - v_uncond) needs no unconditional pass.
    return () if settings.guidance == 1 else (NULL_PROMPT,)


Progress = Callable[[str, int, int], None]
"""(stage, steps done, steps in all), called when a stage starts (with 0 steps done) and after each step."""


def no_progress(stage: str, done: int, total: int) -> None:
    """Reports nothing."""


def step_counter(progress: Progress, stage: str, total: int) -> Callable[[], None]:
    """A function to call after each of `total` steps of a stage that starts now."""
    done = 0
    progress(stage, 0, total)

    def step() -> None:
        nonlocal done
        done += 1
        progress(stage, done, total)

    return step
