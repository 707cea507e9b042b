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
from more4d.networks.weights import save_network
from more4d.training.task import Task


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """Options of the task."""

    network: TextEncoderConfig
    seed: int = 0
    heads: int = 4


class TextTask(Task):
    """Answer by attention: a noun asks, the caption's vectors answer with verb and direction."""

    name = "text"
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

    @staticmethod
    def collate(samples: list[QuestionBatch]) -> QuestionBatch:
        return QuestionBatch.collate(samples)

    def forward(self, batch: QuestionBatch, generator: torch.Generator) -> dict[str, Tensor]:
        text = self.text_encoder.encode_text(list(batch.captions))
        padding = text.abs().sum(-1) == 0
        answer, _ = self.attention(self.noun(batch.noun)[:, None], text, text, key_padding_mask=padding)
        verb, direction = self.verb(answer[:, 0]).float(), self.direction(answer[:, 0]).float()
        loss = cross_entropy(verb, batch.verb) + cross_entropy(direction, batch.direction)
        return {
            "loss": loss,
            "verb_right": (verb.argmax(1) == batch.verb).float().mean(),
            "direction_right": (direction.argmax(1) == batch.direction).float().mean(),
        }

    def export(self, folder: Path, notes: dict[str, str]) -> list[Path]:
        path = folder / "text_encoder.safetensors"
        save_network(
            path,
            self.text_encoder,
            kind="umt5-text-encoder",
            config=self.options.network,
            notes=notes,
            dtype=torch.float16,
        )
        return [path]
