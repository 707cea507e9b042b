"""Sizes of Wan transformers, and those of the published ones. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

from more4d.foundation.errors import ConfigError

CLIP_DIM = 1280  # of the open-CLIP ViT-H/14 that Wan2.1 was trained with


@dataclass(frozen=True, kw_only=True)
class WanConfig:
    """Sizes of a Wan transformer; the defaults are those that all published ones share.

    Attributes:
        in_channels: of noisy latents and everything that is concatenated to them.
        text_length: umT5 vectors per prompt; shorter texts are padded.
        image_dim: channels of CLIP features; None for a transformer without them.
        reference_tokens: whether an image may stand in front of the video (Wan2.1-Fun V1.1 Control).
        motion_feature_dim: channels of motion features; None for a transformer without motion perception.
        motion_token_alignment: which tokens motion features modulate where reference tokens stand in front:
            with "aligned" those of the video, each by its own cell; with "moge4d" the same number of tokens
            from the very first on, so that the features of each frame modulate the frame before it, and the
            last frame is not modulated. The latter is how the reference implementation computes, and what
            weights trained with it expect.
        cross_attn_norm: whether tokens are normalised, with learned scale and shift, before cross-attention.
        eps: of all norms.
    """

    in_channels: int
    dim: int
    ffn_dim: int
    heads: int
    layers: int
    out_channels: int = 16
    patch_size: tuple[int, int, int] = (1, 2, 2)
    freq_dim: int = 256
    text_dim: int = 4096
    text_length: int = 512
    image_dim: int | None = None
    reference_tokens: bool = False
    motion_feature_dim: int | None = None
    motion_token_alignment: Literal["aligned", "moge4d"] = "aligned"
    cross_attn_norm: bool = True
    eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.dim % self.heads or (self.dim // self.heads) % 2:
            raise ConfigError(f"dim {self.dim} must be an even multiple of heads {self.heads}")
        # Rotary positions need a pair of channels for each of time, height and width.
        if self.dim // self.heads < 6:
            raise ConfigError(f"dim {self.dim} / heads {self.heads} leaves no channels for three rotary axes")
        if self.freq_dim % 2:
            raise ConfigError(f"freq_dim must be even, got {self.freq_dim}")
        if self.patch_size[0] != 1 and (self.reference_tokens or self.motion_feature_dim):
            raise ConfigError(
                f"reference tokens and motion features need a patch of 1 frame, got {self.patch_size}"
            )

    def check_channels(self, names: str, channels: tuple[int, ...]) -> None:
        """Whether the input is a concatenation of `channels`, of which the first are those of the output.

        Raises:
            ConfigError: it is not; `names` says what is concatenated.
        """
        if sum(channels) != self.in_channels:
            raise ConfigError(
                f"{names} channels {' + '.join(map(str, channels))} = {sum(channels)}"
                f" must equal wan.in_channels {self.in_channels}"
            )
        if self.out_channels != channels[0]:
            raise ConfigError(
                f"wan.out_channels {self.out_channels} must equal latent_channels {channels[0]}"
            )


# Input channels: control = noisy | control video | image, inp = noisy | mask (4) | known video,
# strag = noisy | image | zeros | depth, each 16 where not said otherwise.
_SMALL = {"dim": 1536, "ffn_dim": 8960, "heads": 12, "layers": 30, "image_dim": CLIP_DIM}
_LARGE = {"dim": 5120, "ffn_dim": 13824, "heads": 40, "layers": 40, "image_dim": CLIP_DIM}
_STRAG = {"in_channels": 64, "reference_tokens": True, "motion_feature_dim": 768}

PUBLISHED: dict[str, WanConfig] = {
    f"{kind}-{size}": WanConfig(**numbers, **channels)
    for size, numbers in (("1.3b", _SMALL), ("14b", _LARGE))
    for kind, channels in (
        ("control", {"in_channels": 48, "reference_tokens": True}),
        ("inp", {"in_channels": 36}),
        ("strag", _STRAG),
    )
}
"""Wan2.1-Fun V1.1 Control and InP, and Control as 4D-STraG extends it: with depth and motion features."""
