"""Train the tiny preset's text encoder, before and apart from the networks that listen to it.

It must answer questions about a caption - what does the truck do, and whither? - by attending to its
vectors, which is how a transformer's image tokens will read them.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from more4d.datasets.captions import DIRECTIONS, CaptionQuestions, QuestionBatch
from more4d.networks.conditioners import TextEncoderConfig, UMT5TextEncoder
from more4d.training.task import Task
from more4d.weights.state import save_network


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """Options of the task.

    Attributes:
        heads: of the attention that asks.
        captions_at_once: captions encoded together, of similar length; a batch is cut into such parts.
    """

    network: TextEncoderConfig
    seed: int = 0
    heads: int = 4
    captions_at_once: int = 32


class TextTask(Task):
    """Answer by attention: a noun asks, the caption's vectors answer with verb and direction."""

    options_type = TextOptions

    def __init__(self, options: TextOptions) -> None:
        super().__init__()
        self.options = options
        self.text_encoder = UMT5TextEncoder(options.network)
        self.questions = CaptionQuestions(seed=options.seed)
        dim = options.network.dim
        self.noun = nn.Embedding(len(self.questions.nouns), dim)
        self.attention = nn.MultiheadAttention(dim, options.heads, batch_first=True)
        self.verb = nn.Linear(dim, len(self.questions.verbs) + 1)
        self.direction = nn.Linear(dim, len(DIRECTIONS) + 1)

    def dataset(self) -> CaptionQuestions:
        return self.questions

    def forward(self, batch: QuestionBatch, generator: torch.Generator) -> dict[str, Tensor]:
        parts = [self._answer(part) for part in batch.by_length(self.options.captions_at_once)]
        verb, direction = (torch.cat([part[index] for part in parts]) for index in range(2))
        right_verb, right_direction = (torch.cat([part[index] for part in parts]) for index in (2, 3))
        present = right_direction < len(DIRECTIONS)
        return {
            "loss": cross_entropy(verb, right_verb) + cross_entropy(direction, right_direction),
            "verb_right": (verb.argmax(1) == right_verb)[present].float().mean(),
            "direction_right": (direction.argmax(1) == right_direction)[present].float().mean(),
        }

    def _answer(self, batch: QuestionBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits of verbs and directions [q, classes], and the true classes [q]."""
        text = self.text_encoder.encode_text(list(batch.captions))
        longest = int((text.detach().abs().sum(-1) > 0).sum(1).max())
        text = text[batch.caption, :longest]
        padding = text.abs().sum(-1) == 0
        answer, _ = self.attention(self.noun(batch.noun)[:, None], text, text, key_padding_mask=padding)
        verb, direction = self.verb(answer[:, 0]).float(), self.direction(answer[:, 0]).float()
        return verb, direction, batch.verb, batch.direction

    def export(self, folder: Path, notes: dict[str, str]) -> list[Path]:
        path = folder / "text_encoder.safetensors"
        save_network(
            path,
            self.text_encoder,
            architecture="umt5-text-encoder",
            config=self.options.network,
            notes=notes,
            dtype=torch.float16,
        )
        return [path]
