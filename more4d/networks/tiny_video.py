"""The video codec of the tiny preset, and the blocks that the tiny networks share.

4D-ViSM generates only what the first camera did not see. So this decoder is given the known pixels, as
inpainting decoders are: it copies them, and uses the latents in the holes.

A small Wan VAE spends its time in 3-D convolutions and did not train on a CPU. Here the four video frames of
a latent frame are folded into channels, so that 2-D convolutions over single latent frames, mixed along time
by 1x1 convolutions, do.
"""

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pixel_shuffle, pixel_unshuffle, silu

from more4d.networks.interface import FRAME_STRIDE, Coverage, Latents, Video, latent_frames

COARSE = 4  # pixels per cell of the inner grid, along each side


class ResidualBlock(nn.Module):
    """Pre-activation residual block of two 3x3 convolutions; starts as the identity."""

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)  # the block adds nothing at first
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        # Norm and activation before each convolution (He et al. 2016, arXiv 1603.05027).
        y = self.conv1(nn.functional.silu(self.norm1(x)))
        return x + self.conv2(nn.functional.silu(self.norm2(y)))


class TemporalMixing(nn.Module):
    """A 1x1 convolution over each latent frame and its two neighbours, added; starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3 * channels, channels, 1)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)

    def forward(self, x: Float[Tensor, "bf c h w"], frames: int) -> Float[Tensor, "bf c h w"]:
        x_bf = rearrange(x, "(b f) c h w -> b f c h w", f=frames)
        # The first and the last frame are their own missing neighbours.
        before = torch.cat([x_bf[:, :1], x_bf[:, :-1]], 1)
        after = torch.cat([x_bf[:, 1:], x_bf[:, -1:]], 1)
        # [b, f, c, h, w] three times -> [(b f), 3 c, h, w]
        near = rearrange([before, x_bf, after], "k b f c h w -> (b f) (k c) h w")
        return x + self.mix(nn.functional.silu(near))


def frames_to_channels(video: Float[Tensor, "b c t height width"]) -> Float[Tensor, "b f c4 height width"]:
    """Frames 1, 2, .. in groups of four as channels, without frame 0; the inverse is `channels_to_frames`."""
    latent_frames(video.shape[2])  # raises where the frames are not 4n + 1
    return rearrange(video[:, :, 1:], "b c (f k) h w -> b f (k c) h w", k=FRAME_STRIDE)


def channels_to_frames(
    folded: Float[Tensor, "b f c4 height width"], first: Float[Tensor, "b c 1 height width"]
) -> Float[Tensor, "b c t height width"]:
    """The inverse of `frames_to_channels`, given frame 0."""
    later = rearrange(folded, "b f (k c) h w -> b c (f k) h w", k=FRAME_STRIDE)
    return torch.cat([first, later], 2)


@dataclass(frozen=True, kw_only=True)
class TinyVideoConfig:
    """Sizes of the tiny video codec.

    Attributes:
        latent_channels: channels of the latents.
        width: channels on the latent grid.
        fine_width: channels on the grid of 4x4 pixels.
        blocks: residual blocks on either grid of the decoder.
        background_fill: whether the known video comes with its holes filled with the background behind them
            (`fill_background`); if not, the decoder fills them with a smooth mean of their surroundings
            first.
    """

    latent_channels: int = 16
    width: int = 96
    fine_width: int = 64
    blocks: int = 2
    background_fill: bool = False


class VideoEncoder(nn.Module):
    """Video to latents: frame 0 by itself, the others in groups of four."""

    def __init__(self, config: TinyVideoConfig) -> None:
        super().__init__()
        fine, width = config.fine_width, config.width
        self.first = nn.Conv2d(3 * COARSE**2, fine, 1)
        self.later = nn.Conv2d(3 * FRAME_STRIDE * COARSE**2, fine, 1)
        self.fine = ResidualBlock(fine)
        self.down = nn.Conv2d(fine, width, 2, stride=2)
        self.mix = TemporalMixing(width)
        self.coarse = nn.ModuleList([ResidualBlock(width) for _ in range(config.blocks)])
        self.out = nn.Conv2d(width, config.latent_channels, 1)

    def forward(self, video: Video) -> Latents:
        batch, frames = video.shape[0], latent_frames(video.shape[2])
        # [b, 3, height, width] -> [b, 1, fine, height / 4, width / 4]
        x = self.first(pixel_unshuffle(video[:, :, 0], COARSE))[:, None]
        if frames > 1:
            # [(b f), 12 * 16, height / 4, width / 4]: four frames of RGB in blocks of 4x4 pixels
            later = self.later(pixel_unshuffle(frames_to_channels(video).flatten(0, 1), COARSE))
            x = torch.cat([x, rearrange(later, "(b f) c h w -> b f c h w", b=batch)], 1)
        x = self.mix(self.down(silu(self.fine(x.flatten(0, 1)))), frames)
        for block in self.coarse:
            x = block(x)
        return rearrange(self.out(x), "(b f) c h w -> b c f h w", b=batch)


class VideoDecoder(nn.Module):
    """Latents to a correction of the known video, whose holes are filled."""

    def __init__(self, config: TinyVideoConfig) -> None:
        super().__init__()
        fine, width = config.fine_width, config.width
        self.inward = nn.Conv2d(config.latent_channels, width, 1)
        self.mix = TemporalMixing(width)
        self.coarse = nn.ModuleList([ResidualBlock(width) for _ in range(config.blocks)])
        self.up = nn.Conv2d(width, 4 * fine, 1)
        # Input: RGB of the filled video and the coverage, of four frames, each a block of 4x4 pixels.
        self.known = nn.Conv2d(4 * FRAME_STRIDE * COARSE**2, fine, 1)
        self.fine = nn.ModuleList([ResidualBlock(fine) for _ in range(config.blocks + 1)])
        self.out = nn.Conv2d(fine, 3 * FRAME_STRIDE * COARSE**2, 3, padding=1)
        nn.init.zeros_(self.out.bias)
        # On the meta device normal_ has no effect, and would import torch._dynamo, which takes seconds.
        if not self.out.weight.is_meta:
            nn.init.normal_(self.out.weight, std=1e-3)  # at first the decoder returns the filled video

    def forward(self, latents: Latents, filled: Video, coverage: Coverage) -> Video:
        batch, frames = latents.shape[0], latents.shape[2]
        x = self.mix(self.inward(rearrange(latents, "b c f h w -> (b f) c h w")), frames)
        for block in self.coarse:
            x = block(x)
        x = pixel_shuffle(self.up(silu(x)), 2)  # from the latent grid to that of 4x4 pixels
        given = torch.cat([filled, coverage], 1)
        # The first latent frame stands for frame 0 alone; it fills all four slots.
        padded = torch.cat(
            [repeat(given[:, :, 0], "b c h w -> b c k h w", k=FRAME_STRIDE), given[:, :, 1:]], 2
        )
        slots = rearrange(padded, "b c (f k) h w -> (b f) (k c) h w", k=FRAME_STRIDE)
        x = x + self.known(pixel_unshuffle(slots, COARSE))
        for block in self.fine:
            x = block(x)
        correction = pixel_shuffle(self.out(silu(x)), COARSE)
        correction = rearrange(correction, "(b f) c h w -> b f c h w", b=batch)
        return filled + channels_to_frames(correction[:, 1:], correction[:, 0, :3, None])


class TinyVideoCodec(nn.Module):
    """`interface.VideoCodec`. Buffers hold the latent statistics of the training set."""

    def __init__(self, config: TinyVideoConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = VideoEncoder(config)
        self.decoder = VideoDecoder(config)
        self.latent_mean: Tensor
        self.latent_std: Tensor
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels, device="cpu"))
        self.register_buffer("latent_std", torch.ones(config.latent_channels, device="cpu"))

    def encode_video(self, video: Video) -> Latents:
        """See `interface.VideoCodec`."""
        return (self.encoder(video) - self._column(self.latent_mean)) / self._column(self.latent_std)

    def decode_video(self, latents: Latents, known: Video, coverage: Coverage) -> Video:
        """See `interface.VideoCodec`."""
        raw = latents * self._column(self.latent_std) + self._column(self.latent_mean)
        filled = known if self.config.background_fill else pull_push_fill(known, coverage)
        return self.decoder(raw, filled, coverage)

    @staticmethod
    def _column(values: Tensor) -> Tensor:
        return rearrange(values, "c -> 1 c 1 1 1")


def pull_push_fill(known: Video, coverage: Coverage) -> Video:
    """Fill holes by pull-push (Gortler et al. 1996): means of known pixels, from fine to coarse and back."""
    frames = known.shape[2]
    colour = rearrange(known * coverage, "b c t h w -> (b t) c h w")
    weight = rearrange(coverage, "b c t h w -> (b t) c h w")
    return rearrange(_pull_push(colour, weight), "(b t) c h w -> b c t h w", t=frames)


def _pull_push(colour: Tensor, weight: Tensor) -> Tensor:
    """`colour` is premultiplied by `weight`; the result is defined wherever any pixel at all is known."""
    if min(colour.shape[-2:]) > 1:
        # Pull: colours are premultiplied, so that holes do not darken the mean.
        coarse_colour = avg_pool2d(colour, 2, ceil_mode=True, count_include_pad=False)
        coarse_weight = avg_pool2d(weight, 2, ceil_mode=True, count_include_pad=False)
        # A coarse pixel counts as known if any of its four pixels is.
        sure = (4 * coarse_weight).clamp(max=1)
        scale = sure / coarse_weight.clamp(min=1e-6)
        coarse = _pull_push(coarse_colour * scale, sure)
        # Push: holes take the colours of the coarser level, known pixels stay.
        around = interpolate(coarse, size=colour.shape[-2:], mode="bilinear", align_corners=False)
    else:
        total = weight.sum((2, 3), keepdim=True)
        around = (colour.sum((2, 3), keepdim=True) / total.clamp(min=1e-6)).expand_as(colour)
    return colour + (1 - weight) * around
