"""The Wan2.1 video transformer with what MoRe4D adds to it. The only module that imports diffusers' Wan.

Added to diffusers' transformer: reference tokens in front of the video (Wan2.1-Fun V1.1 Control), a camera
adapter (Wan2.1-Fun V1.1 Control-Camera), the Motion Perception Module inside the blocks (MoRe4D), any text
length, and single precision for rotary angles and for the timestep until it modulates tokens, whatever the
type of the other weights.
"""

from typing import NamedTuple

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
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional

from more4d.networks.context_parallel import ContextParallel, TokenShard
from more4d.networks.motion_perception import MotionModulation, TokenSpan
from more4d.networks.rotary import Float64Timesteps, apply_rotary, rotary_table
from more4d.networks.wan_config import WanConfig

__all__ = ["AutoencoderKLWan", "WanConfig", "WanTransformer", "convert_wan_vae_to_diffusers"]

CAMERA_CHANNELS = 24
PIXEL_UNSHUFFLE = 8
REFERENCE_CHANNELS = 16


class WanTransformer(WanTransformer3DModel):
    """Tokens of noisy latents, conditions beside them, blocks, and back to a velocity.

    Attributes:
        context_parallel: the processes that share the tokens of every call, if several do.
    """

    _no_split_modules = ["WanBlock"]  # noqa: RUF012
    _repeated_blocks = ["WanBlock"]  # noqa: RUF012
    keep_in_fp32 = ("condition_embedder.time_embedder", "scale_shift_table")

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
        self.wan_config = config
        self.context_parallel: ContextParallel | None = None
        self.blocks = nn.ModuleList([WanBlock(config) for _ in range(config.layers)])
        self.rope = None
        self.condition_embedder.timesteps_proj = Float64Timesteps(config.freq_dim)
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
        reference: Float[Tensor, "b 16 _ _"] | None = None,
        motion: Float[Tensor, "b cells feature_dim"] | None = None,
        camera: Float[Tensor, "b 24 f height width"] | None = None,
    ) -> Float[Tensor, "b out f h w"]:
        """The velocity of `latents` at `timestep` = 1000 sigma.

        Args:
            text: shorter texts are zero-padded to the configured length.
            image: CLIP features.
            reference: latents of a still of the same size; its tokens stand in front of the video, at rotary
                time 0, take part in every block and are dropped at the end.
            motion: one feature vector per cell of the token grid, for every frame; or one for all cells.
            camera: the camera's ray maps, six channels for each of the four frames behind a latent frame.

        Raises:
            ValueError: a size is impossible, or a condition does not belong to this configuration.
        """
        self._check(latents, text, image=image, reference=reference, motion=motion, camera=camera)
        dtype = self.patch_embedding.weight.dtype
        tokens = self._embed_patches(latents.to(dtype), camera)
        frames, rows, columns = tokens.shape[2:]
        tokens = rearrange(tokens, "b c f h w -> b (f h w) c")
        num_reference = 0
        if self.ref_conv is not None and reference is not None:
            still = rearrange(self.ref_conv(reference.to(dtype)), "b c h w -> b (h w) c")
            tokens, num_reference = torch.cat([still, tokens], dim=1), rows * columns

        text = functional.pad(text, (0, 0, 0, self.wan_config.text_length - text.shape[1]))
        time, modulation = self._time_embedding(timestep, dtype)
        text = self.condition_embedder.text_embedder(text.to(dtype))
        image = None if image is None else self.condition_embedder.image_embedder(image.to(dtype))
        context = BlockContext(
            modulation=modulation.unflatten(1, (6, -1)),
            rotary=rotary_table(
                self.wan_config.dim // self.wan_config.heads,
                (frames + bool(num_reference), rows, columns),
                tokens.device,
            ),
            text=text,
            image=image,
            motion=None if motion is None else motion.to(dtype),
            motion_span=self._motion_span(tokens.shape[1], num_reference),
        )
        shard = None
        if self.context_parallel is not None:
            shard = self.context_parallel.shard(tokens.shape[1], self.wan_config.heads)
            tokens, context = tokens[:, shard.start : shard.stop], context.within(shard)
        for block in self.blocks:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                tokens = self._gradient_checkpointing_func(block, tokens, context)
            else:
                tokens = block(tokens, context)

        shift, scale = (self.scale_shift_table + time.unsqueeze(1)).chunk(2, dim=1)
        tokens = tokens if shard else tokens[:, num_reference:]
        tokens = self.proj_out((self.norm_out(tokens.float()) * (1 + scale) + shift).type_as(tokens))
        tokens = shard.gather(tokens)[:, num_reference:] if shard else tokens
        return self._to_latents(tokens, frames, rows, columns)

    def _time_embedding(
        self, timestep: Float[Tensor, "b"], dtype: torch.dtype
    ) -> tuple[Float[Tensor, "b dim"], Float[Tensor, "b six_dims"]]:
        """The timestep in float32, for the head, and in `dtype` what modulates all blocks alike.

        diffusers' own forward rounds the former before it makes the latter.
        """
        embedder = self.condition_embedder
        sinusoid = embedder.timesteps_proj(timestep).to(embedder.time_embedder.linear_1.weight.dtype)
        time = embedder.time_embedder(sinusoid).float()
        return time, embedder.time_proj(embedder.act_fn(time).to(dtype))

    def _motion_span(self, tokens: int, num_reference: int) -> TokenSpan:
        if self.wan_config.motion_token_alignment == "moge4d":
            return TokenSpan(0, tokens - num_reference)
        return TokenSpan(num_reference, tokens)

    def _embed_patches(self, latents: Tensor, camera: Tensor | None) -> Tensor:
        patches = self.patch_embedding(latents)
        if self.control_adapter is None or camera is None:
            return patches
        return patches + self.control_adapter(camera.to(latents.dtype))

    def _to_latents(self, tokens: Tensor, frames: int, rows: int, columns: int) -> Tensor:
        time, height, width = self.wan_config.patch_size
        return rearrange(
            tokens,
            "b (f h w) (t y x c) -> b c (f t) (h y) (w x)",
            f=frames, h=rows, w=columns, t=time, y=height, x=width,
        )  # fmt: skip

    def _check(
        self,
        latents: Tensor,
        text: Tensor,
        *,
        image: Tensor | None,
        reference: Tensor | None,
        motion: Tensor | None,
        camera: Tensor | None,
    ) -> None:
        wan_config = self.wan_config
        size, patch = tuple(latents.shape[2:]), wan_config.patch_size
        if any(length % step or not length for length, step in zip(size, patch, strict=True)):
            raise ValueError(
                f"latents of size {size} (frames, height, width) cannot be cut into patches {patch}"
            )
        if latents.shape[1] != wan_config.in_channels:
            raise ValueError(
                f"latents have {latents.shape[1]} channels, the transformer takes {wan_config.in_channels}"
            )
        if text.shape[1] > wan_config.text_length:
            raise ValueError(
                f"text of {text.shape[1]} vectors is longer than the {wan_config.text_length} allowed"
            )
        if (image is None) != (wan_config.image_dim is None):
            raise ValueError(
                f"CLIP features {_given(image)}, but the configured image_dim is {wan_config.image_dim}"
            )
        if reference is not None and not wan_config.reference_tokens:
            raise ValueError("reference latents were given to a transformer without reference tokens")
        if reference is not None and reference.shape[-2:] != latents.shape[-2:]:
            raise ValueError(
                f"reference latents {tuple(reference.shape)} do not match latents {tuple(latents.shape)}"
            )
        if motion is not None and wan_config.motion_feature_dim is None:
            raise ValueError("motion features were given to a transformer without motion perception")
        rows, columns = size[1] // patch[1], size[2] // patch[2]
        if motion is not None and motion.shape[1] not in (1, rows * columns):
            raise ValueError(
                f"motion features of {motion.shape[1]} cells do not fit {rows} x {columns} tokens"
            )
        if (camera is not None) != wan_config.control_adapter:
            raise ValueError(
                f"camera maps {_given(camera)}, but control_adapter is {wan_config.control_adapter}"
            )


class BlockContext(NamedTuple):
    """What every block is told beside the tokens."""

    modulation: Float[Tensor, "b 6 dim"]
    rotary: Complex[Tensor, "tokens 1 half"]
    text: Float[Tensor, "b length dim"]
    image: Float[Tensor, "b image_tokens dim"] | None
    motion: Float[Tensor, "b cells feature_dim"] | None
    motion_span: TokenSpan
    """Tokens that motion features touch: not the reference tokens, which stand in front of the video's."""
    shard: TokenShard | None = None
    """Which of the sequence's tokens are at hand, if not all."""

    def within(self, shard: TokenShard) -> "BlockContext":
        """The same for who has only a share of the tokens."""
        start, stop = shard.start, shard.stop
        cells = 1 if self.motion is None else self.motion.shape[1]
        motion_span = self.motion_span.within(start, stop, cells)
        return self._replace(rotary=self.rotary[start:stop], motion_span=motion_span, shard=shard)


class WanBlock(WanTransformerBlock):
    """Self-attention, cross-attention and feed-forward, modulated by time and perhaps by motion features."""

    keep_in_fp32 = ("scale_shift_table",)

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
            self.guide_attention = MotionModulation(config.motion_feature_dim, config.dim)
            self.guide_ffn = MotionModulation(config.motion_feature_dim, config.dim)

    def forward(
        self, tokens: Float[Tensor, "b tokens dim"], context: BlockContext
    ) -> Float[Tensor, "b tokens dim"]:
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (
            self.scale_shift_table.float() + context.modulation.float()
        ).chunk(6, dim=1)
        dtype = tokens.dtype

        normed = torch.addcmul(shift, self.norm1(tokens.float()), 1 + scale).to(dtype)
        if self.guide_attention is not None and context.motion is not None:
            normed = self.guide_attention(normed, context.motion, context.motion_span)
        attended = self.attn1(normed, rotary_emb=context.rotary, shard=context.shard)
        tokens = (tokens.float() + attended * gate).to(dtype)

        normed = self.norm2(tokens.float()).to(dtype)
        tokens = tokens + self.attn2(normed, context.text, image=context.image)

        normed = torch.addcmul(ffn_shift, self.norm3(tokens.float()), 1 + ffn_scale).to(dtype)
        if self.guide_ffn is not None and context.motion is not None:
            normed = self.guide_ffn(normed, context.motion, context.motion_span)
        return (tokens.float() + self.ffn(normed).float() * ffn_gate).to(dtype)


class WanAttentionProcessor(WanAttnProcessor):
    """Attention of tokens to each other (by rotary angles), or to text and, in a softmax apart, an image."""

    def __call__(  # noqa: PLR0917 (the order in which diffusers passes them)
        self,
        attn: WanAttention,
        hidden_states: Float[Tensor, "b tokens dim"],
        encoder_hidden_states: Float[Tensor, "b length dim"] | None = None,
        attention_mask: None = None,
        rotary_emb: Complex[Tensor, "tokens 1 half"] | None = None,
        image: Float[Tensor, "b image_tokens dim"] | None = None,
        shard: TokenShard | None = None,
    ) -> Float[Tensor, "b tokens dim"]:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states

        def heads(values: Tensor) -> Tensor:
            return values.unflatten(2, (attn.heads, -1))

        def normed(norm: nn.RMSNorm, values: Tensor) -> Tensor:
            return heads(norm(values.to(norm.weight.dtype)))

        query, key = normed(attn.norm_q, attn.to_q(hidden_states)), normed(attn.norm_k, attn.to_k(context))
        value = heads(attn.to_v(context))
        if rotary_emb is not None:
            query, key = apply_rotary(query, rotary_emb), apply_rotary(key, rotary_emb)
        attended = self._attend(query, key, value, shard)
        if image is not None:
            key, value = normed(attn.norm_added_k, attn.add_k_proj(image)), heads(attn.add_v_proj(image))
            attended = attended + self._attend(query, key, value)
        return attn.to_out[1](attn.to_out[0](attended))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, shard: TokenShard | None = None) -> Tensor:
        dtype = value.dtype  # under autocast, queries and keys leave their norms in float32
        query, key = query.to(dtype), key.to(dtype)
        if shard is not None:
            query, key, value = shard.tokens_for_heads(query, key, value)
        attended = dispatch_attention_fn(query, key, value, backend=self._attention_backend)
        if shard is not None:
            attended = shard.heads_for_tokens(attended)
        return attended.flatten(2, 3)


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


def _given(condition: Tensor | None) -> str:
    return "are missing" if condition is None else f"of shape {tuple(condition.shape)} were given"


def _initialise(model: WanTransformer) -> None:
    """Xavier for what multiplies tokens, small normals to embed text and time, a head of zeros."""
    for name, module in model.named_modules():
        if not isinstance(module, (nn.Linear, nn.Conv2d, nn.Conv3d)):
            continue
        if name.startswith(("condition_embedder.text_embedder", "condition_embedder.time_embedder")):
            nn.init.normal_(module.weight, std=0.02)
        else:
            nn.init.xavier_uniform_(module.weight.flatten(1))
        nn.init.zeros_(module.bias)
    nn.init.zeros_(model.proj_out.weight)
