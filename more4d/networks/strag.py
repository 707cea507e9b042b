"""4D-STraG of MoRe4D (arXiv 2512.05044): generates the motion of a photo's points, as trajectory latents.

Input of the transformer, concatenated along channels:

    z_in = [ noisy (16) | image (16) | zeros (16) | depth (16) | grounding probabilities, if any ]

Beside them: text and CLIP vision by cross-attention, the photo as reference tokens, motion features in every
block (`motion_perception`). The text grounding head is ours; the published weights do not have it.
"""

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

GROUNDING_SCALE = 4.0  # probabilities are small next to latents of unit variance; larger, they train sooner


@dataclass(frozen=True, kw_only=True)
class STraGConfig:
    """Channels of the input, in their order, and the transformer.

    Attributes:
        start_channels: zeros: the published weights have these channels, and nothing fills them.
        text_grounding: sizes of the grounding head, whose probabilities follow the depth channels; or None.
    """

    wan: WanConfig
    latent_channels: int = 16
    image_channels: int = 16
    start_channels: int = 16
    depth_channels: int = 16
    text_grounding: TextGroundingConfig | None = None

    def __post_init__(self) -> None:
        channels = (self.latent_channels, self.image_channels, self.start_channels, self.depth_channels)
        names = "noisy | image | start | depth"
        if self.text_grounding:
            channels, names = (*channels, self.text_grounding.channels), f"{names} | text_grounding"
            sizes = (self.wan.motion_feature_dim, self.wan.text_dim)
            if (self.text_grounding.feature_dim, self.text_grounding.text_dim) != sizes:
                raise ConfigError(
                    f"text_grounding takes features and text of {self.text_grounding.feature_dim} and"
                    f" {self.text_grounding.text_dim} channels; wan has {sizes[0]} and {sizes[1]}"
                )
        if sum(channels) != self.wan.in_channels:
            raise ConfigError(
                f"{names} channels {' + '.join(map(str, channels))} = {sum(channels)}"
                f" must equal wan.in_channels {self.wan.in_channels}"
            )
        if self.wan.out_channels != self.latent_channels:
            raise ConfigError(
                f"wan.out_channels {self.wan.out_channels} must equal latent_channels {self.latent_channels}"
            )


class STraG(nn.Module):
    """Velocity of noisy trajectory latents at a noise level, under `STraGConditions`."""

    def __init__(self, config: STraGConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = WanTransformer(config.wan)
        self.motion_adapter = (
            None
            if config.wan.motion_feature_dim is None
            else MotionFeatureAdapter(config.wan.motion_feature_dim)
        )
        # Called `reader` in weight files.
        self.reader = TextGrounding(config.text_grounding) if config.text_grounding else None

    def forward(
        self, noisy: Float[Tensor, "b 16 f h w"], sigma: Float[Tensor, "b"], conditions: STraGConditions
    ) -> Float[Tensor, "b 16 f h w"]:
        """The velocity (noise - data) at noise level `sigma` in [0, 1].

        Raises:
            ValueError: sizes do not fit, or a condition does not belong to this configuration.
        """
        zeros = noisy.new_zeros(noisy.shape[0], self.config.start_channels, *noisy.shape[2:])
        parts = [noisy, conditions.image_latents, zeros, conditions.depth_latents]
        latents = torch.cat([*parts, *self._grounding_latents(conditions, noisy)], dim=1)  # [b, 64+, f, h, w]
        # Flow matching: z_sigma = (1 - sigma) z + sigma noise; the network is trained on v = noise - z.
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
        """Probabilities of what the prompt says about each cell of the motion features' grid.

        Raises:
            ValueError: there is no text grounding head, or no motion features.
        """
        if self.reader is None or conditions.motion_features is None:
            raise ValueError("text grounding takes a network with a grounding head, and motion features")
        return self.reader(conditions.motion_features, conditions.text)

    def enable_gradient_checkpointing(self) -> None:
        """Keep only the input of each block; the rest is computed again in the backward pass."""
        self.transformer.enable_gradient_checkpointing()

    def _grounding_latents(self, conditions: STraGConditions, noisy: Tensor) -> list[Tensor]:
        if self.reader is None:
            return []
        # Nearest: probabilities of a cell are not mixed with those of its neighbours.
        size = noisy.shape[-2:]
        probs = conditions.grounding_probs  # the ground truth, under teacher forcing in training
        probs = self.ground_text(conditions) if probs is None else probs
        # [b, channels, rows, columns] -> the latent grid, the same for every latent frame
        scaled = GROUNDING_SCALE * interpolate(probs, size, mode="nearest-exact").to(noisy.dtype)
        return [scaled[:, :, None].expand(-1, -1, noisy.shape[2], -1, -1)]

    def _motion_tokens(self, features: Tensor | None, noisy: Tensor) -> Tensor | None:
        if features is None:
            return None
        if self.motion_adapter is None:
            raise ValueError("motion features were given to a network without motion perception")
        # The token grid: latents divided by the patch size.
        _, rows, columns = self.config.wan.patch_size
        return self.motion_adapter(features, (noisy.shape[-2] // rows, noisy.shape[-1] // columns))


def with_text_grounding(network: STraG, config: STraGConfig) -> STraG:
    """A network of configuration `config`, with a text grounding head, around the transformer of `network`.

    It computes what `network` without a head does: the weights of the new input channels are zero. A head of
    `network` is replaced by a new one.

    Raises:
        ConfigError: `config` has no head, one of other classes, or differs in more than the head.
    """
    new, had = config.text_grounding, network.config.text_grounding
    more = new.channels - (had.channels if had else 0) if new else 0
    as_was = replace(
        config, text_grounding=had, wan=replace(config.wan, in_channels=config.wan.in_channels - more)
    )
    if new is None or (had and had.classes != new.classes) or as_was != network.config:
        raise ConfigError(
            "options.network is not the network of the weights it starts from, with a text grounding head"
        )
    grown = STraG(config)
    tensors = {key: tensor for key, tensor in network.state_dict().items() if not key.startswith("reader.")}
    # Zero weights for the channels of the probabilities, which come last.
    patches = "transformer.patch_embedding.weight"
    tensors[patches] = pad(tensors[patches], (0, 0) * 3 + (0, more))
    fresh = {f"reader.{name}": tensor for name, tensor in grown.reader.state_dict().items()}
    grown.load_state_dict(tensors | fresh)
    return grown
