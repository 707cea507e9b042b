"""The numbers of a Wan transformer, and how to read them from published files."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from more4d.foundation.errors import ConfigError

CLIP_DIM = 1280


@dataclass(frozen=True, kw_only=True)
class WanConfig:
    """The numbers of a Wan transformer; the defaults are those all published ones share.

    `guidance_alignment` says which tokens motion features guide where reference tokens stand in front: with
    "front" those of the video, each by its own cell; with "published" the same number of tokens from the very
    first on, so that a frame's guidance lands on the frame before it and the last frame has none. The latter
    is how the reference implementation computes, and what weights trained with it have learned to expect.
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
    control_adapter: bool = False
    motion_feature_dim: int | None = None
    guidance_alignment: Literal["front", "published"] = "front"
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

    @classmethod
    def from_published(
        cls, config: Mapping[str, Any], weights: Mapping[str, Tensor] | None = None
    ) -> "WanConfig":
        """Read a published `config.json`; where `weights` (published names) are given, their shapes decide.

        The file knows nothing of the width of image features, and 4D-STraG's keeps the channels of the
        transformer it grew from, so give the weights where there are any.

        Raises:
            ConfigError: the file describes another kind of transformer, or lacks a number.
        """
        if not config.get("qk_norm", True):
            raise ConfigError("a Wan transformer without query/key norm is not supported (qk_norm is false)")

        def number(*names: str) -> Any:
            found = [config[name] for name in names if config.get(name) is not None]
            if not found:
                raise ConfigError(f"the published transformer configuration has no '{names[0]}'")
            return found[0]

        published = cls(
            in_channels=number("in_dim", "in_channels"),
            dim=number("dim", "hidden_size"),
            ffn_dim=number("ffn_dim"),
            heads=number("num_heads"),
            layers=number("num_layers"),
            out_channels=config.get("out_dim", 16),
            patch_size=tuple(config.get("patch_size", (1, 2, 2))),
            freq_dim=config.get("freq_dim", 256),
            text_dim=config.get("text_dim", 4096),
            text_length=config.get("text_len", 512),
            image_dim=CLIP_DIM if config.get("model_type") == "i2v" else None,
            reference_tokens=bool(config.get("add_ref_conv")),
            control_adapter=bool(config.get("add_control_adapter")),
            motion_feature_dim=config.get("guidance_dim"),
            cross_attn_norm=config.get("cross_attn_norm", True),
            eps=config.get("eps", 1e-6),
        )
        return published if weights is None else _corrected(published, weights)


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


def _corrected(config: WanConfig, weights: Mapping[str, Tensor]) -> WanConfig:
    """The configuration with what the weights know better."""

    def width(name: str, axis: int) -> int | None:
        return weights[name].shape[axis] if name in weights else None

    return replace(
        config,
        in_channels=width("patch_embedding.weight", 1) or config.in_channels,
        image_dim=width("img_emb.proj.0.weight", 0),
        reference_tokens="ref_conv.weight" in weights,
        control_adapter="control_adapter.conv.weight" in weights,
        motion_feature_dim=width("feature_adapter.0.weight", 0),
    )
