"""What feeds the tiny preset's motion perception module: a small network that knows things by their looks.

It stands where the published weights have OmniMAE. Trained to name what every part of a picture shows, it
learns on a CPU what a vision transformer of its size, on patches of 8 pixels, does not: the convolutions in
front see legs and wheels before anything is pooled. It looks at the photo at twice the size that latents are
made of; at that size most things are a dozen pixels high, and nobody could tell a goat from a wolf.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from more4d.foundation.errors import ConfigError
from more4d.networks.codec_blocks import ResidualBlock
from more4d.networks.interface import PIXEL_STRIDE
from more4d.networks.omnimae import OmniMAEConfig, ViTBlock, sinusoid

INPUT_SCALE = 2
"""Pixels of the photo it is shown, along a side, for each pixel that latents are made of."""

STRIDE = INPUT_SCALE * PIXEL_STRIDE

LONGEST_SIDE = 256
"""Cells along a side that have positions of their own."""


@dataclass(frozen=True, kw_only=True)
class TinyFeaturesConfig:
    """Sizes of the network.

    Attributes:
        dim: channels of the features.
        widths: channels at a half, a quarter and an eighth of the photo's resolution.
        blocks: residual blocks at each of these, and at a sixteenth.
        attention: blocks in which all cells see each other.
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
    """A photo in, a map of features out, one vector per cell of 16x16 pixels."""

    input_scale = INPUT_SCALE

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
        self.register_buffer("positions", sinusoid(LONGEST_SIDE, config.dim // 2), persistent=False)

    positions: Tensor

    def forward(self, image: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b dim rows columns"]:
        """Features of an image in [0, 1].

        Raises:
            ValueError: a side is no multiple of 16, or longer than 4096 pixels.
        """
        height, width = image.shape[-2:]
        longest = LONGEST_SIDE * STRIDE
        if height % STRIDE or width % STRIDE or max(height, width) > longest:
            raise ValueError(
                f"sides must be multiples of {STRIDE} and at most {longest}, got {height} x {width}"
            )
        dtype = self.norm.weight.dtype
        cells = self.stages((2 * image - 1).to(dtype))
        rows, columns = cells.shape[-2:]
        down = self.positions[:rows, None].expand(-1, columns, -1)
        across = self.positions[None, :columns].expand(rows, -1, -1)
        places = rearrange(torch.cat([down, across], dim=-1), "h w c -> 1 (h w) c").to(dtype)
        tokens = rearrange(cells, "b c h w -> b (h w) c") + places
        for block in self.blocks:
            tokens = block(tokens)
        return rearrange(self.norm(tokens), "b (h w) c -> b c h w", h=rows)
