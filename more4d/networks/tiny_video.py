"""The video codec of the tiny preset: RGB video to latents and back, sharpened by what is already known.

4D-ViSM only has to invent what the camera cannot see. So this decoder is handed the known pixels (as
inpainting decoders are): it copies them, and takes the latents' word where there are holes.
"""

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pixel_shuffle, pixel_unshuffle, silu

from more4d.networks.codec_blocks import ResidualBlock, TemporalMixing, channels_to_frames, frames_to_channels
from more4d.networks.interface import FRAME_STRIDE, latent_frames

COARSE = 4
"""Pixels per cell of the inner grid."""


@dataclass(frozen=True, kw_only=True)
class TinyVideoConfig:
    """Sizes of the tiny video codec.

    Attributes:
        latent_channels: channels of the latents.
        width: channels on the latent grid.
        fine_width: channels on the grid of 4x4 pixels.
        blocks: residual blocks on either grid of the decoder.
        background_fill: what the decoder corrects in holes: what the known video shows there, which is then filled
            from behind (`geometry.background_fill`), or a smooth mean of what is around them.
    """

    latent_channels: int = 16
    width: int = 96
    fine_width: int = 64
    blocks: int = 2
    background_fill: bool = False


class VideoEncoder(nn.Module):
    """Video to latents: frame 0 by itself, the others in fours."""

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

    def forward(self, video: Float[Tensor, "b 3 t height width"]) -> Float[Tensor, "b 16 f h w"]:
        batch, frames = video.shape[0], latent_frames(video.shape[2])
        x = self.first(pixel_unshuffle(video[:, :, 0], COARSE))[:, None]
        if frames > 1:
            later = self.later(pixel_unshuffle(frames_to_channels(video).flatten(0, 1), COARSE))
            x = torch.cat([x, rearrange(later, "(b f) c h w -> b f c h w", b=batch)], 1)
        x = self.mix(self.down(silu(self.fine(x.flatten(0, 1)))), frames)
        for block in self.coarse:
            x = block(x)
        return rearrange(self.out(x), "(b f) c h w -> b c f h w", b=batch)


class VideoDecoder(nn.Module):
    """Latents to a correction of the smoothly filled known video."""

    def __init__(self, config: TinyVideoConfig) -> None:
        super().__init__()
        fine, width = config.fine_width, config.width
        self.inward = nn.Conv2d(config.latent_channels, width, 1)
        self.mix = TemporalMixing(width)
        self.coarse = nn.ModuleList([ResidualBlock(width) for _ in range(config.blocks)])
        self.up = nn.Conv2d(width, 4 * fine, 1)
        # Three colours of the filled video and the coverage, for the four frames of a latent frame.
        self.known = nn.Conv2d(4 * FRAME_STRIDE * COARSE**2, fine, 1)
        self.fine = nn.ModuleList([ResidualBlock(fine) for _ in range(config.blocks + 1)])
        self.out = nn.Conv2d(fine, 3 * FRAME_STRIDE * COARSE**2, 3, padding=1)
        nn.init.zeros_(self.out.bias)
        nn.init.normal_(self.out.weight, std=1e-3)

    def forward(
        self,
        latents: Float[Tensor, "b 16 f h w"],
        filled: Float[Tensor, "b 3 t height width"],
        coverage: Float[Tensor, "b 1 t height width"],
    ) -> Float[Tensor, "b 3 t height width"]:
        batch, frames = latents.shape[0], latents.shape[2]
        x = self.mix(self.inward(rearrange(latents, "b c f h w -> (b f) c h w")), frames)
        for block in self.coarse:
            x = block(x)
        x = pixel_shuffle(self.up(silu(x)), 2)
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
    """`interface.VideoCodec` in small. Buffers hold the latent statistics of its training set."""

    def __init__(self, config: TinyVideoConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = VideoEncoder(config)
        self.decoder = VideoDecoder(config)
        self.latent_mean: Tensor
        self.latent_std: Tensor
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels, device="cpu"))
        self.register_buffer("latent_std", torch.ones(config.latent_channels, device="cpu"))

    def encode_video(self, video: Float[Tensor, "b 3 t height width"]) -> Float[Tensor, "b 16 f h w"]:
        """See `interface.VideoCodec`."""
        return (self.encoder(video) - self._column(self.latent_mean)) / self._column(self.latent_std)

    def decode_video(
        self,
        latents: Float[Tensor, "b 16 f h w"],
        known: Float[Tensor, "b 3 t height width"],
        coverage: Float[Tensor, "b 1 t height width"],
    ) -> Float[Tensor, "b 3 t height width"]:
        """See `interface.VideoCodec`."""
        raw = latents * self._column(self.latent_std) + self._column(self.latent_mean)
        filled = known if self.config.background_fill else pull_push_fill(known, coverage)
        return self.decoder(raw, filled, coverage)

    @staticmethod
    def _column(values: Tensor) -> Tensor:
        return rearrange(values, "c -> 1 c 1 1 1")


def pull_push_fill(
    known: Float[Tensor, "b 3 t height width"], coverage: Float[Tensor, "b 1 t height width"]
) -> Float[Tensor, "b 3 t height width"]:
    """Fill holes by pull-push (Gortler et al. 1996): averages of what is known, from fine to coarse and
    back.
    """
    frames = known.shape[2]
    colour = rearrange(known * coverage, "b c t h w -> (b t) c h w")
    weight = rearrange(coverage, "b c t h w -> (b t) c h w")
    return rearrange(_pull_push(colour, weight), "(b t) c h w -> b c t h w", t=frames)


def _pull_push(colour: Tensor, weight: Tensor) -> Tensor:
    """`colour` is premultiplied by `weight`; the result is defined wherever any pixel at all is known."""
    if min(colour.shape[-2:]) > 1:
        coarse_colour = avg_pool2d(colour, 2, ceil_mode=True, count_include_pad=False)
        coarse_weight = avg_pool2d(weight, 2, ceil_mode=True, count_include_pad=False)
        # A coarse cell with any known pixel is as good as known.
        sure = (4 * coarse_weight).clamp(max=1)
        scale = sure / coarse_weight.clamp(min=1e-6)
        coarse = _pull_push(coarse_colour * scale, sure)
        around = interpolate(coarse, size=colour.shape[-2:], mode="bilinear", align_corners=False)
    else:
        total = weight.sum((2, 3), keepdim=True)
        around = (colour.sum((2, 3), keepdim=True) / total.clamp(min=1e-6)).expand_as(colour)
    return colour + (1 - weight) * around
