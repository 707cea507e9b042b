"""The vision transformer whose features of the photo guide motion: the trunk of OmniMAE.

OmniMAE (arXiv 2206.08356) was trained to fill in masked patches of images and videos alike; a photo is a
video of two equal frames to it. Only its encoder is used here. It stays outside the transformers that use its
features: an initialisation of theirs must not reach its pretrained weights.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from more4d.foundation.errors import ConfigError
from more4d.networks.precision import Fp32Buffers

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
TUBELET = 2
UNUSED = ("trunk.decoder.", "trunk.mask_token", "head.")


@dataclass(frozen=True, kw_only=True)
class OmniMAEConfig:
    """Sizes of the trunk; the defaults are the published ViT-B."""

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
    """A photo in, a map of features out."""

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
        """Features of an image in [0, 1] of any size, which is squeezed into the trunk's square."""
        side = (self.config.image_size, self.config.image_size)
        image = functional.interpolate(image.float(), size=side, mode="bilinear", align_corners=False)
        still = ((image - self.mean) / self.std).unsqueeze(2).expand(-1, -1, TUBELET, -1, -1)
        dtype = self.patch_embed.weight.dtype
        # Positions run over the frames of a long video; the first frame's are enough for a still.
        tokens = rearrange(self.patch_embed(still.to(dtype)), "b c 1 h w -> b (h w) c") + self.positions
        tokens = tokens.to(dtype)
        for block in self.blocks:
            tokens = block(tokens)
        return rearrange(self.norm(tokens), "b (h w) c -> b c h w", h=self.config.grid)


class ViTBlock(nn.Module):
    """Attention of patches among themselves, then a two-layer network on each."""

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
    """Fixed positions: sines on even and cosines on odd channels, slower from pair to pair."""
    pair = torch.arange(dim // 2, dtype=torch.float64, device="cpu")
    row = torch.arange(
        rows, dtype=torch.float64, device="cpu"
    )  # a buffer: real also where parameters are not
    angles = torch.outer(row, 10000.0 ** (-2 * pair / dim))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).float()


def published_trunk_names(config: OmniMAEConfig) -> dict[str, str]:
    """Published name -> name in `OmniMAETrunk`."""
    modules = {"trunk.patch_embed.proj.1": "patch_embed", "trunk.norm": "norm"}
    for block in range(config.depth):
        for published, ours in {
            "norm1": "norm1",
            "attn.qkv": "qkv",
            "attn.proj": "proj",
            "norm2": "norm2",
            "mlp.fc1": "fc1",
            "mlp.fc2": "fc2",
        }.items():
            modules[f"trunk.blocks.{block}.{published}"] = f"blocks.{block}.{ours}"
    return {
        f"{published}.{kind}": f"{ours}.{kind}"
        for published, ours in modules.items()
        for kind in ("weight", "bias")
    }
