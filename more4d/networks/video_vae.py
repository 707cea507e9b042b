"""The Wan2.1 video VAE with its latent statistics: videos to normalised latents and back.

It is causal in time: the first frame is encoded alone, then groups of four, each with features of the frames
before. Those features stay in the autograd graph, so a gradient reaches every frame (the memory-saving form
of the reference cuts it between groups); to save memory, groups are computed again in the backward pass.

To save memory when decoding, the decoder is split in two halves. The first works on the small grids, where
its middle block attends over a whole frame; it costs little memory and stays whole. The second is
convolutions and norms over channels: a tile with a margin as wide as their receptive field gives the very
pixels of the whole frame, up to rounding. (Tiles of latents, blended where they overlap, do not: each attends
to itself only.)
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from more4d.networks.interface import (
    FRAME_STRIDE,
    PIXEL_STRIDE,
    Coverage,
    Fp32Buffers,
    Latents,
    Video,
    latent_frames,
)

LATENT_CHANNELS = 16
FIRST_UPSAMPLE = 2  # cells of the grid between the decoder's halves, along each side of a latent
CELL_PX = PIXEL_STRIDE // FIRST_UPSAMPLE
CACHED_FRAMES = 2  # frames before a group that a causal convolution of length 3 needs
# Mean and standard deviation of Wan2.1's latents, per channel, as published with the VAE.
WAN_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
WAN_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip
LOG_VARIANCE_RANGE = (-30.0, 20.0)  # as in the published code: keeps exp finite


@dataclass(frozen=True, kw_only=True)
class WanVideoVaeConfig:
    """Sizes of the video VAE; the defaults are Wan2.1's.

    Attributes:
        base_dim: channels at full resolution.
        dim_mult: multiples of `base_dim` at each of the four resolutions.
        residual_blocks: blocks per resolution.
    """

    base_dim: int = 96
    dim_mult: tuple[int, int, int, int] = (1, 2, 4, 4)
    residual_blocks: int = 2


class LatentStatistics(Fp32Buffers):
    """Mean and standard deviation per latent channel: stored with the weights, always in float32."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, device="cpu"))
        self.register_buffer("std", torch.tensor(std, device="cpu"))

    @classmethod
    def identity(cls) -> "LatentStatistics":
        return cls((0.0,) * LATENT_CHANNELS, (1.0,) * LATENT_CHANNELS)

    @torch.no_grad()
    def set(self, mean: Float[Tensor, "channels"], std: Float[Tensor, "channels"]) -> None:
        """Replace the statistics.

        Raises:
            ValueError: a standard deviation is not positive, or something is not finite.
        """
        if not bool((torch.isfinite(mean) & torch.isfinite(std) & (std > 0)).all()):
            raise ValueError(f"latent statistics must be finite with std > 0, got mean {mean}, std {std}")
        # In place, because the buffers are in the state dict already.
        self.mean.copy_(mean)
        self.std.copy_(std)

    def normalise(self, latents: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c f h w"]:
        """To zero mean and unit variance, in float32."""
        return (latents.float() - self.mean.view(-1, 1, 1, 1)) / self.std.view(-1, 1, 1, 1)

    def denormalise(self, latents: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c f h w"]:
        """The inverse of `normalise`, in float32."""
        return latents.float() * self.std.view(-1, 1, 1, 1) + self.mean.view(-1, 1, 1, 1)


class WanVideoVae(nn.Module):
    """`interface.VideoCodec` by the Wan2.1 VAE.

    Attributes:
        recompute: keep only the features between groups for the backward pass, and compute the rest again.
        tile_px: longest side of the tiles that frames are decoded in, without gradients; None decodes them
            whole. Tiles cost memory of their size instead of the frame's, more operations, and no precision.
    """

    def __init__(self, config: WanVideoVaeConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = False
        self.tile_px: int | None = None
        # Imported here: it takes seconds, and only published codecs need it.
        from diffusers import AutoencoderKLWan

        self.vae = AutoencoderKLWan(
            base_dim=config.base_dim,
            dim_mult=list(config.dim_mult),
            num_res_blocks=config.residual_blocks,
            z_dim=LATENT_CHANNELS,
        )
        self.statistics = LatentStatistics(WAN_MEAN, WAN_STD)

    def encode_video(self, video: Video) -> Latents:
        """See `interface.VideoCodec`: the posterior's mean."""
        return self.statistics.normalise(self.posterior(video)[0])

    def decode_video(self, latents: Latents, known: Video, coverage: Coverage) -> Video:
        """See `interface.VideoCodec`. This decoder does not use `known` and `coverage`."""
        return self.decode_raw(self.statistics.denormalise(latents))

    def posterior(self, video: Video) -> tuple[Latents, Latents]:
        """Mean and log-variance before normalisation.

        Raises:
            ValueError: the video does not have 4n + 1 frames, or its sides are not multiples of 8.
        """
        frames, height, width = video.shape[2:]
        if height % PIXEL_STRIDE or width % PIXEL_STRIDE:
            raise ValueError(
                f"the codec takes sides that are multiples of {PIXEL_STRIDE}, got {height}x{width}"
            )
        # Groups of 1, 4, 4, ... frames, each of which becomes one latent frame.
        lengths = [1] + [FRAME_STRIDE] * (latent_frames(frames) - 1)
        groups = video.to(self.vae.quant_conv.weight.dtype).split(lengths, dim=2)
        # [b, 32, f, h, w]: mean and log-variance, 16 channels each
        features = self._in_groups(self.vae.encoder, groups)
        mean, log_variance = self.vae.quant_conv(features).chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCE_RANGE)

    def decode_raw(self, latents: Latents) -> Video:
        """The video of latents that are not normalised; clamped to [-1, 1] outside training only.

        A clamp in training would stop the gradient of every pixel beyond it. Latent frames are decoded one by
        one, each with the cached features of those before.
        """
        latents = self.vae.post_quant_conv(latents.to(self.vae.post_quant_conv.weight.dtype))
        longest = PIXEL_STRIDE * max(latents.shape[-2:])
        if self.tile_px is not None and longest > self.tile_px and not torch.is_grad_enabled():
            video = self._decode_in_tiles(latents, self.tile_px)
        else:
            video = self._in_groups(self.vae.decoder, latents.split(1, dim=2), first_chunk=True)
        return video if self.training else video.clamp(-1, 1)

    def _decode_in_tiles(self, latents: Tensor, tile_px: int) -> Tensor:
        """As the decoder, up to rounding; all frames of a tile are decoded before the next tile."""
        # First the whole first half, then the second half tile by tile.
        first, second = FirstHalf(self.vae.decoder), SecondHalf(self.vae.decoder)
        features = self._in_groups(first, latents.split(1, dim=2), first_chunk=True)
        # Half way, a latent frame has become two frames, but the first only one.
        lengths = [1] + [FIRST_UPSAMPLE] * (latents.shape[2] - 1)
        batch, _, frames, height, width = latents.shape
        size = (FRAME_STRIDE * (frames - 1) + 1, PIXEL_STRIDE * height, PIXEL_STRIDE * width)
        video = latents.new_empty(batch, 3, *size)
        for read, keep, place in tiles(features.shape[-2:], tile_px, second.margin):
            groups = features[(..., *read)].split(lengths, dim=2)
            # A tile is read with its margin, and only its core is kept.
            part = self._in_groups(second, groups, first_chunk=True)
            video[(..., *place)] = part[(..., *keep)]
        return video

    def _in_groups(self, network: nn.Module, groups: tuple[Tensor, ...], **first: Any) -> Tensor:
        """Run `network` over groups of frames; each group uses the cached features of the one before."""
        # The cache of causal convolutions, in the order in which they are called.
        memory: list[Any] = [None] * sum(1 for _ in network.modules())  # at least one entry per convolution
        results = []
        for index, group in enumerate(groups):
            options = first if index == 0 else {}
            if self.recompute and torch.is_grad_enabled():
                result, memory = checkpoint(_step, network, group, memory, options, use_reentrant=False)
            else:
                result, memory = _step(network, group, memory, options)
            results.append(result)
        return torch.cat(results, dim=2)


def vae_names(names: Iterable[str]) -> dict[str, str]:
    """Name in `WanVideoVae.vae` -> published name, of each of `names`; what is unknown keeps its name."""
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers  # takes seconds

    return convert_wan_vae_to_diffusers({name.removeprefix("model."): name for name in names})


def _step(
    network: nn.Module, group: Tensor, memory: list[Any], options: dict[str, Any]
) -> tuple[Tensor, list[Any]]:
    """One group of frames; `memory` is not changed, so that the step can be computed again."""
    memory = list(memory)
    return network(group, feat_cache=memory, feat_idx=[0], **options), memory


class FirstHalf(nn.Module):
    """Latents to features on a grid twice as fine, and twice as many in time."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.conv_in, self.mid_block, self.up = decoder.conv_in, decoder.mid_block, decoder.up_blocks[0]

    def forward(
        self, x: Tensor, *, feat_cache: list[Any], feat_idx: list[int], first_chunk: bool = False
    ) -> Tensor:
        x = _cached_conv(self.conv_in, x, feat_cache, feat_idx)
        x = self.mid_block(x, feat_cache=feat_cache, feat_idx=feat_idx)
        return self.up(x, feat_cache=feat_cache, feat_idx=feat_idx, first_chunk=first_chunk)


class SecondHalf(nn.Module):
    """Features to RGB frames: convolutions and channel norms, with a receptive field of `margin` cells."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.ups = nn.ModuleList(decoder.up_blocks[1:])
        self.norm_out, self.nonlinearity = decoder.norm_out, decoder.nonlinearity
        self.conv_out = decoder.conv_out

    def forward(
        self, x: Tensor, *, feat_cache: list[Any], feat_idx: list[int], first_chunk: bool = False
    ) -> Tensor:
        for up in self.ups:
            x = up(x, feat_cache=feat_cache, feat_idx=feat_idx, first_chunk=first_chunk)
        return _cached_conv(self.conv_out, self.nonlinearity(self.norm_out(x)), feat_cache, feat_idx)

    @property
    def margin(self) -> int:
        """Radius of the receptive field in cells: one pixel per 3x3 convolution, at its resolution."""
        seen, resolution = 0.0, 1
        for up in self.ups:
            # A residual block has two 3x3 convolutions, each of radius 1.
            seen += 2 * len(up.resnets) / resolution
            if up.upsamplers is not None:
                resolution *= 2
                seen += 1 / resolution
        return math.ceil(seen + 1 / resolution)


def tiles(grid: tuple[int, int], tile_px: int, margin: int) -> Iterator[tuple[tuple[slice, slice], ...]]:
    """Rectangles of about equal size, with sides of at most `tile_px`, that cover a grid of cells.

    Of each, as rows and columns: what is read, in cells; which pixels of the result are kept; and where these
    go in the frame.
    """
    rows, columns = (list(_spans(cells, tile_px // CELL_PX, margin)) for cells in grid)
    for row in rows:
        for column in columns:
            yield tuple(zip(row, column, strict=True))


def _spans(cells: int, longest: int, margin: int) -> Iterator[tuple[slice, slice, slice]]:
    count = math.ceil(cells / longest)
    # Spans of nearly equal length waste less on margins than full ones and a remainder.
    bounds = [round(index * cells / count) for index in range(count + 1)]
    for start, stop in pairwise(bounds):
        first, last = max(start - margin, 0), min(stop + margin, cells)
        kept = slice((start - first) * CELL_PX, (stop - first) * CELL_PX)
        yield slice(first, last), kept, slice(start * CELL_PX, stop * CELL_PX)


def _cached_conv(conv: nn.Module, x: Tensor, memory: list[Any], index: list[int]) -> Tensor:
    """A causal convolution with the last frames of the group before; keeps its own for the next group."""
    before, place = memory[index[0]], index[0]
    index[0] += 1
    # The first group has no past; diffusers' convolution pads it with zeros.
    known = x if before is None else torch.cat([before, x], dim=2)
    memory[place] = known[:, :, -CACHED_FRAMES:].clone()
    return conv(x, before)
