"""Text grounding: what the prompt says about each part of the photo, as probabilities for the generator.

A cross-attention head finds, for every cell of the photo's features, the words about it, and classifies what
they say (which action, which direction). A transformer of a few layers that learns from a few thousand clips
segments objects long before it finds out that the caption is about one of them: recognising the object,
finding its word and reading what is said there would have to be learned at once. With these steps supervised
one by one, a single attention learns them in minutes; the generator takes its probabilities as input
channels.

Module names are those of stored weights: question = queries, answer = classifier, comparisons =
self-attention.
"""

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from more4d.foundation.errors import ConfigError


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
