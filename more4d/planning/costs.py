"""What a Wan transformer costs: arithmetic of one forward pass.

Arithmetic is counted as `torch.utils.flop_counter` counts it: a multiplication and an addition are two
operations, and only products of matrices, convolutions and attention count. Norms, activations and rotations
add well under one per cent.
"""

from dataclasses import dataclass
from math import prod

from more4d.networks.wan_config import WanConfig

REFERENCE_CHANNELS = 16


@dataclass(frozen=True, kw_only=True)
class TokenGrid:
    """How a video is cut into tokens: frames of latents, and rows and columns of patches."""

    frames: int
    rows: int
    columns: int

    @property
    def tokens_per_frame(self) -> int:
        """Tokens of one frame."""
        return self.rows * self.columns

    @property
    def tokens(self) -> int:
        """Tokens of the video, without those of a reference."""
        return self.frames * self.tokens_per_frame


def transformer_flops(
    config: WanConfig,
    tokens: int,
    text_tokens: int = 512,
    image_tokens: int = 257,
    reference_tokens: int = 0,
    *,
    motion_tokens: int | None = None,
) -> int:
    """Floating-point operations of one forward pass for one sample; guidance needs two, training about six.

    Training's are three forward passes' worth, and four where blocks are computed again on the way back.

    Args:
        tokens: of the video, without the reference's.
        text_tokens: of the prompt; the transformer pads it to its own length, so that fewer are no cheaper.
        image_tokens: of CLIP; nothing where the transformer takes none.
        reference_tokens: in front of the video: one frame's, or none.
        motion_tokens: motion features per sample; where not given, one per reference token, or one alone.

    Raises:
        ValueError: a number is negative, there are no tokens, or the transformer takes no reference.
    """
    if tokens < 1 or min(text_tokens, image_tokens, reference_tokens) < 0:
        raise ValueError(
            f"need tokens >= 1 and nothing negative, got {tokens} tokens, {text_tokens} of text,"
            f" {image_tokens} of an image and {reference_tokens} of a reference"
        )
    if reference_tokens and not config.reference_tokens:
        raise ValueError(f"{reference_tokens} reference tokens, but the transformer takes none")
    text_tokens = max(text_tokens, config.text_length)
    image_tokens = 0 if config.image_dim is None else image_tokens
    num_motion = 0
    if config.motion_feature_dim is not None:
        num_motion = motion_tokens if motion_tokens is not None else max(reference_tokens, 1)
    block = _block_flops(config, tokens + reference_tokens, text_tokens, image_tokens, num_motion)
    return config.layers * block + _around_blocks_flops(
        config, tokens, text_tokens, image_tokens, reference_tokens
    )


def _block_flops(
    config: WanConfig, tokens: int, text_tokens: int, image_tokens: int, motion_tokens: int
) -> int:
    dim = config.dim
    self_attention = 4 * tokens * dim**2 + 2 * tokens**2 * dim
    beside = text_tokens + image_tokens
    cross_attention = 2 * tokens * dim**2 + 2 * beside * dim**2 + 2 * tokens * beside * dim
    ffn = 2 * tokens * dim * config.ffn_dim
    guidance = 2 * motion_tokens * (config.motion_feature_dim or 0) * 2 * dim
    return 2 * (self_attention + cross_attention + ffn + guidance)


def _around_blocks_flops(
    config: WanConfig, tokens: int, text_tokens: int, image_tokens: int, reference_tokens: int
) -> int:
    dim, patch = config.dim, prod(config.patch_size)
    flat = prod(config.patch_size[1:])
    embedded = tokens * config.in_channels * patch * dim + reference_tokens * REFERENCE_CHANNELS * flat * dim
    time = config.freq_dim * dim + dim**2 + 6 * dim**2
    text = text_tokens * (config.text_dim * dim + dim**2)
    image = image_tokens * ((config.image_dim or 0) ** 2 + (config.image_dim or 0) * dim)
    head = tokens * dim * config.out_channels * patch
    return 2 * (embedded + time + text + image + head)
