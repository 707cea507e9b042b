"""4D-ViSM of MoRe4D (arXiv 2512.05044): completes the video of a novel view where its rendering has holes.

Input of the transformer, concatenated along channels: [ noisy (16) | mask (4) | known (16) ].
"""

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from more4d.networks.interface import FRAME_STRIDE, Coverage, Latents, Video, ViSMConditions, latent_frames
from more4d.networks.wan import WanConfig, WanTransformer


@dataclass(frozen=True, kw_only=True)
class ViSMConfig:
    """Channels of the input, in their order (noisy | mask | known), and the transformer.

    Attributes:
        background_fill: whether the holes of the known video are filled with the background behind them
            (`fill_background`), or mid grey, as published.
    """

    wan: WanConfig
    latent_channels: int = 16
    mask_channels: int = FRAME_STRIDE
    background_fill: bool = False

    def __post_init__(self) -> None:
        channels = (self.latent_channels, self.mask_channels, self.latent_channels)
        self.wan.check_channels("noisy | mask | known", channels)


class ViSM(nn.Module):
    """Velocity of noisy video latents at a noise level, under `ViSMConditions`."""

    def __init__(self, config: ViSMConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = WanTransformer(config.wan)

    def forward(self, noisy: Latents, sigma: Float[Tensor, "b"], conditions: ViSMConditions) -> Latents:
        """The velocity (noise - data) at noise level `sigma` in [0, 1].

        Raises:
            ValueError: sizes do not fit, or a condition does not belong to this configuration.
        """
        # Shape: 36 channels in the published sizes, as Wan2.1-Fun InP has them.
        latents = torch.cat([noisy, conditions.known_mask, conditions.known_latents], dim=1)
        # Flow matching: x_sigma = (1 - sigma) x + sigma noise; the network is trained on v = noise - x.
        velocity = self.transformer(latents, 1000.0 * sigma.float(), conditions.text, image=conditions.clip)
        return velocity.to(noisy.dtype)


def masked_video(video: Video, coverage: Coverage) -> Video:
    """The known part of a video in [-1, 1]: R (1 - M), M = 1 - coverage; holes are 0, mid grey."""
    return video * coverage


def pack_mask(coverage: Coverage, grid: tuple[int, int]) -> Float[Tensor, "b 4 f h w"]:
    """Coverage (1 = known) as mask channels: the four frames of each latent frame, resized to `grid` (h, w).

    The first latent frame stands for one frame only, which fills all four channels.

    Raises:
        ValueError: the number of frames is not 4n + 1.
    """
    latent_frames(coverage.shape[2])  # raises where the frames are not 4n + 1
    first = repeat(coverage[:, :, :1], "b 1 1 h w -> b 1 t h w", t=FRAME_STRIDE)
    grouped = rearrange(
        torch.cat([first, coverage[:, :, 1:]], dim=2), "b 1 (f t) h w -> (b f) t h w", t=FRAME_STRIDE
    )
    # Every frame is resized by itself: [(b f), 4, height, width] -> [(b f), 4, h, w]
    packed = functional.interpolate(grouped, size=grid, mode="bilinear", align_corners=False)
    return rearrange(packed, "(b f) t h w -> b t f h w", b=coverage.shape[0])
