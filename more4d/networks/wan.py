"""The Wan2.1 video transformer (arXiv 2503.20314) with what Wan2.1-Fun and MoRe4D add to it.

    latents -> patches -+-> [reference tokens | video tokens] -> blocks -> norm, head -> velocity
                        |                                          ^
    timestep -----------+-- modulation (6 vectors per block) ------+
    text, CLIP image ------ cross-attention -----------------------+
    motion features ------- Motion Perception Module --------------+

Additions to the plain Wan transformer: reference tokens in front of the video (Wan2.1-Fun V1.1 Control), the
Motion Perception Module inside the blocks (MoRe4D, arXiv 2512.05044), text of any length up to the
configured one, and float32 for rotary angles and for the timestep up to the modulation, whatever the type of
the weights.
Parameter names are those of diffusers' `WanTransformer3DModel`.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from more4d.networks.context_parallel import ContextParallel, TokenShard
from more4d.networks.motion_perception import MotionModulation, TokenSpan
from more4d.networks.wan_layers import (
    Attention,
    ConditionEmbedder,
    FeedForward,
    Fp32LayerNorm,
    WanConfig,
    rotary_table,
)

REFERENCE_CHANNELS = 16  # of the image latents that reference tokens are made of


class WanTransformer(nn.Module):
    """Velocity of noisy latents (flow matching), given a timestep and conditions.

    Attributes:
        wan_config: the sizes.
        gradient_checkpointing: keep only the input of each block for the backward pass.
        context_parallel: the processes that share the tokens of every call; None for a single process.
    """

    # Read by accelerate (sharding keeps a block whole) and diffusers (what is compiled or cached repeatedly).
    _no_split_modules = ["WanBlock"]  # noqa: RUF012
    _repeated_blocks = ["WanBlock"]  # noqa: RUF012
    keep_in_fp32 = ("condition_embedder.time_embedder", "scale_shift_table")

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        self.wan_config = config
        self.gradient_checkpointing = False
        self.context_parallel: ContextParallel | None = None
        dim, patch = config.dim, config.patch_size
        self.patch_embedding = nn.Conv3d(config.in_channels, dim, patch, stride=patch)
        self.condition_embedder = ConditionEmbedder(config)
        self.blocks = nn.ModuleList()
        # A head of patches: every token becomes out_channels * t * y * x numbers.
        self.norm_out = Fp32LayerNorm(dim, config.eps, elementwise_affine=False)
        self.proj_out = nn.Linear(dim, config.out_channels * patch[0] * patch[1] * patch[2])
        self.scale_shift_table = _modulation_table(2, dim)
        # Filled after the head: random numbers are drawn in this order, and seeds must give the same weights.
        self.blocks.extend(WanBlock(config) for _ in range(config.layers))
        self.ref_conv = (
            nn.Conv2d(REFERENCE_CHANNELS, dim, patch[1:], stride=patch[1:])
            if config.reference_tokens
            else None
        )
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
        reach: Float[Tensor, "b rows dim"] | None = None,
    ) -> Float[Tensor, "b out f h w"]:
        """The velocity of `latents` at `timestep` = 1000 sigma.

        Args:
            text: umT5 vectors; shorter texts are zero-padded to the configured length.
            image: CLIP features.
            reference: latents of an image of the same size; its tokens stand in front of the video, at rotary
                time 0, take part in every block and are dropped at the end.
            motion: one feature vector per cell of the token grid, for every frame; or one for all cells.
            reach: of `motion_reach`, added to the time embedding and to the modulation of each block.

        Raises:
            ValueError: a size is impossible, or a condition does not belong to this configuration.
        """
        # Sizes are checked here, before torch fails somewhere inside with a less helpful message.
        self._check(latents, text, image=image, reference=reference, motion=motion)
        config, dtype = self.wan_config, self.patch_embedding.weight.dtype

        # 1. Patches to tokens: [b, channels, F, H, W] -> [b, f h w, dim]; reference tokens go in front.
        tokens = self.patch_embedding(latents.to(dtype))
        frames, rows, columns = tokens.shape[2:]
        tokens = rearrange(tokens, "b c f h w -> b (f h w) c")
        # The reference is embedded by a convolution of its own, as one more frame.
        num_reference = 0
        if self.ref_conv is not None and reference is not None:
            still = rearrange(self.ref_conv(reference.to(dtype)), "b c h w -> b (h w) c")
            tokens, num_reference = torch.cat([still, tokens], dim=1), rows * columns

        # 2. Conditions, shared by all blocks.
        embedder = self.condition_embedder
        text = functional.pad(text, (0, 0, 0, config.text_length - text.shape[1]))
        time, modulation = embedder.embed_time(timestep, dtype, None if reach is None else reach[:, 0])
        grid = (frames + bool(num_reference), rows, columns)  # the reference is frame 0 of the rotary grid
        span = TokenSpan(num_reference, tokens.shape[1])
        if config.motion_token_alignment == "moge4d":
            # The reference implementation pads at the wrong end, and its weights have learned with it.
            span = TokenSpan(0, tokens.shape[1] - num_reference)
        context = BlockContext(
            modulation=modulation,
            rotary=rotary_table(config.dim // config.heads, grid, tokens.device),
            text=embedder.text_embedder(text.to(dtype)),
            image=None if image is None else embedder.image_embedder(image.to(dtype)),
            motion=None if motion is None else motion.to(dtype),
            motion_span=span,
        )

        # 3. Blocks; under context parallelism each process computes a run of the tokens.
        shard = None
        if self.context_parallel is not None:
            shard = self.context_parallel.shard(tokens.shape[1], config.heads)
            # Rotary angles and motion cells of these tokens go along.
            tokens, context = tokens[:, shard.start : shard.stop], context.within(shard)
        for index, block in enumerate(self.blocks):
            if reach is not None:
                added = reach[:, 1:].unflatten(1, (len(self.blocks), -1))[:, index]
                context = context._replace(modulation=modulation + added)
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                tokens = checkpoint(block, tokens, context, use_reentrant=False)
            else:
                tokens = block(tokens, context)

        # 4. Head, modulated by time in float32; back to latents: [b, f h w, out t y x] -> [b, out, F, H, W].
        shift, scale = (self.scale_shift_table + time.unsqueeze(1)).chunk(2, dim=1)
        tokens = tokens if shard else tokens[:, num_reference:]
        tokens = self.proj_out((self.norm_out(tokens.float()) * (1 + scale) + shift).type_as(tokens))
        tokens = shard.gather(tokens)[:, num_reference:] if shard else tokens
        t, y, x = config.patch_size
        sizes = {"f": frames, "h": rows, "w": columns, "t": t, "y": y, "x": x}
        return rearrange(tokens, "b (f h w) (t y x c) -> b c (f t) (h y) (w x)", **sizes)

    def _check(
        self,
        latents: Tensor,
        text: Tensor,
        *,
        image: Tensor | None,
        reference: Tensor | None,
        motion: Tensor | None,
    ) -> None:
        config = self.wan_config
        size, patch = tuple(latents.shape[2:]), config.patch_size
        if any(length % step or not length for length, step in zip(size, patch, strict=True)):
            raise ValueError(
                f"latents of size {size} (frames, height, width) cannot be cut into patches {patch}"
            )
        if latents.shape[1] != config.in_channels:
            raise ValueError(
                f"latents have {latents.shape[1]} channels, the transformer takes {config.in_channels}"
            )
        if text.shape[1] > config.text_length:
            raise ValueError(
                f"text of {text.shape[1]} vectors is longer than the {config.text_length} allowed"
            )
        if (image is None) != (config.image_dim is None):
            given = "are missing" if image is None else f"of shape {tuple(image.shape)} were given"
            raise ValueError(f"CLIP features {given}, but the configured image_dim is {config.image_dim}")
        if reference is not None and not config.reference_tokens:
            raise ValueError("reference latents were given to a transformer without reference tokens")
        if reference is not None and reference.shape[-2:] != latents.shape[-2:]:
            raise ValueError(
                f"reference latents {tuple(reference.shape)} do not match latents {tuple(latents.shape)}"
            )
        if motion is not None and config.motion_feature_dim is None:
            raise ValueError("motion features were given to a transformer without motion perception")
        # One cell of motion features per token of a frame, or one for all.
        rows, columns = size[1] // patch[1], size[2] // patch[2]
        if motion is not None and motion.shape[1] not in (1, rows * columns):
            raise ValueError(
                f"motion features of {motion.shape[1]} cells do not fit {rows} x {columns} tokens"
            )


class BlockContext(NamedTuple):
    """The conditions of a block, the same for all blocks of a call."""

    modulation: Float[Tensor, "b 6 dim"]
    rotary: Complex[Tensor, "tokens 1 half"]
    text: Float[Tensor, "b length dim"]
    image: Float[Tensor, "b image_tokens dim"] | None
    motion: Float[Tensor, "b cells feature_dim"] | None
    motion_span: TokenSpan
    """Tokens that motion features modulate: those of the video, without reference tokens."""
    shard: TokenShard | None = None
    """The run of tokens that this process has, under context parallelism."""

    def within(self, shard: TokenShard) -> "BlockContext":
        """The same for a process that has only the tokens of `shard`."""
        start, stop = shard.start, shard.stop
        cells = 1 if self.motion is None else self.motion.shape[1]
        motion_span = self.motion_span.within(start, stop, cells)
        return self._replace(rotary=self.rotary[start:stop], motion_span=motion_span, shard=shard)


class WanBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward, modulated by time (adaLN) and by motion features."""

    keep_in_fp32 = ("scale_shift_table",)

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        dim, eps = config.dim, config.eps
        self.norm1 = Fp32LayerNorm(dim, eps, elementwise_affine=False)
        self.attn1 = Attention(config)
        self.attn2 = Attention(config, image=config.image_dim is not None)
        self.norm2 = Fp32LayerNorm(dim, eps) if config.cross_attn_norm else nn.Identity()
        self.ffn = FeedForward(dim, config.ffn_dim, dim)
        self.norm3 = Fp32LayerNorm(dim, eps, elementwise_affine=False)
        self.scale_shift_table = _modulation_table(6, dim)
        # Motion Perception (MoRe4D): two modulations per block, each with weights of its own.
        self.guide_attention = self.guide_ffn = None
        if config.motion_feature_dim is not None:
            self.guide_attention = MotionModulation(config.motion_feature_dim, dim)
            self.guide_ffn = MotionModulation(config.motion_feature_dim, dim)

    def forward(
        self, tokens: Float[Tensor, "b tokens dim"], context: BlockContext
    ) -> Float[Tensor, "b tokens dim"]:
        # adaLN (Peebles and Xie 2023): a table per block plus the timestep's shared vectors, each [b, 1,
        # dim].
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (
            self.scale_shift_table.float() + context.modulation.float()
        ).chunk(6, dim=1)
        dtype = tokens.dtype  # norms, modulation and residual sums are float32, matrix products `dtype`

        # 1. Self-attention over all tokens of the video: x <- x + gate * attn(norm(x) (1 + scale) + shift).
        normed = torch.addcmul(shift, self.norm1(tokens.float()), 1 + scale).to(dtype)
        if self.guide_attention is not None and context.motion is not None:
            normed = self.guide_attention(normed, context.motion, context.motion_span)
        attended = self.attn1(normed, rotary=context.rotary, shard=context.shard)
        tokens = (tokens.float() + attended * gate).to(dtype)

        # 2. Cross-attention to text and image, neither modulated nor gated.
        normed = self.norm2(tokens.float()).to(dtype)
        tokens = tokens + self.attn2(normed, context.text, image=context.image)

        # 3. Feed-forward, modulated and gated like the first.
        normed = torch.addcmul(ffn_shift, self.norm3(tokens.float()), 1 + ffn_scale).to(dtype)
        if self.guide_ffn is not None and context.motion is not None:
            normed = self.guide_ffn(normed, context.motion, context.motion_span)
        return (tokens.float() + self.ffn(normed).float() * ffn_gate).to(dtype)


def _modulation_table(rows: int, dim: int) -> nn.Parameter:
    """Learned shifts, scales and gates [1, rows, dim] to which those of the noise level are added."""
    table = torch.empty(1, rows, dim)
    # On the meta device there is nothing to draw, and the division would import torch._dynamo (seconds).
    return nn.Parameter(table if table.is_meta else torch.randn(1, rows, dim) / dim**0.5)


def _initialise(model: WanTransformer) -> None:
    """Xavier for the layers of tokens, small normals for the embeddings of text and time, a head of zeros."""
    for name, module in model.named_modules():
        if not isinstance(module, (nn.Linear, nn.Conv2d, nn.Conv3d)):
            continue
        if name.startswith(("condition_embedder.text_embedder", "condition_embedder.time_embedder")):
            # On the meta device normal_ has no effect, and would import torch._dynamo, which takes seconds.
            if not module.weight.is_meta:
                nn.init.normal_(module.weight, std=0.02)
        else:
            nn.init.xavier_uniform_(module.weight.flatten(1))
        nn.init.zeros_(module.bias)
    nn.init.zeros_(model.proj_out.weight)  # the velocity of an untrained network is zero
