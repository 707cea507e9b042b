"""4D-STraG, stage one of MoRe4D (arXiv 2512.05044): how the photo's points move, as trajectory latents."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from more4d.foundation.errors import ConfigError
from more4d.networks.interface import STraGConditions
from more4d.networks.motion_perception import MotionFeatureAdapter
from more4d.networks.wan import WanConfig, WanTransformer


@dataclass(frozen=True, kw_only=True)
class STraGConfig:
    """Channels of the input, in their order, and the transformer that takes them.

    `start_channels` are zeros: a slot the published weights have and nothing fills.
    """

    wan: WanConfig
    latent_channels: int = 16
    image_channels: int = 16
    start_channels: int = 16
    depth_channels: int = 16

    def __post_init__(self) -> None:
        parts = (self.latent_channels, self.image_channels, self.start_channels, self.depth_channels)
        if sum(parts) != self.wan.in_channels:
            raise ConfigError(
                f"noisy | image | start | depth channels {' + '.join(map(str, parts))} = {sum(parts)}"
                f" must equal wan.in_channels {self.wan.in_channels}"
            )
        if self.wan.out_channels != self.latent_channels:
            raise ConfigError(
                f"wan.out_channels {self.wan.out_channels} must equal latent_channels {self.latent_channels}"
            )


class STraG(nn.Module):
    """Noise level and conditions in, velocity of the trajectory latents out."""

    def __init__(self, config: STraGConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = WanTransformer(config.wan)
        self.motion_adapter = (
            None
            if config.wan.motion_feature_dim is None
            else MotionFeatureAdapter(config.wan.motion_feature_dim)
        )

    def forward(
        self, noisy: Float[Tensor, "b 16 f h w"], sigma: Float[Tensor, "b"], conditions: STraGConditions
    ) -> Float[Tensor, "b 16 f h w"]:
        """The velocity (noise - data) at noise level `sigma` in [0, 1].

        Raises:
            ValueError: sizes do not fit, or a condition does not belong to this configuration.
        """
        start = noisy.new_zeros(noisy.shape[0], self.config.start_channels, *noisy.shape[2:])
        latents = torch.cat([noisy, conditions.image_latents, start, conditions.depth_latents], dim=1)
        velocity = self.transformer(
            latents,
            1000.0 * sigma.float(),
            conditions.text,
            image=conditions.clip,
            reference=conditions.reference_latents,
            motion=self._guidance(conditions.motion_features, noisy),
        )
        return velocity.to(noisy.dtype)

    def enable_gradient_checkpointing(self) -> None:
        """Keep only what enters each block; the rest is computed again on the way back."""
        self.transformer.enable_gradient_checkpointing()

    def _guidance(self, features: Tensor | None, noisy: Tensor) -> Tensor | None:
        if features is None:
            return None
        if self.motion_adapter is None:
            raise ValueError("motion features were given to a network without motion perception")
        _, rows, columns = self.config.wan.patch_size
        return self.motion_adapter(features, (noisy.shape[-2] // rows, noisy.shape[-1] // columns))
