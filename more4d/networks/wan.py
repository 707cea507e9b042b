"""The Wan2.1 video transformer with what MoRe4D adds to it. The only module that imports diffusers' Wan classes.

Added to diffusers' transformer: reference tokens in front of the video (Wan2.1-Fun V1.1 Control), a camera adapter
(Wan2.1-Fun V1.1 Control-Camera), the Motion Perception Module inside the blocks (MoRe4D), any text length, and
angles (timestep, rotary) that keep their precision whatever the type of the weights.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import (
    WanAttention,
    WanAttnProcessor,
    WanTransformer3DModel,
    WanTransformerBlock,
)
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from more4d.foundation.errors import ConfigError
from more4d.networks.motion_perception import MotionGuidance

__all__ = ["AutoencoderKLWan", "WanConfig", "WanTransformer", "convert_wan_vae_to_diffusers"]

CLIP_DIM = 1280
CAMERA_CHANNELS = 24
PIXEL_UNSHUFFLE = 8
REFERENCE_CHANNELS = 16


@dataclass(frozen=True, kw_only=True)
class WanConfig:
    """The numbers of a Wan transformer; the defaults are those all published ones share."""

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
        """Read a published `config.json`; where `weights` (published key names) are given, their shapes decide.

        Raises:
            ConfigError: the file describes another kind of transformer, or lacks a number.
        """
        if not config.get("qk_norm", True):
            raise ConfigError("a Wan transformer without query/key norm is not supported (qk_norm is false)")
        try:
            numbers = {
                "in_channels": config.get("in_dim", config.get("in_channels")),
                "dim": config.get("dim", config.get("hidden_size")),
                "ffn_dim": config["ffn_dim"],
                "heads": config["num_heads"],
                "layers": config["num_layers"],
            }
        except KeyError as error:
            raise ConfigError(f"the published transformer configuration has no {error}") from error
        shared = {"freq_dim": 256, "text_dim": 4096, "text_len": 512, "out_dim": 16, "eps": 1e-6}
        read = {key: config.get(key, default) for key, default in shared.items()}
        image_dim = CLIP_DIM if config.get("model_type") == "i2v" else None
        motion_dim = config.get("guidance_dim")
        reference, camera = config.get("add_ref_conv", False), config.get("add_control_adapter", False)
        if weights is not None:
            numbers["in_channels"] = weights["patch_embedding.weight"].shape[1]
            image_dim = (
                weights["img_emb.proj.0.weight"].shape[0] if "img_emb.proj.0.weight" in weights else None
            )
            motion_dim = (
                weights["feature_adapter.0.weight"].shape[0]
                if "feature_adapter.0.weight" in weights
                else None
            )
            reference, camera = "ref_conv.weight" in weights, "control_adapter.conv.weight" in weights
        return cls(
            **numbers,
            out_channels=read["out_dim"],
            patch_size=tuple(config.get("patch_size", (1, 2, 2))),
            freq_dim=read["freq_dim"],
            text_dim=read["text_dim"],
            text_length=read["text_len"],
            image_dim=image_dim,
            reference_tokens=bool(reference),
            control_adapter=bool(camera),
            motion_feature_dim=motion_dim,
            cross_attn_norm=config.get("cross_attn_norm", True),
            eps=read["eps"],
        )


class WanTransformer(WanTransformer3DModel):
    """Tokens of noisy latents, conditions beside them, blocks, and back to a velocity."""

    _no_split_modules = ["WanBlock"]  # noqa: RUF012
    _repeated_blocks = ["WanBlock"]  # noqa: RUF012

    def __init__(self, config: WanConfig) -> None:
        super().__init__(
            patch_size=config.patch_size,
            num_attention_heads=config.heads,
            attention_head_dim=config.dim // config.heads,
            in_channels=config.in_channels,
            out_channels=config.out_channels,
            text_dim=config.text_dim,
            freq_dim=config.freq_dim,
            ffn_dim=config.ffn_dim,
            num_layers=0,
            eps=config.eps,
            image_dim=config.image_dim,
        )
        self.numbers = config
        self.blocks = nn.ModuleList([WanBlock(config) for _ in range(config.layers)])
        self.rope = None
        self.condition_embedder.timesteps_proj = PreciseTimesteps(config.freq_dim)
        height, width = config.patch_size[1:]
        self.ref_conv = (
            nn.Conv2d(REFERENCE_CHANNELS, config.dim, (height, width), stride=(height, width))
            if config.reference_tokens
            else None
        )
        self.control_adapter = CameraAdapter(config) if config.control_adapter else None
        _initialise(self)

    def forward(
        self,
        latents: Float[Tensor, "b channels f h w"],
        timestep: Float[Tensor, "b"],
        text: Float[Tensor, "b length text_dim"],
        *,
        image: Float[Tensor, "b image_tokens image_dim"] | None = None,
        reference: Float[Tensor, "b 16 h w"] | None = None,
        motion: Float[Tensor, "b cells feature_dim"] | None = None,
        camera: Float[Tensor, "b 24 f height width"] | None = None,
    ) -> Float[Tensor, "b out f h w"]:
        """The velocity of `latents` at `timestep` = 1000 sigma.

        `text` is zero-padded to the configured length. `image` are CLIP features; `reference` the latents of a still
        whose tokens stand in front of the video, at rotary time 0, and are dropped at the end; `motion` one feature
        vector per cell of the token grid (or one for all); `camera` the camera's ray maps of four frames per latent
        frame.

        Raises:
            ValueError: a size is impossible, or a condition does not belong to this configuration.
        """
        self._check(latents, text, image, reference, motion, camera)
        dtype = self.patch_embedding.weight.dtype
        tokens = self.patch_embedding(latents.to(dtype))
        if self.control_adapter is not None and camera is not None:
            tokens = tokens + self.control_adapter(camera.to(dtype))
        frames, rows, columns = tokens.shape[2:]
        tokens = rearrange(tokens, "b c f h w -> b (f h w) c")
        in_front = 0
        if self.ref_conv is not None and reference is not None:
            still = rearrange(self.ref_conv(reference.to(dtype)), "b c h w -> b (h w) c")
            tokens, in_front = torch.cat([still, tokens], dim=1), rows * columns
        rotary = rotary_table(
            self.numbers.dim // self.numbers.heads, (frames + bool(in_front), rows, columns), tokens.device
        )

        text = functional.pad(text, (0, 0, 0, self.numbers.text_length - text.shape[1]))
        time, modulation, text, image = self.condition_embedder(
            timestep, text.to(dtype), None if image is None else image.to(dtype)
        )
        modulation = modulation.unflatten(1, (6, -1))
        motion = None if motion is None else motion.to(dtype)
        for block in self.blocks:
            arguments = (tokens, modulation, rotary, text, image, motion, in_front)
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                tokens = self._gradient_checkpointing_func(block, *arguments)
            else:
                tokens = block(*arguments)

        shift, scale = (self.scale_shift_table + time.unsqueeze(1)).chunk(2, dim=1)
        tokens = tokens[:, in_front:]
        tokens = (self.norm_out(tokens.float()) * (1 + scale) + shift).type_as(tokens)
        return self._to_latents(self.proj_out(tokens), frames, rows, columns)

    def _to_latents(self, tokens: Tensor, frames: int, rows: int, columns: int) -> Tensor:
        time, height, width = self.numbers.patch_size
        return rearrange(
            tokens,
            "b (f h w) (t y x c) -> b c (f t) (h y) (w x)",
            f=frames, h=rows, w=columns, t=time, y=height, x=width,
        )  # fmt: skip

    def _check(
        self,
        latents: Tensor,
        text: Tensor,
        image: Tensor | None,
        reference: Tensor | None,
        motion: Tensor | None,
        camera: Tensor | None,
    ) -> None:
        numbers = self.numbers
        size, patch = tuple(latents.shape[2:]), numbers.patch_size
        if any(length % step or not length for length, step in zip(size, patch, strict=True)):
            raise ValueError(
                f"latents of size {size} (frames, height, width) cannot be cut into patches {patch}"
            )
        if latents.shape[1] != numbers.in_channels:
            raise ValueError(
                f"latents have {latents.shape[1]} channels, the transformer takes {numbers.in_channels}"
            )
        if text.shape[1] > numbers.text_length:
            raise ValueError(
                f"text of {text.shape[1]} vectors is longer than the {numbers.text_length} allowed"
            )
        if (image is None) != (numbers.image_dim is None):
            raise ValueError(
                f"CLIP features {_given(image)}, but the configured image_dim is {numbers.image_dim}"
            )
        if reference is not None and not numbers.reference_tokens:
            raise ValueError("reference latents were given to a transformer without reference tokens")
        if reference is not None and reference.shape[-2:] != latents.shape[-2:]:
            raise ValueError(
                f"reference latents {tuple(reference.shape)} do not match latents {tuple(latents.shape)}"
            )
        if motion is not None and numbers.motion_feature_dim is None:
            raise ValueError("motion features were given to a transformer without motion perception")
        if (camera is not None) != numbers.control_adapter:
            raise ValueError(
                f"camera maps {_given(camera)}, but control_adapter is {numbers.control_adapter}"
            )


class WanBlock(WanTransformerBlock):
    """Self-attention, cross-attention and feed-forward, modulated by time and, where configured, by motion features."""

    def __init__(self, config: WanConfig) -> None:
        super().__init__(
            config.dim,
            config.ffn_dim,
            config.heads,
            cross_attn_norm=config.cross_attn_norm,
            eps=config.eps,
            added_kv_proj_dim=None if config.image_dim is None else config.dim,
        )
        self.attn1.set_processor(WanAttentionProcessor())
        self.attn2.set_processor(WanAttentionProcessor())
        self.guide_attention = self.guide_ffn = None
        if config.motion_feature_dim is not None:
            self.guide_attention = MotionGuidance(config.motion_feature_dim, config.dim)
            self.guide_ffn = MotionGuidance(config.motion_feature_dim, config.dim)

    def forward(
        self,
        tokens: Float[Tensor, "b tokens dim"],
        modulation: Float[Tensor, "b 6 dim"],
        rotary: tuple[Tensor, Tensor],
        text: Float[Tensor, "b length dim"],
        image: Float[Tensor, "b image_tokens dim"] | None,
        motion: Float[Tensor, "b cells feature_dim"] | None,
        in_front: int,
    ) -> Float[Tensor, "b tokens dim"]:
        """One block; the first `in_front` tokens are reference tokens, which motion features do not touch."""
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (
            self.scale_shift_table.float() + modulation.float()
        ).chunk(6, dim=1)
        kind = tokens.dtype

        normed = (self.norm1(tokens.float()) * (1 + scale) + shift).to(kind)
        if self.guide_attention is not None and motion is not None:
            normed = self.guide_attention(normed, motion, in_front)
        tokens = (tokens.float() + self.attn1(normed, rotary_emb=rotary) * gate).to(kind)

        normed = self.norm2(tokens.float()).to(kind)
        tokens = tokens + self.attn2(normed, text, image=image)

        normed = (self.norm3(tokens.float()) * (1 + ffn_scale) + ffn_shift).to(kind)
        if self.guide_ffn is not None and motion is not None:
            normed = self.guide_ffn(normed, motion, in_front)
        return (tokens.float() + self.ffn(normed).float() * ffn_gate).to(kind)


class WanAttentionProcessor(WanAttnProcessor):
    """Attention of tokens among themselves (with rotary angles), or to text and, in a separate softmax, to an image."""

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Float[Tensor, "b tokens dim"],
        encoder_hidden_states: Float[Tensor, "b length dim"] | None = None,
        attention_mask: None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
        image: Float[Tensor, "b image_tokens dim"] | None = None,
    ) -> Float[Tensor, "b tokens dim"]:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states

        def heads(values: Tensor) -> Tensor:
            return values.unflatten(2, (attn.heads, -1))

        def attend(key: Tensor, value: Tensor) -> Tensor:
            attended = dispatch_attention_fn(query, key, value, backend=self._attention_backend)
            return attended.flatten(2, 3).type_as(hidden_states)

        query, key = heads(attn.norm_q(attn.to_q(hidden_states))), heads(attn.norm_k(attn.to_k(context)))
        value = heads(attn.to_v(context))
        if rotary_emb is not None:
            query, key = rotate(query, rotary_emb), rotate(key, rotary_emb)
        attended = attend(key, value)
        if image is not None:
            key, value = heads(attn.norm_added_k(attn.add_k_proj(image))), heads(attn.add_v_proj(image))
            attended = attended + attend(key, value)
        return attn.to_out[1](attn.to_out[0](attended))


class PreciseTimesteps(nn.Module):
    """Cosines, then sines, of a timestep at geometric frequencies; the angles in float64 as in the reference."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, timestep: Float[Tensor, "b"]) -> Float[Tensor, "b channels"]:
        half = self.channels // 2
        exponents = torch.arange(half, dtype=torch.float64, device=timestep.device) / half
        angles = timestep.double().unsqueeze(1) * 10000.0**-exponents
        return torch.cat([angles.cos(), angles.sin()], dim=1).float()


class CameraAdapter(nn.Module):
    """Ray maps of the camera to an addition to the patch embedding (Wan2.1-Fun V1.1 Control-Camera)."""

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        patch = config.patch_size[1:]
        self.conv = nn.Conv2d(CAMERA_CHANNELS * PIXEL_UNSHUFFLE**2, config.dim, patch, stride=patch)
        self.conv1 = nn.Conv2d(config.dim, config.dim, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(config.dim, config.dim, kernel_size=3, padding=1)

    def forward(self, camera: Float[Tensor, "b 24 f height width"]) -> Float[Tensor, "b dim f rows columns"]:
        frames = functional.pixel_unshuffle(rearrange(camera, "b c f h w -> (b f) c h w"), PIXEL_UNSHUFFLE)
        embedded = self.conv(frames)
        embedded = embedded + self.conv2(functional.relu(self.conv1(embedded)))
        return rearrange(embedded, "(b f) c h w -> b c f h w", b=camera.shape[0])


@lru_cache(maxsize=16)
def rotary_table(
    head_dim: int, grid: tuple[int, int, int], device: torch.device
) -> tuple[Float[Tensor, "tokens 1 half"], Float[Tensor, "tokens 1 half"]]:
    """Cosine and sine of the rotary angle of each pair of channels, for tokens in the order frame, row, column."""
    side = 2 * (head_dim // 6)
    angles = []
    for axis, channels in enumerate((head_dim - 2 * side, side, side)):
        exponents = torch.arange(0, channels, 2, dtype=torch.float64, device=device) / channels
        positions = torch.arange(grid[axis], dtype=torch.float64, device=device)
        along = torch.outer(positions, 10000.0**-exponents)
        shape = [1, 1, 1, channels // 2]
        shape[axis] = grid[axis]
        angles.append(along.view(shape).expand(*grid, -1))
    angle = torch.cat(angles, dim=-1).reshape(math.prod(grid), 1, head_dim // 2)
    return angle.cos().float(), angle.sin().float()


def rotate(
    vectors: Float[Tensor, "b tokens heads head_dim"], rotary: tuple[Tensor, Tensor]
) -> Float[Tensor, "b tokens heads head_dim"]:
    """Turn each pair of neighbouring channels by its rotary angle."""
    cosine, sine = rotary
    first, second = vectors.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([first * cosine - second * sine, first * sine + second * cosine], dim=-1)
    return turned.flatten(-2).type_as(vectors)


def _given(condition: Tensor | None) -> str:
    return "are missing" if condition is None else f"of shape {tuple(condition.shape)} were given"


def _initialise(model: WanTransformer) -> None:
    """Xavier for what multiplies tokens, small normals for the embeddings of text and time, a head of zeros."""
    for name, module in model.named_modules():
        if not isinstance(module, (nn.Linear, nn.Conv2d, nn.Conv3d)):
            continue
        if name.startswith(("condition_embedder.text_embedder", "condition_embedder.time_embedder")):
            nn.init.normal_(module.weight, std=0.02)
        else:
            nn.init.xavier_uniform_(module.weight.flatten(1))
        nn.init.zeros_(module.bias)
    nn.init.zeros_(model.proj_out.weight)
