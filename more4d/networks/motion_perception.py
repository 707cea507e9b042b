"""The Motion Perception Module (MoRe4D, arXiv 2512.05044): features of the photo modulate tokens.

    photo -> extractor (OmniMAE, or the tiny preset's own) -> adapter -> one vector per cell of the token grid
    in every block, twice, just after the block's own modulated norms:

        h <- h (1 + s g) + b g          (s, b) = W SiLU(features),    g a learned gate per channel

The paper writes h <- g s h + g b; the 1, as in the published code, makes a new module (g = 0) the identity.

The extractors stay outside the transformers that use their features: an initialisation of the transformer
must not reach their pretrained weights.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from more4d.foundation.errors import ConfigError
from more4d.networks.interface import PIXEL_STRIDE, Fp32Buffers
from more4d.networks.tiny_video import ResidualBlock

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
TUBELET = 2  # frames per patch of OmniMAE; a photo is a video of two equal frames to it
UNUSED = ("trunk.decoder.", "trunk.mask_token", "head.")
"""Names, or prefixes ending in a dot, of the published OmniMAE that features do not need."""

INPUT_SCALE = 2
"""`TinyFeatures` takes the photo at twice the size that latents are made of: at that size most objects are a
dozen pixels high, and a goat cannot be distinguished from a wolf."""
STRIDE = INPUT_SCALE * PIXEL_STRIDE
MAX_CELLS = 256  # positions per side that `TinyFeatures` has an embedding for: 4096 pixels


class TokenSpan(NamedTuple):
    """The tokens that features modulate: `start` to `stop`, the first of them by cell `cell`."""

    start: int
    stop: int
    cell: int = 0

    def within(self, start: int, stop: int, cells: int) -> "TokenSpan":
        """The same for a process that has only the tokens `start` to `stop`."""
        first = min(max(self.start, start), stop)
        last = max(min(self.stop, stop), first)
        return TokenSpan(first - start, last - start, (self.cell + first - self.start) % cells)


class MotionModulation(nn.Module):
    """One modulation (MoRe4D): of the tokens before self-attention, or before the feed-forward.

    The gate starts at zero; the linear layer does not, so that the gate has a gradient.
    """

    def __init__(self, feature_dim: int, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(feature_dim, 2 * dim)
        self.gate = nn.Parameter(torch.zeros(dim))
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self,
        tokens: Float[Tensor, "b tokens dim"],
        features: Float[Tensor, "b cells feature_dim"],
        motion_span: TokenSpan,
    ) -> Float[Tensor, "b tokens dim"]:
        """Modulate every frame of tokens by the same cells.

        The tokens of `motion_span` are frames of `cells` tokens, of which the first and the last may be cut;
        the others are left as they are. A single cell modulates all of them.
        """
        scale, shift = (self.linear(functional.silu(features)).unsqueeze(1)).chunk(2, dim=-1)
        # float32: a gate is small, and in bfloat16 the sum with 1 loses what is below 0.004.
        scale, shift = 1 + scale.float() * self.gate.float(), shift.float() * self.gate.float()
        start, stop, cell = motion_span
        if cell:  # under context parallelism the run of tokens may begin within a frame
            scale, shift = scale.roll(-cell, dims=2), shift.roll(-cell, dims=2)
        frames, rest = divmod(stop - start, features.shape[1])
        # [b, frames * cells, dim] -> [b, frames, cells, dim], which scale and shift [b, 1, cells, dim]
        # broadcast to
        whole = tokens[:, start : stop - rest].unflatten(1, (frames, features.shape[1]))
        modulated = torch.addcmul(shift, whole.float(), scale).flatten(1, 2)
        parts = [tokens[:, :start], modulated, tokens[:, stop:]]
        if rest:  # the cut frame at the end
            cut = torch.addcmul(shift[:, 0, :rest], tokens[:, stop - rest : stop].float(), scale[:, 0, :rest])
            parts.insert(2, cut)
        parts = [part.type_as(tokens) for part in parts if part.shape[1]]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class MotionFeatureAdapter(nn.Module):
    """Adapts the extractor's feature map and resizes it to the token grid."""

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(feature_dim, feature_dim, kernel_size=3, padding=1)
        self.second = nn.Conv2d(feature_dim, feature_dim, kernel_size=3, padding=1)

    def forward(
        self, features: Float[Tensor, "b feature_dim rows columns"], grid: tuple[int, int]
    ) -> Float[Tensor, "b cells feature_dim"]:
        """Features of the token grid's `grid` = (rows, columns) cells, row by row."""
        features = features.to(self.first.weight.dtype)
        adapted = self.second(functional.silu(self.first(features)))
        # The order of the reference: convolutions on the extractor's grid, then one bilinear resize.
        resized = functional.interpolate(adapted, size=grid, mode="bilinear", align_corners=False)
        return rearrange(resized, "b c h w -> b (h w) c")


@dataclass(frozen=True, kw_only=True)
class OmniMAEConfig:
    """Sizes of the OmniMAE trunk; the defaults are the published ViT-B."""

    image_size: int = 224
    patch: int = 16
    dim: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: int = 4

    def __post_init__(self) -> None:
        if self.image_size % self.patch:
            raise ConfigError(f"image_size {self.image_size} must be a multiple of patch {self.patch}")
        if self.dim % self.heads or self.dim % 2:
            raise ConfigError(f"dim {self.dim} must be even and a multiple of heads {self.heads}")

    @property
    def grid(self) -> int:
        """Patches along each side."""
        return self.image_size // self.patch


class OmniMAETrunk(Fp32Buffers):
    """The encoder of OmniMAE (arXiv 2206.08356), trained to fill in masked patches of images and videos."""

    positions: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, config: OmniMAEConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = nn.Conv3d(
            3, config.dim, (TUBELET, config.patch, config.patch), stride=(TUBELET, config.patch, config.patch)
        )
        self.blocks = nn.ModuleList([ViTBlock(config) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.register_buffer("positions", sinusoid(config.grid**2, config.dim), persistent=False)
        self.register_buffer(
            "mean", torch.tensor(IMAGENET_MEAN, device="cpu").view(3, 1, 1), persistent=False
        )
        self.register_buffer("std", torch.tensor(IMAGENET_STD, device="cpu").view(3, 1, 1), persistent=False)

    def forward(self, image: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b dim rows columns"]:
        """Features of an image in [0, 1] of any size, which is resized to the trunk's square."""
        side = (self.config.image_size, self.config.image_size)
        image = functional.interpolate(image.float(), size=side, mode="bilinear", align_corners=False)
        # [b, 3, h, w] -> [b, 3, 2, h, w]: the same frame twice
        still = ((image - self.mean) / self.std).unsqueeze(2).expand(-1, -1, TUBELET, -1, -1)
        dtype = self.patch_embed.weight.dtype
        # The published table runs over the frames of a long video; a still needs those of the first frame.
        tokens = rearrange(self.patch_embed(still.to(dtype)), "b c 1 h w -> b (h w) c") + self.positions
        tokens = tokens.to(dtype)
        for block in self.blocks:
            tokens = block(tokens)
        return rearrange(self.norm(tokens), "b (h w) c -> b c h w", h=self.config.grid)


class ViTBlock(nn.Module):
    """A pre-norm transformer block: self-attention of the patches, then a two-layer network on each."""

    def __init__(self, config: OmniMAEConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm1 = nn.LayerNorm(config.dim, eps=1e-6)
        self.qkv = nn.Linear(config.dim, 3 * config.dim)
        self.proj = nn.Linear(config.dim, config.dim)
        self.norm2 = nn.LayerNorm(config.dim, eps=1e-6)
        self.fc1 = nn.Linear(config.dim, config.mlp_ratio * config.dim)
        self.fc2 = nn.Linear(config.mlp_ratio * config.dim, config.dim)

    def forward(self, tokens: Float[Tensor, "b tokens dim"]) -> Float[Tensor, "b tokens dim"]:
        projected = rearrange(self.qkv(self.norm1(tokens)), "b n (k h d) -> k b h n d", k=3, h=self.heads)
        attended = functional.scaled_dot_product_attention(*projected)
        tokens = tokens + self.proj(rearrange(attended, "b h n d -> b n (h d)"))
        return tokens + self.fc2(functional.gelu(self.fc1(self.norm2(tokens))))


def sinusoid(rows: int, dim: int) -> Float[Tensor, "rows dim"]:
    """Fixed positions (Vaswani et al. 2017): sines on even and cosines on odd channels."""
    # A buffer: on the CPU by name, so that it is there also where parameters have no memory.
    pair = torch.arange(dim // 2, dtype=torch.float64, device="cpu")
    angles = torch.outer(torch.arange(rows, dtype=torch.float64, device="cpu"), 10000.0 ** (-2 * pair / dim))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).float()


def published_trunk_names(config: OmniMAEConfig) -> dict[str, str]:
    """Published name -> name in `OmniMAETrunk`."""
    modules = {"trunk.patch_embed.proj.1": "patch_embed", "trunk.norm": "norm"}
    for block in range(config.depth):
        for name in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"):
            modules[f"trunk.blocks.{block}.{name}"] = f"blocks.{block}.{name.rpartition('.')[2]}"
    return {
        f"{published}.{kind}": f"{name}.{kind}"
        for published, name in modules.items()
        for kind in ("weight", "bias")
    }


@dataclass(frozen=True, kw_only=True)
class TinyFeaturesConfig:
    """Sizes of `TinyFeatures`.

    Attributes:
        dim: channels of the features.
        widths: channels at a half, a quarter and an eighth of the photo's resolution.
        blocks: residual blocks at each of these, and at a sixteenth.
        attention: transformer blocks over all cells.
        heads: of these.
    """

    dim: int = 96
    widths: tuple[int, int, int] = (24, 32, 48)
    blocks: tuple[int, int, int, int] = (0, 1, 1, 3)
    attention: int = 3
    heads: int = 3

    def __post_init__(self) -> None:
        if any(width % 8 for width in (*self.widths, self.dim)):
            raise ConfigError(f"widths {self.widths} and dim {self.dim} must be multiples of 8")
        if self.dim % self.heads or self.dim % 4:
            raise ConfigError(f"dim {self.dim} must be a multiple of 4 and of heads {self.heads}")


class TinyFeatures(nn.Module):
    """The tiny preset's extractor: one feature vector per cell of 16x16 pixels.

    Trained to name what every part of an image shows, it learns on a CPU what a vision transformer of its
    size on patches of 8 pixels does not: the convolutions see legs and wheels before anything is pooled.
    """

    input_scale = INPUT_SCALE
    positions: Tensor

    def __init__(self, config: TinyFeaturesConfig) -> None:
        super().__init__()
        self.config = config
        widths = (*config.widths, config.dim)
        stages: list[nn.Module] = []
        for stage, (width, blocks) in enumerate(zip(widths, config.blocks, strict=True)):
            if stage:
                stages.append(nn.Conv2d(widths[stage - 1], width, 2, stride=2))
            else:
                stages += [nn.Conv2d(3, width, 3, stride=2, padding=1), nn.SiLU()]
            stages += [ResidualBlock(width) for _ in range(blocks)]
        self.stages = nn.Sequential(*stages)
        sizes = OmniMAEConfig(dim=config.dim, heads=config.heads)
        self.blocks = nn.ModuleList(ViTBlock(sizes) for _ in range(config.attention))
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.register_buffer("positions", sinusoid(MAX_CELLS, config.dim // 2), persistent=False)

    def forward(self, image: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b dim rows columns"]:
        """Features of an image in [0, 1].

        Raises:
            ValueError: a side is no multiple of 16, or longer than 4096 pixels.
        """
        height, width = image.shape[-2:]
        longest = MAX_CELLS * STRIDE
        if height % STRIDE or width % STRIDE or max(height, width) > longest:
            raise ValueError(
                f"sides must be multiples of {STRIDE} and at most {longest}, got {height} x {width}"
            )
        dtype = self.norm.weight.dtype
        cells = self.stages((2 * image - 1).to(dtype))  # [b, dim, height / 16, width / 16]
        rows, columns = cells.shape[-2:]
        # Half of the channels hold the row's sinusoid, the other half the column's.
        down = self.positions[:rows, None].expand(-1, columns, -1)
        across = self.positions[None, :columns].expand(rows, -1, -1)
        positions = rearrange(torch.cat([down, across], dim=-1), "h w c -> 1 (h w) c").to(dtype)
        tokens = rearrange(cells, "b c h w -> b (h w) c") + positions
        for block in self.blocks:
            tokens = block(tokens)
        return rearrange(self.norm(tokens), "b (h w) c -> b c h w", h=rows)
