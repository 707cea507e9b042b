"""Train the condition encoders of the tiny preset's 4D-STraG, before the generator.

Task `tiny-features` trains motion features and the text grounding head on labelled single images, whose step
costs a fiftieth of a clip's. Task `text` trains the text encoder on questions about captions (what does the
truck do, and in which direction?), answered by attention to its vectors, as a transformer's image tokens
attend to them.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, one_hot

from more4d.datasets.labelled_images import (
    BACKGROUND,
    COLOURS,
    DIRECTIONS,
    IGNORE_INDEX,
    NOUNS,
    STILL,
    VERBS,
    LabelledImageBatch,
    LabelledImageOptions,
    LabelledImages,
)
from more4d.datasets.procedural import CaptionQuestions, QuestionBatch
from more4d.foundation.errors import ConfigError
from more4d.networks.conditioners import TextEncoderConfig, UMT5TextEncoder
from more4d.networks.motion_perception import TinyFeatures, TinyFeaturesConfig
from more4d.networks.strag import TextGrounding, TextGroundingConfig, with_more_blocks
from more4d.training import loading
from more4d.training.task import Task, export_half

ARCHITECTURE = "tiny-features"
CLASSES = (len(VERBS) + 1, len(DIRECTIONS) + 1)
STILL_CLASS = VERBS.index(STILL) + 1


@dataclass(frozen=True, kw_only=True)
class TinyFeaturesOptions:
    """Options of the task.

    Attributes:
        text: file of the text encoder, frozen.
        network: sizes of the features.
        text_grounding: sizes of the grounding head, which may have more self-attention blocks than the head
            it starts from. None: that head's sizes, or the defaults.
        start: file of initial features.
        start_text_grounding: file of an initial grounding head, or of a 4D-STraG that has one.
        data: the training images.
    """

    text: loading.NetworkFile
    network: TinyFeaturesConfig = field(default_factory=TinyFeaturesConfig)
    text_grounding: TextGroundingConfig | None = None
    start: loading.NetworkFile | None = None
    start_text_grounding: Path | None = None
    data: LabelledImageOptions = field(default_factory=LabelledImageOptions)
    seed: int = 0


class TinyFeaturesTask(Task):
    """Classify objects per token, and ground the caption's verbs and directions in them."""

    options_type = TinyFeaturesOptions

    def __init__(self, options: TinyFeaturesOptions) -> None:
        super().__init__()
        self.options = options
        self.text_encoder = loading.load_component(options.text, "text").requires_grad_(False).eval()
        named = options.start
        self.features = (
            loading.load_component(named, "motion_features") if named else TinyFeatures(options.network)
        )
        if options.start_text_grounding is None:
            self.reader = TextGrounding(options.text_grounding or TextGroundingConfig())
        else:
            start = loading.open_text_grounding(options.start_text_grounding)
            self.reader = with_more_blocks(start, options.text_grounding or start.config)
        self.hints = WordProbes(self.features.config.dim)
        if self.reader.config.classes != CLASSES:
            raise ConfigError(
                f"options.text_grounding.classes must be {CLASSES}, got {self.reader.config.classes}"
            )

    def dataset(self) -> LabelledImages:
        return LabelledImages(self.options.data, seed=self.options.seed)

    def forward(self, batch: LabelledImageBatch, generator: torch.Generator) -> dict[str, Tensor]:
        captions_per_scene = batch.labels.shape[1]
        with torch.no_grad():
            text = self.text_encoder.encode_text([text for texts in batch.captions for text in texts])
            text = text[:, : int((text.abs().sum(-1) > 0).sum(1).max())]
        features = self.features((batch.image + 1) / 2)
        answers = self.reader.groups(features.repeat_interleave(captions_per_scene, dim=0), text)
        seen = self.hints(features, batch.labels[:, 0])
        read = grounding_losses(*answers, batch.labels.flatten(0, 1))
        return {"loss": sum_losses(seen | read), **seen, **read}

    def export(self, folder: Path, notes: dict[str, str]) -> list[Path]:
        features, reader = folder / "motion_features.safetensors", folder / "prompt_reader.safetensors"
        return [
            export_half(features, self.features, ARCHITECTURE, notes),
            export_half(reader, self.reader, loading.TEXT_GROUNDING_ARCHITECTURE, notes),
        ]


class WordProbes(nn.Module):
    """Linear probes of noun and colour, used in training only."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.words = nn.ModuleList(nn.Conv2d(features, len(words) + 1, 1) for words in (NOUNS, COLOURS))

    def forward(
        self, features: Float[Tensor, "b dim rows columns"], labels: Int[Tensor, "b 4 height width"]
    ) -> dict[str, Tensor]:
        """Losses "noun" and "colour", and the fraction of object tokens with the correct noun."""
        noun, colour = (read_out(features.float()) for read_out in self.words)
        return {
            "noun": label_loss(noun, labels[:, 0]),
            "colour": label_loss(colour, labels[:, 1]),
            "noun_right": _things_right(noun.argmax(1), labels[:, 0]),
        }


def grounding_losses(
    verb: Float[Tensor, "b verbs rows columns"],
    direction: Float[Tensor, "b directions rows columns"],
    labels: Int[Tensor, "b 4 height width"],
) -> dict[str, Tensor]:
    """Losses "verb" and "way", and the fraction of object tokens whose moving/static state is right."""
    predicted, true = verb[:, 1:].argmax(1) + 1 != STILL_CLASS, labels[:, 2] != STILL_CLASS
    moves = torch.where(labels[:, 2] > BACKGROUND, true.long(), IGNORE_INDEX)
    return {
        "verb": label_loss(verb, labels[:, 2]),
        "way": label_loss(direction, labels[:, 3]),
        "moves_right": _things_right(predicted.long(), moves, least=0),
    }


def sum_losses(words: dict[str, Tensor]) -> Tensor:
    """The sum of the losses, without the accuracies."""
    return torch.stack([value for name, value in words.items() if not name.endswith("right")]).sum()


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of a coarse map of word logits against the label at the centre of each token.

    Background, which covers most tokens, weighs as much as all objects together, and an object as the square
    root of its size, because there are more small objects than large ones.
    """
    cells = _cells(labels, logits.shape[-2:])
    losses = cross_entropy(logits, cells, ignore_index=IGNORE_INDEX, reduction="none")
    same_label = one_hot((cells + 1).flatten(1), logits.shape[1] + 1)  # IGNORE_INDEX is -1
    size = same_label.sum(1, keepdim=True).clamp(min=1)
    weight = (same_label / size.sqrt()).sum(-1).view_as(losses)
    parts = (weight * (cells > BACKGROUND), weight * (cells == BACKGROUND))
    return sum((losses * part).sum() / part.sum().clamp(min=1e-6) for part in parts) / 2


def grounding_targets(
    labels: Int[Tensor, "b 4 height width"], size: tuple[int, int]
) -> Float[Tensor, "b channels rows columns"]:
    """One-hot grounding probabilities of the true labels; zero where a verb or direction is unknown."""
    groups = zip(labels[:, 2:].unbind(1), CLASSES, strict=True)
    placed = [one_hot(_cells(kind, size) + 1, count + 1)[..., 1:] for kind, count in groups]
    return rearrange(torch.cat(placed, dim=-1), "b rows columns channels -> b channels rows columns").float()


def _things_right(predicted: Tensor, labels: Tensor, least: int = BACKGROUND + 1) -> Tensor:
    cells = _cells(labels, predicted.shape[-2:])
    things = cells >= least
    return ((predicted == cells) & things).sum() / things.sum().clamp(min=1)


def _cells(labels: Tensor, size: tuple[int, ...]) -> Tensor:
    return interpolate(labels[:, None].float(), size, mode="nearest-exact")[:, 0].long()


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """Options of the task.

    Attributes:
        heads: number of heads of the question attention.
        captions_at_once: captions of similar length encoded together; a batch is split accordingly.
    """

    network: TextEncoderConfig
    seed: int = 0
    heads: int = 4
    captions_at_once: int = 32


class TextTask(Task):
    """A noun asks a caption's vectors, by attention, for its verb and its direction."""

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
        verb, direction, right_verb, right_direction = map(torch.cat, zip(*parts, strict=True))
        present = right_direction < len(DIRECTIONS)
        return {
            "loss": cross_entropy(verb, right_verb) + cross_entropy(direction, right_direction),
            "verb_right": (verb.argmax(1) == right_verb)[present].float().mean(),
            "direction_right": (direction.argmax(1) == right_direction)[present].float().mean(),
        }

    def _answer(self, batch: QuestionBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits of verbs and directions [q, classes], and the target classes [q]."""
        text = self.text_encoder.encode_text(list(batch.captions))
        longest = int((text.detach().abs().sum(-1) > 0).sum(1).max())
        text = text[batch.caption, :longest]
        padding = text.abs().sum(-1) == 0
        answer, _ = self.attention(self.noun(batch.noun)[:, None], text, text, key_padding_mask=padding)
        verb, direction = self.verb(answer[:, 0]).float(), self.direction(answer[:, 0]).float()
        return verb, direction, batch.verb, batch.direction

    def export(self, folder: Path, notes: dict[str, str]) -> list[Path]:
        path = folder / "text_encoder.safetensors"
        return [export_half(path, self.text_encoder, "umt5-text-encoder", notes)]
