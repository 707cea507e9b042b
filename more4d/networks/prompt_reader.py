"""What the prompt says of each thing in the photo, looked up before anything is generated.

A transformer of a few layers that learns from a few thousand clips cuts things out long before it finds out
that the caption means one of them: to tell, it must at once know what it sees, find the word for it, and read
what is said there. Asked for these steps one by one, a single attention learns them in minutes; the generator
is given its answers.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from more4d.foundation.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class PromptReaderConfig:
    """Sizes of the reader.

    Attributes:
        feature_dim: channels of the photo's features.
        text_dim: size of the text encoder's vectors.
        dim: size of a question.
        heads: of the attention.
        classes: sizes of the groups of answers of which one is right: as trained, the verbs and the ways of
            `datasets.kinds`, each after "scenery".
    """

    feature_dim: int = 96
    text_dim: int = 128
    dim: int = 128
    heads: int = 4
    classes: tuple[int, ...] = (20, 8)

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise ConfigError(f"dim {self.dim} must be a multiple of heads {self.heads}")

    @property
    def channels(self) -> int:
        """Of the answers."""
        return sum(self.classes)


class PromptReader(nn.Module):
    """Every cell of the photo asks the prompt about itself."""

    def __init__(self, config: PromptReaderConfig) -> None:
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
        return torch.cat([group.softmax(1) for group in self.groups(features, text)], dim=1)

    def groups(
        self, features: Float[Tensor, "b feature_dim rows columns"], text: Float[Tensor, "b length text_dim"]
    ) -> tuple[Float[Tensor, "b _ rows columns"], ...]:
        """Logits of each group of answers; all-zero vectors of `text` are padding."""
        kind = self.question[0].weight.dtype
        asked = self.question(rearrange(features, "b c h w -> b (h w) c").to(kind))
        text = text.to(kind)
        padding = (text == 0).all(-1)
        read, _ = self.attention(asked, text, text, key_padding_mask=padding, need_weights=False)
        answers = rearrange(self.answer(read), "b (h w) c -> b c h w", h=features.shape[-2])
        return answers.float().split(self.config.classes, dim=1)
