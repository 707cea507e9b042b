"""The project's own depth network: 1.6 M parameters, depth and field of view, tens of milliseconds on a CPU.

It predicts log(depth / focal length), with the focal length in image diagonals. An object of true size S
metres that fills a share s of the diagonal stands at depth = focal * S / s, so depth / focal is what a
picture can tell without knowing its camera; a known camera then gives metres by one multiplication (the
canonical camera of Metric3D, arXiv 2307.10984), and an unknown one needs only the estimated focal length.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from more4d.depth.interface import check_image
from more4d.files.network_file import load_state, read_network_file
from more4d.foundation.config import from_mapping
from more4d.foundation.resources import BUNDLED_WEIGHTS
from more4d.geometry.camera import Camera, DepthMap

ARCHITECTURE = "depth-small"
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


def focal_in_diagonals(camera: Camera, *, height: int, width: int) -> float:
    """Focal length in image diagonals: the geometric mean of the two where pixels are not square."""
    fx_px, fy_px = camera.focal_px(width=width, height=height)
    return math.sqrt(fx_px * fy_px) / math.hypot(width, height)


def camera_from_focal(focal: float, *, height: int, width: int) -> Camera:
    """The inverse of `focal_in_diagonals` for square pixels and a centred principal point."""
    focal_px = focal * math.hypot(width, height)
    return Camera(fx=focal_px / width, fy=focal_px / height)


class SmallDepthEstimator:
    """`SmallDepth` behind the interface: any photo in, a depth map of its size out."""

    def __init__(self, network: SmallDepth, device: str | torch.device = "cpu") -> None:
        self.network = network.to(device).eval()
        self.device = torch.device(device)

    @classmethod
    def open(
        cls, weights: Path | None = None, *, device: str | torch.device = "cpu"
    ) -> "SmallDepthEstimator":
        """Load a network file; the bundled one if none is given.

        Raises:
            WeightsError: the file is missing, truncated, of another kind, or does not fit its configuration.
        """
        return cls(load_small_depth(weights or BUNDLED_WEIGHTS / "depth.safetensors"), device)

    @torch.no_grad()
    def estimate(self, image: Float[Tensor, "height width 3"], camera: Camera | None = None) -> DepthMap:
        """See `DepthEstimator.estimate`."""
        check_image(image)
        height, width = image.shape[:2]
        config = self.network.config
        size = _working_size(height, width, config.working_pixels)
        batch = image.to(self.device, torch.float32).permute(2, 0, 1)[None] * 2 - 1
        if size != (height, width):
            batch = F.interpolate(batch, size, mode="bilinear", antialias=True, align_corners=False)
        # The photo and its mirror image err differently: their mean is nearer to the truth than either.
        prediction = self.network(torch.cat([batch, batch.flip(-1)]))
        if camera is None:
            # A diagonal field of view of 14 to 127 degrees: outside, the estimate is a mistake.
            focal = float(prediction.log_focal.mean().exp().clamp(0.25, 4.0))
            camera = camera_from_focal(focal, height=height, width=width)
        log_focal = math.log(focal_in_diagonals(camera, height=height, width=width))
        both = prediction.log_depth(prediction.log_focal.new_tensor([log_focal, log_focal]))
        log_depth = (both[:1] + both[1:].flip(-1))[None] / 2
        if size != (height, width):
            log_depth = F.interpolate(log_depth, (height, width), mode="bilinear", align_corners=False)
        depth_m = log_depth[0, 0].exp().clamp(config.near_m, config.far_m).cpu()
        return DepthMap(depth_m=depth_m, valid=torch.ones_like(depth_m, dtype=torch.bool), camera=camera)


def load_small_depth(weights: Path) -> SmallDepth:
    """The network in a file, in float32, ready for use (evaluation mode).

    Raises:
        WeightsError: the file is missing, truncated, of another kind, or does not fit its configuration.
        ConfigError: the configuration in the file is not one of this network.
    """
    file = read_network_file(weights, architecture=ARCHITECTURE)
    network = SmallDepth(from_mapping(SmallDepthConfig, file.config, where=str(weights)))
    load_state(network, file.tensors, source=weights)
    return network.eval()


def _working_size(height: int, width: int, pixels: int) -> tuple[int, int]:
    """Height and width to run the network at: at most about `pixels`, sides multiples of 16, aspect kept."""
    scale = min(1.0, math.sqrt(pixels / (height * width)))
    return tuple(max(STRIDE, round(side * scale / STRIDE) * STRIDE) for side in (height, width))
