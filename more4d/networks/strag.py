"""4D-STraG, stage one of MoRe4D (arXiv 2512.05044): how the photo's points move, as trajectory latents."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from more4d.foundation.errors import ConfigError
from more4d.networks.interface import STraGConditions
from more4d.networks.motion_perception import MotionFeatureAdapter
from more4d.networks.text_grounding import TextGrounding, TextGroundingConfig
from more4d.networks.wan import WanConfig, WanTransformer

GROUNDING_SCALE = 4.0
"""Probabilities are small beside latents of unit variance, and what is louder is heard sooner in training."""


@dataclass(frozen=True, kw_only=True)
class STraGConfig:
    """Channels of the input, in their order, and the transformer that takes them.

    `start_channels` are zeros: a slot the published weights have and nothing fills. The answers of a
    `text_grounding`, which the published weights do not have, stand behind the depth channels.
    """

    wan: WanConfig
    latent_channels: int = 16
    image_channels: int = 16
    start_channels: int = 16
    depth_channels: int = 16
    text_grounding: TextGroundingConfig | None = None

    def __post_init__(self) -> None:
        parts = (self.latent_channels, self.image_channels, self.start_channels, self.depth_channels)
        names = "noisy | image | start | depth"
        if self.text_grounding:
            parts, names = (*parts, self.text_grounding.channels), f"{names} | reader"
            told = (self.wan.motion_feature_dim, self.wan.text_dim)
            if (self.text_grounding.feature_dim, self.text_grounding.text_dim) != told:
                raise ConfigError(
                    f"the reader takes features and text of {self.text_grounding.feature_dim} and"
                    f" {self.text_grounding.text_dim} channels; wan has {told[0]} and {told[1]}"
                )
        if sum(parts) != self.wan.in_channels:
            raise ConfigError(
                f"{names} channels {' + '.join(map(str, parts))} = {sum(parts)}"
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
        self.reader = TextGrounding(config.text_grounding) if config.text_grounding else None

    def forward(
        self, noisy: Float[Tensor, "b 16 f h w"], sigma: Float[Tensor, "b"], conditions: STraGConditions
    ) -> Float[Tensor, "b 16 f h w"]:
        """The velocity (noise - data) at noise level `sigma` in [0, 1].

        Raises:
            ValueError: sizes do not fit, or a condition does not belong to this configuration.
        """
        start = noisy.new_zeros(noisy.shape[0], self.config.start_channels, *noisy.shape[2:])
        beside = [
            conditions.image_latents,
            start,
            conditions.depth_latents,
            *self._grounding_latents(conditions, noisy),
        ]
        latents = torch.cat([noisy, *beside], dim=1)
        velocity = self.transformer(
            latents,
            1000.0 * sigma.float(),
            conditions.text,
            image=conditions.clip,
            reference=conditions.reference_latents,
            motion=self._motion_tokens(conditions.motion_features, noisy),
        )
        return velocity.to(noisy.dtype)

    def ground_text(self, conditions: STraGConditions) -> Float[Tensor, "b channels rows columns"]:
        """What the reader finds in the prompt about each cell of the motion features' grid.

        Raises:
            ValueError: there is no reader, or no motion features.
        """
        if self.reader is None or conditions.motion_features is None:
            raise ValueError("reading the prompt takes a network with a reader, and motion features")
        return self.reader(conditions.motion_features, conditions.text)

    def enable_gradient_checkpointing(self) -> None:
        """Keep only what enters each block; the rest is computed again on the way back."""
        self.transformer.enable_gradient_checkpointing()

    def _grounding_latents(self, conditions: STraGConditions, noisy: Tensor) -> list[Tensor]:
        if self.reader is None:
            return []
        size = noisy.shape[-2:]
        said = (
            self.ground_text(conditions) if conditions.grounding_probs is None else conditions.grounding_probs
        )
        answers = GROUNDING_SCALE * interpolate(said, size, mode="nearest-exact").to(noisy.dtype)
        return [answers[:, :, None].expand(-1, -1, noisy.shape[2], -1, -1)]

    def _motion_tokens(self, features: Tensor | None, noisy: Tensor) -> Tensor | None:
        if features is None:
            return None
        if self.motion_adapter is None:
            raise ValueError("motion features were given to a network without motion perception")
        _, rows, columns = self.config.wan.patch_size
        return self.motion_adapter(features, (noisy.shape[-2] // rows, noisy.shape[-1] // columns))


def with_text_grounding(network: STraG, config: STraGConfig) -> STraG:
    """A network of configuration `config`, which has a reader, around the transformer of `network`.

    It computes what `network` does if that has none, for what the reader says is not listened to yet. A
    reader of `network` is dropped.

    Raises:
        ConfigError: `config` has no reader, one of other classes, or differs in more than the reader.
    """
    new, had = config.text_grounding, network.config.text_grounding
    more = new.channels - (had.channels if had else 0) if new else 0
    as_was = replace(
        config, text_grounding=had, wan=replace(config.wan, in_channels=config.wan.in_channels - more)
    )
    if new is None or (had and had.classes != new.classes) or as_was != network.config:
        raise ConfigError("options.network is not the network of the weights it starts from, with a reader")
    grown = STraG(config)
    tensors = {key: tensor for key, tensor in network.state_dict().items() if not key.startswith("reader.")}
    patches = "transformer.patch_embedding.weight"
    tensors[patches] = pad(tensors[patches], (0, 0) * 3 + (0, more))
    fresh = {f"reader.{name}": tensor for name, tensor in grown.reader.state_dict().items()}
    grown.load_state_dict(tensors | fresh)
    return grown
