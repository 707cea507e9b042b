"""Layers of the Wan transformer: attention, feed-forward, embeddings of time, text and image, rotary angles.

The parameter names are those of diffusers' `WanTransformer3DModel`, so that its state dicts load as they are;
the code needs torch alone. All angles are computed in float64 and used in float32, whatever the type of the
weights, as in the reference implementation: a float32 sinusoid alone costs up to 2e-5 in the output.
"""

import math
from functools import lru_cache

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional

from more4d.networks.context_parallel import TokenShard
from more4d.networks.wan_config import WanConfig

ROTARY_BASE = 10000.0  # theta of RoPE (Su et al. 2021, arXiv 2104.09864) and of the timestep's sinusoid


class Fp32LayerNorm(nn.LayerNorm):
    """Layer normalisation computed in float32, with the result in the type of the input."""

    def forward(self, x: Float[Tensor, "... dim"]) -> Float[Tensor, "... dim"]:
        # Weights may be bfloat16; the sums are float32 all the same.
        weight = None if self.weight is None else self.weight.float()
        bias = None if self.bias is None else self.bias.float()
        return functional.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class Attention(nn.Module):
    """Multi-head attention of tokens to each other, or to text and, in a second softmax, to an image.

    Queries and keys are normalised over the whole width (QK-RMSNorm), before they are split into heads.
    """

    def __init__(self, config: WanConfig, *, image: bool = False) -> None:
        """Build the projections; `image` adds a second pair of keys and values, for CLIP tokens."""
        super().__init__()
        dim, eps = config.dim, config.eps
        self.heads = config.heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])  # a list, for the published name to_out.0
        # QK normalisation keeps attention logits bounded (Dehghani et al. 2023, arXiv 2302.05442).
        self.norm_q, self.norm_k = nn.RMSNorm(dim, eps=eps), nn.RMSNorm(dim, eps=eps)
        # Weights that I2V transformers have in addition: add_k_proj, add_v_proj, norm_added_k.
        if image:
            self.add_k_proj, self.add_v_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
            self.norm_added_k = nn.RMSNorm(dim, eps=eps)

    def forward(
        self,
        tokens: Float[Tensor, "b tokens dim"],
        text: Float[Tensor, "b length dim"] | None = None,
        *,
        image: Float[Tensor, "b image_tokens dim"] | None = None,
        rotary: Complex[Tensor, "tokens 1 half"] | None = None,
        shard: TokenShard | None = None,
    ) -> Float[Tensor, "b tokens dim"]:
        """Attend to `text` (and `image`), or to the tokens themselves where no text is given.

        Args:
            rotary: rotations of queries and keys, for self-attention.
            shard: the processes that share the tokens, for self-attention under context parallelism.
        """
        source = tokens if text is None else text
        # [b, tokens, dim] -> [b, tokens, heads, head_dim]
        query = self._heads(_normed(self.norm_q, self.to_q(tokens)))
        key = self._heads(_normed(self.norm_k, self.to_k(source)))
        value = self._heads(self.to_v(source))
        if rotary is not None:
            query, key = apply_rotary(query, rotary), apply_rotary(key, rotary)
        attended = _attend(query, key, value, shard)
        if image is not None:
            # Wan I2V: a softmax of its own over CLIP tokens, added to that over the text.
            key = self._heads(_normed(self.norm_added_k, self.add_k_proj(image)))
            attended = attended + _attend(query, key, self._heads(self.add_v_proj(image)))
        return self.to_out[0](attended)

    def _heads(self, vectors: Tensor) -> Tensor:
        return vectors.unflatten(2, (self.heads, -1))


def _normed(norm: nn.RMSNorm, vectors: Tensor) -> Tensor:
    return norm(vectors.to(norm.weight.dtype))


def _attend(
    query: Float[Tensor, "b tokens heads head_dim"],
    key: Float[Tensor, "b keys heads head_dim"],
    value: Float[Tensor, "b keys heads head_dim"],
    shard: TokenShard | None = None,
) -> Float[Tensor, "b tokens dim"]:
    dtype = value.dtype  # under autocast the norms return queries and keys in float32
    query, key = query.to(dtype), key.to(dtype)
    if shard is not None:
        # All-to-all: all tokens of some heads, in place of some tokens of all heads.
        query, key, value = shard.tokens_for_heads(query, key, value)
    # torch wants [b, heads, tokens, head_dim]
    attended = functional.scaled_dot_product_attention(
        query.permute(0, 2, 1, 3), key.permute(0, 2, 1, 3), value.permute(0, 2, 1, 3)
    ).permute(0, 2, 1, 3)
    if shard is not None:
        attended = shard.heads_for_tokens(attended)
    return attended.flatten(2, 3)


class _ProjectedGelu(nn.Module):
    """A linear layer and GELU, one module for the published name `net.0.proj`."""

    def __init__(self, dim: int, inner: int, approximate: str) -> None:
        super().__init__()
        self.proj, self.approximate = nn.Linear(dim, inner), approximate

    def forward(self, x: Tensor) -> Tensor:
        return functional.gelu(self.proj(x), approximate=self.approximate)


class FeedForward(nn.Module):
    """Two linear layers with GELU between: `approximate` is torch's, "tanh" in blocks, "none" for CLIP."""

    def __init__(self, dim: int, inner: int, out: int, approximate: str = "tanh") -> None:
        super().__init__()
        # The second place is diffusers' dropout, which has no weights; names count it.
        self.net = nn.ModuleList(
            [_ProjectedGelu(dim, inner, approximate), nn.Identity(), nn.Linear(inner, out)]
        )

    def forward(self, x: Float[Tensor, "b tokens dim"]) -> Float[Tensor, "b tokens out"]:
        return self.net[2](self.net[0](x))


class _TwoLinear(nn.Module):
    """`linear_1`, an activation, `linear_2`: how text and time enter."""

    def __init__(self, dim: int, out: int, activation: nn.Module) -> None:
        super().__init__()
        self.linear_1, self.activation, self.linear_2 = nn.Linear(dim, out), activation, nn.Linear(out, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(self.activation(self.linear_1(x)))


class _ImageEmbedding(nn.Module):
    """CLIP tokens to the width of the transformer."""

    def __init__(self, image_dim: int, dim: int) -> None:
        super().__init__()
        self.norm1 = Fp32LayerNorm(image_dim)
        self.ff = FeedForward(image_dim, image_dim, dim, approximate="none")
        self.norm2 = Fp32LayerNorm(dim)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm2(self.ff(self.norm1(image)))


class ConditionEmbedder(nn.Module):
    """What conditions every block: the timestep, the prompt's umT5 vectors and CLIP tokens of the image."""

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        dim = config.dim
        self.freq_dim = config.freq_dim
        self.time_embedder = _TwoLinear(config.freq_dim, dim, nn.SiLU())
        # Shift, scale and gate of self-attention and of the feed-forward.
        self.time_proj = nn.Linear(dim, 6 * dim)
        self.text_embedder = _TwoLinear(config.text_dim, dim, nn.GELU(approximate="tanh"))
        self.image_embedder = None if config.image_dim is None else _ImageEmbedding(config.image_dim, dim)

    def embed_time(
        self, timestep: Float[Tensor, "b"], dtype: torch.dtype, added: Float[Tensor, "b dim"] | None = None
    ) -> tuple[Float[Tensor, "b dim"], Float[Tensor, "b 6 dim"]]:
        """The timestep in float32, for the head, and in `dtype` the modulation that all blocks share.

        diffusers' own forward rounds the former to `dtype` before it computes the latter. What is `added` to
        the time embedding (`motion_reach`) reaches both.
        """
        # The sinusoid has the type of the layer behind it: float32, unless training has lowered its weights.
        sinusoid = timestep_sinusoid(timestep, self.freq_dim).to(self.time_embedder.linear_1.weight.dtype)
        time = self.time_embedder(sinusoid).float()
        if added is not None:
            time = time + added.float()
        return time, self.time_proj(functional.silu(time).to(dtype)).unflatten(1, (6, -1))


def timestep_sinusoid(timestep: Float[Tensor, "b"], channels: int) -> Float[Tensor, "b channels"]:
    """Cosines, then sines, of a timestep at geometric frequencies (Vaswani et al. 2017, section 3.5)."""
    # Frequencies from 1 down to 1 / 10000.
    half = channels // 2
    exponents = torch.arange(half, dtype=torch.float64, device=timestep.device) / half
    angles = timestep.double().unsqueeze(1) * ROTARY_BASE**-exponents
    return torch.cat([angles.cos(), angles.sin()], dim=1).float()


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # the table is cached, and the next caller may be training
def rotary_table(
    head_dim: int, grid: tuple[int, int, int], device: torch.device
) -> Complex[Tensor, "tokens 1 half"]:
    """The rotation of each pair of channels as a complex number; tokens go by frame, row, column.

    The pairs are shared out among the axes: height and width take a third each, time takes the rest (44, 42
    and 42 of 128 channels).
    """
    side = 2 * (head_dim // 6)
    angles = []
    # One factorised table per axis, expanded over the other two and concatenated along channels.
    for axis, channels in enumerate((head_dim - 2 * side, side, side)):
        exponents = torch.arange(0, channels, 2, dtype=torch.float64, device=device) / channels
        positions = torch.arange(grid[axis], dtype=torch.float64, device=device)
        along = torch.outer(positions, ROTARY_BASE**-exponents)  # [positions, pairs]
        shape = [1, 1, 1, channels // 2]
        shape[axis] = grid[axis]
        angles.append(along.view(shape).expand(*grid, -1))
    angle = torch.cat(angles, dim=-1).reshape(math.prod(grid), 1, head_dim // 2)
    return torch.complex(angle.cos().float(), angle.sin().float())


def apply_rotary(
    vectors: Float[Tensor, "b tokens heads head_dim"], rotary: Complex[Tensor, "tokens 1 half"]
) -> Float[Tensor, "b tokens heads head_dim"]:
    """Rotate each pair of neighbouring channels by its angle: a product of complex numbers."""
    # [..., head_dim] -> [..., head_dim / 2] complex; the angles are float32, so the product is, too.
    pairs = torch.view_as_complex(vectors.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotary).flatten(-2).type_as(vectors)
