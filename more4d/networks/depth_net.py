"""The bundled depth network: 3.7 M parameters, depth and field of view of one image.

It predicts log(depth / focal length), with the focal length in image diagonals, so that a known camera gives
metres by one multiplication (the canonical camera of Metric3D, arXiv 2307.10984).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

STRIDE = 16


@dataclass(frozen=True, kw_only=True)
class SmallDepthConfig:
    """Sizes of the network, and the depths it speaks about.

    Attributes:
        widths: channels at 1/2, 1/4, 1/8 and 1/16 of the image size; multiples of 8.
        blocks: residual blocks of the encoder at each of these sizes.
        global_blocks: attention blocks at 1/16.
        heads: attention heads; they divide the last width.
        near_m: depths below are trained and answered as this.
        far_m: depths above (the sky too) are trained and answered as this.
        working_pixels: larger photos are reduced to about this many pixels first.
    """

    widths: tuple[int, int, int, int] = (16, 48, 96, 144)
    blocks: tuple[int, int, int, int] = (1, 2, 2, 1)
    global_blocks: int = 2
    heads: int = 4
    near_m: float = 0.3
    far_m: float = 100.0
    working_pixels: int = 144 * 192

    def __post_init__(self) -> None:
        if any(width % 8 for width in self.widths) or self.widths[-1] % self.heads:
            raise ValueError(f"widths must be multiples of 8 and of heads {self.heads}, got {self.widths}")
        if not 0 < self.near_m < self.far_m:
            raise ValueError(f"depths must be 0 < near < far, got {self.near_m} and {self.far_m}")


@dataclass(frozen=True, kw_only=True)
class DepthPrediction:
    """What the network says of a batch of images.

    Attributes:
        log_canonical: log of depth in metres for a camera whose focal length is one image diagonal.
        log_focal: log of the focal length in image diagonals.
    """

    log_canonical: Float[Tensor, "b height width"]
    log_focal: Float[Tensor, " b"]

    def log_depth(self, log_focal: Float[Tensor, " b"] | None = None) -> Float[Tensor, "b height width"]:
        """Log depth in metres for the given focal length, or for the estimated one."""
        log_focal = self.log_focal if log_focal is None else log_focal
        return self.log_canonical + log_focal[:, None, None]


class SmallDepth(nn.Module):
    """A U: residual blocks down to 1/16, attention there, additive skips up to 1/2, then pixel shuffle."""

    def __init__(self, config: SmallDepthConfig) -> None:
        super().__init__()
        self.config = config
        half, quarter, eighth, sixteenth = config.widths
        self.stem = nn.Conv2d(3 * 4 + 2, half, 3, padding=1)
        self.encoder = nn.ModuleList(_blocks(w, n) for w, n in zip(config.widths, config.blocks, strict=True))
        # Each size starts from normalised values; else they grow from size to size and drown what is added.
        self.down = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(8, fine), nn.Conv2d(fine, coarse, 3, stride=2, padding=1))
            for fine, coarse in ((half, quarter), (quarter, eighth), (eighth, sixteenth))
        )
        self.globals = nn.Sequential(
            *(_GlobalBlock(sixteenth, config.heads) for _ in range(config.global_blocks))
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(8, coarse), nn.Conv2d(coarse, fine, 1))
            for coarse, fine in ((sixteenth, eighth), (eighth, quarter), (quarter, half))
        )
        self.decoder = nn.ModuleList(_Residual(width) for width in (eighth, quarter, half))
        self.depth_head = nn.Sequential(nn.GroupNorm(8, half), nn.SiLU(), nn.Conv2d(half, 4, 3, padding=1))
        # Focal length and overall scale are one number per picture, which group norms would erase.
        self.global_head = nn.Sequential(
            nn.LayerNorm(2 * sixteenth), nn.Linear(2 * sixteenth, 64), nn.SiLU(), nn.Linear(64, 2)
        )
        nn.init.zeros_(self.global_head[-1].weight)
        nn.init.zeros_(self.global_head[-1].bias)
        # The head speaks about differences from the middle of the range: small numbers, safe in bfloat16.
        self.middle = 0.5 * math.log(config.near_m * config.far_m)
        self.to(memory_format=torch.channels_last)

    def forward(self, image: Float[Tensor, "b 3 height width"]) -> DepthPrediction:
        """Depth and focal length of images in [-1, 1] of any size."""
        height, width = image.shape[-2:]
        skips = self._encode(image)
        x = self.globals(skips.pop())
        overall = self.global_head(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)).float()
        log_focal, log_scale = overall.unbind(1)
        for up, block in zip(self.up, self.decoder, strict=True):
            x = F.interpolate(up(x), scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(x + skips.pop())
        relative = F.pixel_shuffle(self.depth_head(x), 2)[:, 0, :height, :width].float()
        return DepthPrediction(
            log_canonical=self.middle + log_scale[:, None, None] + relative, log_focal=log_focal
        )

    def features(self, image: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b channels h w"]:
        """The encoder's features at 1/8 of the size of images in [-1, 1] (sides multiples of 8)."""
        height, width = image.shape[-2:]
        return self._encode(image)[2][..., : height // 8, : width // 8]

    def _encode(self, image: Tensor) -> list[Tensor]:
        x = self.stem(_pixel_unshuffle_with_positions(image))
        levels = []
        for index, blocks in enumerate(self.encoder):
            x = blocks(x if index == 0 else self.down[index - 1](x))
            levels.append(x)
        return levels


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.start_as_identity()

    def start_as_identity(self) -> None:
        nn.init.zeros_(self.body[-1].weight)
        nn.init.zeros_(self.body[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class _GlobalBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.mixed = nn.Linear(width, width)
        self.channels = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def start_as_identity(self) -> None:
        for last in (self.mixed, self.channels[-1]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        batch, width, rows, columns = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        qkv = self.queries_keys_values(self.norm(tokens)).unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens = tokens + self.mixed(seen)
        tokens = tokens + self.channels(tokens)
        return tokens.transpose(1, 2).reshape(batch, width, rows, columns)


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_Residual(width) for _ in range(count)))


def _pixel_unshuffle_with_positions(image: Tensor) -> Tensor:
    """Pad to multiples of 16, fold 2x2 pixels into channels, append each place's position.

    Position is measured from the image's centre in half diagonals, so that portrait, landscape and padded
    images agree on what it means: the floor is mostly below, the sky above.
    """
    height, width = image.shape[-2:]
    padding = (0, -width % STRIDE, 0, -height % STRIDE)
    folded = F.pixel_unshuffle(F.pad(image, padding, mode="replicate"), 2)
    rows, columns = folded.shape[-2:]
    diagonal = math.hypot(height, width)
    y = ((torch.arange(rows, device=image.device) + 0.5) * 4 - height) / diagonal
    x = ((torch.arange(columns, device=image.device) + 0.5) * 4 - width) / diagonal
    positions = torch.stack(torch.meshgrid(y, x, indexing="ij")).to(folded)
    folded = torch.cat([folded, positions.expand(len(folded), -1, -1, -1)], 1)
    return folded.contiguous(memory_format=torch.channels_last)
