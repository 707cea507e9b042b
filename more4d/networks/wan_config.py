"""The numbers of a Wan transformer, and how to read them from published files."""

from dataclasses import dataclass
from typing import Literal

from more4d.foundation.errors import ConfigError

CLIP_DIM = 1280


@dataclass(frozen=True, kw_only=True)
class WanConfig:
    """The numbers of a Wan transformer; the defaults are those all published ones share.

    `motion_token_alignment` says which tokens motion features guide where reference tokens stand in front:
    with "aligned" those of the video, each by its own cell; with "moge4d" the same number of tokens from the
    very first on, so that a frame's guidance lands on the frame before it and the last frame has none. The
    latter is how the reference implementation computes, and what weights trained with it have learned to
    expect.
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
        if self.dim // self.heads < 6:
            raise ConfigError(f"dim {self.dim} / heads {self.heads} leaves no channels for three rotary axes")
        if self.freq_dim % 2:
            raise ConfigError(f"freq_dim must be even, got {self.freq_dim}")
        if self.patch_size[0] != 1 and (self.reference_tokens or self.motion_feature_dim):
            raise ConfigError(
                f"reference tokens and motion features need a patch of 1 frame, got {self.patch_size}"
            )


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
"""Wan2.1-Fun V1.1 Control and InP, and Control as 4D-STraG has it: with depth and motion features."""
