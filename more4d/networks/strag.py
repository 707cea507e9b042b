"""4D-STraG of MoRe4D (arXiv 2512.05044): generates the motion of a photo's points, as trajectory latents.

Input of the transformer, concatenated along channels:

    z_in = [ noisy (16) | image (16) | zeros (16) | depth (16) | grounding probabilities, if any ]

(The paper's concatenation of image, noise and depth; the zeros are a slot of the published backbone.)

Beside them: text and CLIP vision by cross-attention, the photo as reference tokens, motion features in every
block (`motion_perception`). The text grounding head is ours; the published weights do not have it.
"""

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, scaled_dot_product_attention

from more4d.foundation.errors import ConfigError
from more4d.networks.interface import Latents, STraGConditions
from more4d.networks.motion_perception import MotionFeatureAdapter
from more4d.networks.wan import WanConfig, WanTransformer

LEAST_MOVING = 0.1  # with less than this probability of anything but scenery, the head did not find a thing
STILL_CLASS = 16  # of the verbs, as trained: a thing that stays where it is
UNDECIDED = 0.5  # in a focus: whether something moves here is left to the head
GROUNDING_SCALE = 4.0  # probabilities are small next to latents of unit variance; larger, they train sooner


@dataclass(frozen=True, kw_only=True)
class TextGroundingConfig:
    """Sizes of the text grounding head.

    Attributes:
        feature_dim: channels of the photo's features.
        text_dim: size of the text encoder's vectors.
        dim: size of a query.
        heads: of the attention.
        classes: sizes of the groups of classes, of each of which one is right: as trained, the verbs and the
            directions of the data sets' labels, each after "scenery".
        self_attention_blocks: blocks in which cells exchange what they have found, before the classifier.
        inverse_temperature: factor of the logits in `TextGrounding.forward`; 1 in training. An object that
            moves with probability one half would be moved half of its way, which is never right.
    """

    feature_dim: int = 96
    text_dim: int = 128
    dim: int = 128
    heads: int = 4
    classes: tuple[int, ...] = (20, 8)
    self_attention_blocks: int = 0
    inverse_temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise ConfigError(f"dim {self.dim} must be a multiple of heads {self.heads}")
        if self.self_attention_blocks < 0:
            raise ConfigError(f"self_attention_blocks must be 0 or more, got {self.self_attention_blocks}")
        if not self.inverse_temperature > 0:
            raise ConfigError(f"inverse_temperature must be above 0, got {self.inverse_temperature}")

    @property
    def channels(self) -> int:
        """Of the probabilities: all classes of all groups."""
        return sum(self.classes)


class SelfAttentionBlock(nn.Module):
    """Self-attention of all cells over features and found words, then a two-layer network; starts as
    identity.

    A single cell shows only how much it looks like a goat. That another looks more like one, or that the rest
    of the same object does, decides which is the goat of this photo.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(2 * dim)
        self.ask = nn.Linear(2 * dim, 3 * dim)
        self.tell = nn.Linear(dim, dim)
        self.between = nn.LayerNorm(2 * dim)
        self.think = nn.Sequential(nn.Linear(2 * dim, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim))
        # ask = qkv projection, tell = output projection, think = feed-forward, in the names of stored weights
        for last in (self.tell, self.think[-1]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(
        self, found: Float[Tensor, "b cells dim"], queries: Float[Tensor, "b cells dim"]
    ) -> Float[Tensor, "b cells dim"]:
        # Normalised together: the length of `found` relative to `queries` shows how well the best word fits.
        qkv = self.ask(self.before(torch.cat([found, queries], dim=-1)))
        split = rearrange(qkv, "b n (three heads d) -> three b heads n d", three=3, heads=self.heads)
        attended = scaled_dot_product_attention(*split)
        found = found + self.tell(rearrange(attended, "b heads n d -> b n (heads d)"))
        return found + self.think(self.between(torch.cat([found, queries], dim=-1)))


class TextGrounding(nn.Module):
    """Cross-attention from the cells of the photo to the words of the prompt, and a classifier."""

    def __init__(self, config: TextGroundingConfig) -> None:
        super().__init__()
        self.config = config
        self.question = nn.Sequential(
            nn.Linear(config.feature_dim, config.dim), nn.SiLU(), nn.Linear(config.dim, config.dim)
        )
        # The zero key that is added to the words can be attended to as well: the prompt names few cells.
        self.attention = nn.MultiheadAttention(
            config.dim,
            config.heads,
            kdim=config.text_dim,
            vdim=config.text_dim,
            batch_first=True,
            add_zero_attn=True,
        )
        self.comparisons = nn.ModuleList(
            SelfAttentionBlock(config.dim, config.heads) for _ in range(config.self_attention_blocks)
        )
        self.answer = nn.Sequential(
            nn.Linear(config.dim, config.dim), nn.SiLU(), nn.Linear(config.dim, config.channels)
        )

    def forward(
        self, features: Float[Tensor, "b feature_dim rows columns"], text: Float[Tensor, "b length text_dim"]
    ) -> Float[Tensor, "b channels rows columns"]:
        """Probabilities of the classes, group after group, on the grid of the features.

        The generator learns quickly from probabilities: given the 16 hidden channels before the classifier
        instead, it did not yet use them after 800 steps.
        """
        inverse_temperature = self.config.inverse_temperature
        return torch.cat(
            [(inverse_temperature * group).softmax(1) for group in self.groups(features, text)], dim=1
        )

    def groups(
        self, features: Float[Tensor, "b feature_dim rows columns"], text: Float[Tensor, "b length text_dim"]
    ) -> tuple[Float[Tensor, "b _ rows columns"], ...]:
        """Logits of each group of classes; all-zero vectors of `text` are padding."""
        dtype = self.question[0].weight.dtype
        queries = self.question(rearrange(features, "b c h w -> b (h w) c").to(dtype))  # [b, cells, dim]
        text = text.to(dtype)
        # Text encoders pad with zero vectors.
        padding = (text == 0).all(-1)
        found, _ = self.attention(queries, text, text, key_padding_mask=padding, need_weights=False)
        for block in self.comparisons:
            found = block(found, queries)
        logits = rearrange(self.answer(found), "b (h w) c -> b c h w", h=features.shape[-2])
        return logits.float().split(self.config.classes, dim=1)


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
        self.wan.check_channels(names, channels)


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

    def forward(self, noisy: Latents, sigma: Float[Tensor, "b"], conditions: STraGConditions) -> Latents:
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
            reach=conditions.reach,
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

    def _grounding_latents(self, conditions: STraGConditions, noisy: Tensor) -> list[Tensor]:
        if self.reader is None:
            return []
        # Nearest: probabilities of a cell are not mixed with those of its neighbours.
        size = noisy.shape[-2:]
        probs = conditions.grounding_probs  # the ground truth, under teacher forcing in training
        probs = self.ground_text(conditions) if probs is None else probs
        # [b, channels, rows, columns] -> the latent grid, the same for every latent frame
        placed = interpolate(probs, size, mode="nearest-exact")
        if conditions.focus is not None:
            placed = focused(placed, conditions.focus, self.reader.config.classes)
        scaled = GROUNDING_SCALE * placed.to(noisy.dtype)
        return [scaled[:, :, None].expand(-1, -1, noisy.shape[2], -1, -1)]

    def _motion_tokens(self, features: Tensor | None, noisy: Tensor) -> Tensor | None:
        if features is None:
            return None
        if self.motion_adapter is None:
            raise ValueError("motion features were given to a network without motion perception")
        # The token grid: latents divided by the patch size.
        _, rows, columns = self.config.wan.patch_size
        return self.motion_adapter(features, (noisy.shape[-2] // rows, noisy.shape[-1] // columns))


def moving_probability(probs: Float[Tensor, "b channels h w"]) -> Float[Tensor, "b h w"]:
    """Of each cell, that the prompt lets it move: that it is neither scenery nor a thing that stays."""
    return 1 - probs[:, 0] - probs[:, STILL_CLASS]


def focused(
    probs: Float[Tensor, "b channels h w"], focus: Float[Tensor, "b 1 h w"], classes: tuple[int, ...]
) -> Float[Tensor, "b channels h w"]:
    """Grounding probabilities where it is known what moves: scenery outside of it, and no scenery inside.

    Args:
        focus: 1 where something moves, 0 where nothing does; `UNDECIDED` leaves the answer of the head.

    Where the head saw nothing but scenery all are zero, which training shows for words without a class.
    """
    groups = []
    for group in probs.split(classes, dim=1):
        # Class 0 of each group is scenery.
        moving = torch.cat([torch.zeros_like(group[:, :1]), group[:, 1:]], 1)
        share = moving.sum(1, keepdim=True)
        inside = torch.where(share > LEAST_MOVING, moving / share.clamp(min=LEAST_MOVING), 0)
        scenery = torch.zeros_like(group)
        scenery[:, 0] = 1
        known = torch.where(focus > 0.5, inside, scenery)
        groups.append(torch.where(focus == UNDECIDED, group, known))
    return torch.cat(groups, 1)


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


def with_more_blocks(head: TextGrounding, config: TextGroundingConfig) -> TextGrounding:
    """A head of configuration `config`, which may have more self-attention blocks, with the logits of `head`.

    Raises:
        ConfigError: the two differ in more than these and the temperature, or `config` has fewer blocks.
    """
    had = head.config
    if replace(
        config, self_attention_blocks=had.self_attention_blocks, inverse_temperature=had.inverse_temperature
    ) != had or (config.self_attention_blocks < had.self_attention_blocks):
        raise ConfigError(f"options.text_grounding is {config}, but the head to start from is {head.config}")
    grown = TextGrounding(config)
    grown.load_state_dict(grown.state_dict() | head.state_dict())
    return grown
