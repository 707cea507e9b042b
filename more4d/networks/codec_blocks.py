"""Building bricks of the small codecs: 2-D convolutions over single latent frames, mixed along time by 1x1
maps.

A small Wan VAE spends its time in 3-D convolutions and did not train on a CPU; folding the four video
frames of a latent frame into channels does.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from more4d.networks.interface import FRAME_STRIDE


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions behind group normalisation, added to the input; starts as the identity."""

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        y = self.conv1(nn.functional.silu(self.norm1(x)))
        return x + self.conv2(nn.functional.silu(self.norm2(y)))


class TemporalMixing(nn.Module):
    """Each latent frame sees its two neighbours through a 1x1 map; starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3 * channels, channels, 1)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)

    def forward(self, x: Float[Tensor, "bf c h w"], frames: int) -> Float[Tensor, "bf c h w"]:
        x_bf = rearrange(x, "(b f) c h w -> b f c h w", f=frames)
        before = torch.cat([x_bf[:, :1], x_bf[:, :-1]], 1)
        after = torch.cat([x_bf[:, 1:], x_bf[:, -1:]], 1)
        near = rearrange([before, x_bf, after], "k b f c h w -> (b f) (k c) h w")
        return x + self.mix(nn.functional.silu(near))


def frames_to_channels(video: Float[Tensor, "b c t height width"]) -> Float[Tensor, "b f c4 height width"]:
    """Frames 1, 2, .. in groups of four as channels; frame 0 is left out. The inverse is `channels_to_frames`."""
    if (video.shape[2] - 1) % FRAME_STRIDE:
        raise ValueError(f"a codec takes 4n + 1 frames, got {video.shape[2]}")
    return rearrange(video[:, :, 1:], "b c (f k) h w -> b f (k c) h w", k=FRAME_STRIDE)


def channels_to_frames(
    folded: Float[Tensor, "b f c4 height width"], first: Float[Tensor, "b c 1 height width"]
) -> Float[Tensor, "b c t height width"]:
    """The inverse of `frames_to_channels`, given frame 0."""
    later = rearrange(folded, "b f (k c) h w -> b c (f k) h w", k=FRAME_STRIDE)
    return torch.cat([first, later], 2)
