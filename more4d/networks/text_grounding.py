"""What the prompt says of each thing in the photo, looked up before anything is generated.

A transformer of a few layers that learns from a few thousand clips cuts things out long before it finds out
that the caption means one of them: to tell, it must at once know what it sees, find the word for it, and read
what is said there. Asked for these steps one by one, a single attention learns them in minutes; the generator
is given its answers.
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
    """Sizes of the reader.

    Attributes:
        feature_dim: channels of the photo's features.
        text_dim: size of the text encoder's vectors.
        dim: size of a question.
        heads: of the attention.
        classes: sizes of the groups of answers of which one is right: as trained, the verbs and the ways of
            `datasets.labels`, each after "scenery".
        self_attention_blocks: how often the cells compare what they have read before they answer.
        inverse_temperature: factor of the logits of the probabilities that a generator is told; 1 as they are
            trained. A thing that is half believed to move goes half of its way, which is never right.
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
        """Of the answers."""
        return sum(self.classes)


class SelfAttentionBlock(nn.Module):
    """All cells of a photo compare what they look like and what they have read; starts as the identity.

    A cell on its own can only say how much it looks like a goat. That another looks more like one, or that
    the rest of the same thing does, is what names the goat of this photo.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(2 * dim)
        self.ask = nn.Linear(2 * dim, 3 * dim)
        self.tell = nn.Linear(dim, dim)
        self.between = nn.LayerNorm(2 * dim)
        self.think = nn.Sequential(nn.Linear(2 * dim, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim))
        for last in (self.tell, self.think[-1]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(
        self, read: Float[Tensor, "b cells dim"], asked: Float[Tensor, "b cells dim"]
    ) -> Float[Tensor, "b cells dim"]:
        # Normalised together: how long `read` is beside `asked` says how well the best word fits.
        both = self.ask(self.before(torch.cat([read, asked], dim=-1)))
        split = rearrange(both, "b n (three heads d) -> three b heads n d", three=3, heads=self.heads)
        told = scaled_dot_product_attention(*split)
        read = read + self.tell(rearrange(told, "b heads n d -> b n (heads d)"))
        return read + self.think(self.between(torch.cat([read, asked], dim=-1)))


class TextGrounding(nn.Module):
    """Every cell of the photo asks the prompt about itself."""

    def __init__(self, config: TextGroundingConfig) -> None:
        super().__init__()
        self.config = config
        self.question = nn.Sequential(
            nn.Linear(config.feature_dim, config.dim), nn.SiLU(), nn.Linear(config.dim, config.dim)
        )
        # The zero that is added beside the words can be attended to as well: of most cells nothing is said.
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
        """Probabilities of the answers, on the grid of the features, and group after group.

        What a generator is told had better be plain: told the 16 numbers in front of these probabilities, it
        had not begun to listen after 800 steps.
        """
        inverse_temperature = self.config.inverse_temperature
        return torch.cat(
            [(inverse_temperature * group).softmax(1) for group in self.groups(features, text)], dim=1
        )

    def groups(
        self, features: Float[Tensor, "b feature_dim rows columns"], text: Float[Tensor, "b length text_dim"]
    ) -> tuple[Float[Tensor, "b _ rows columns"], ...]:
        """Logits of each group of answers; all-zero vectors of `text` are padding."""
        dtype = self.question[0].weight.dtype
        asked = self.question(rearrange(features, "b c h w -> b (h w) c").to(dtype))
        text = text.to(dtype)
        padding = (text == 0).all(-1)
        read, _ = self.attention(asked, text, text, key_padding_mask=padding, need_weights=False)
        for comparison in self.comparisons:
            read = comparison(read, asked)
        answers = rearrange(self.answer(read), "b (h w) c -> b c h w", h=features.shape[-2])
        return answers.float().split(self.config.classes, dim=1)


def with_more_blocks(reader: TextGrounding, config: TextGroundingConfig) -> TextGrounding:
    """A reader of configuration `config`, which may have more comparisons, with the logits of `reader`
    until it is trained.

    Raises:
        ConfigError: the two differ in more than these and how sharp they are, or `config` has fewer.
    """
    had = reader.config
    if replace(
        config, self_attention_blocks=had.self_attention_blocks, inverse_temperature=had.inverse_temperature
    ) != had or (config.self_attention_blocks < had.self_attention_blocks):
        raise ConfigError(f"options.reader is {config}, and the reader to go on from is {reader.config}")
    grown = TextGrounding(config)
    grown.load_state_dict(grown.state_dict() | reader.state_dict())
    return grown
