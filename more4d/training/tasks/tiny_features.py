"""Train what the tiny preset's 4D-STraG is told by: features that name things, and a reader of prompts.

Both learn from single pictures, before and apart from anything that moves: a picture costs a fiftieth of a
clip's step.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, one_hot

from more4d.datasets.kinds import COLOURS, NOTHING, NOUNS, STILL, UNKNOWN, VERBS, WAYS
from more4d.datasets.pictures import PictureBatch, PictureOptions, Pictures
from more4d.foundation.errors import ConfigError
from more4d.networks.prompt_reader import PromptReader, PromptReaderConfig, with_comparisons
from more4d.networks.tiny_features import TinyFeatures, TinyFeaturesConfig
from more4d.networks.weights import save_network
from more4d.training.networks import READER_KIND, NetworkFile, open_named, open_reader
from more4d.training.task import Task

KIND = "tiny-features"
CLASSES = (len(VERBS) + 1, len(WAYS) + 1)
STAYS = VERBS.index(STILL) + 1


@dataclass(frozen=True, kw_only=True)
class TinyFeaturesOptions:
    """Options of the task.

    Attributes:
        text: file of the text encoder, frozen.
        network: sizes of the features.
        reader: sizes of the reader; it may have more comparisons than the one it starts from. None: the
            same sizes, or the usual ones if it starts from none.
        start: file of features to go on from.
        start_reader: file of a reader to go on from, or of a 4D-STraG that has one.
        data: which pictures.
    """

    text: NetworkFile
    network: TinyFeaturesConfig = field(default_factory=TinyFeaturesConfig)
    reader: PromptReaderConfig | None = None
    start: NetworkFile | None = None
    start_reader: Path | None = None
    data: PictureOptions = field(default_factory=PictureOptions)
    seed: int = 0


class TinyFeaturesTask(Task):
    """Name what is seen; say what the caption has it do."""

    options_type = TinyFeaturesOptions

    def __init__(self, options: TinyFeaturesOptions) -> None:
        super().__init__()
        self.options = options
        self.text_encoder = open_named(options.text, "text").requires_grad_(False).eval()
        named = options.start
        self.features = open_named(named, "motion_features") if named else TinyFeatures(options.network)
        self.reader = _reader(options)
        self.hints = WordHints(self.features.config.dim)
        if self.reader.config.classes != CLASSES:
            raise ConfigError(f"options.reader.classes must be {CLASSES}, got {self.reader.config.classes}")

    def dataset(self) -> Pictures:
        return Pictures(self.options.data, seed=self.options.seed)

    def forward(self, batch: PictureBatch, generator: torch.Generator) -> dict[str, Tensor]:
        stories = batch.kinds.shape[1]
        with torch.no_grad():
            text = self.text_encoder.encode_text(list(batch.told()))
            text = text[:, : int((text.abs().sum(-1) > 0).sum(1).max())]
        features = self.features((batch.image + 1) / 2)
        answers = self.reader.groups(features.repeat_interleave(stories, dim=0), text)
        seen = self.hints(features, batch.kinds[:, 0])
        read = read_losses(*answers, batch.kinds.flatten(0, 1))
        return {"loss": total_of(seen | read), **seen, **read}

    def export(self, folder: Path, notes: dict[str, str]) -> list[Path]:
        paths = [folder / "motion_features.safetensors", folder / "prompt_reader.safetensors"]
        half = {"notes": notes, "dtype": torch.float16}
        save_network(paths[0], self.features, kind=KIND, config=self.features.config, **half)
        save_network(paths[1], self.reader, kind=READER_KIND, config=self.reader.config, **half)
        return paths


def _reader(options: TinyFeaturesOptions) -> PromptReader:
    if options.start_reader is None:
        return PromptReader(options.reader or PromptReaderConfig())
    start = open_reader(options.start_reader)
    return with_comparisons(start, options.reader or start.config)


class WordHints(nn.Module):
    """Linear read-outs of noun and colour, of use in training alone."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.words = nn.ModuleList(nn.Conv2d(features, len(words) + 1, 1) for words in (NOUNS, COLOURS))

    def forward(
        self, features: Float[Tensor, "b dim rows columns"], kinds: Int[Tensor, "b 4 height width"]
    ) -> dict[str, Tensor]:
        """Losses "noun" and "colour", and how many cells of things have the right noun."""
        noun, colour = (read_out(features.float()) for read_out in self.words)
        return {
            "noun": kinds_loss(noun, kinds[:, 0]),
            "colour": kinds_loss(colour, kinds[:, 1]),
            "noun_right": _things_right(noun.argmax(1), kinds[:, 0]),
        }


def read_losses(
    verb: Float[Tensor, "b verbs rows columns"],
    way: Float[Tensor, "b ways rows columns"],
    kinds: Int[Tensor, "b 4 height width"],
) -> dict[str, Tensor]:
    """Losses "verb" and "way" of a reader's logits; and of how many cells of things it says rightly whether
    they move.
    """
    said, true = verb[:, 1:].argmax(1) + 1 != STAYS, kinds[:, 2] != STAYS
    moves = torch.where(kinds[:, 2] > NOTHING, true.long(), UNKNOWN)
    return {
        "verb": kinds_loss(verb, kinds[:, 2]),
        "way": kinds_loss(way, kinds[:, 3]),
        "moves_right": _things_right(said.long(), moves, least=0),
    }


def total_of(words: dict[str, Tensor]) -> Tensor:
    """The sum of the losses, without the shares of right cells."""
    return torch.stack([value for name, value in words.items() if not name.endswith("right")]).sum()


def kinds_loss(logits: Tensor, kinds: Tensor) -> Tensor:
    """Cross-entropy of a coarse map of words against what stands in the middle of each cell.

    Scenery, which fills most cells, counts as much as all things together, and a thing as the square root of
    its size: there are more small ones than large ones.
    """
    cells = _cells(kinds, logits.shape[-2:])
    losses = cross_entropy(logits, cells, ignore_index=UNKNOWN, reduction="none")
    alike = one_hot((cells + 1).flatten(1), logits.shape[1] + 1)  # UNKNOWN is -1
    size = alike.sum(1, keepdim=True).clamp(min=1)
    weight = (alike / size.sqrt()).sum(-1).view_as(losses)
    parts = (weight * (cells > NOTHING), weight * (cells == NOTHING))
    return sum((losses * part).sum() / part.sum().clamp(min=1e-6) for part in parts) / 2


def true_answers(
    kinds: Int[Tensor, "b 4 height width"], size: tuple[int, int]
) -> Float[Tensor, "b channels rows columns"]:
    """What a reader that is always right would answer; nothing where the verb or way has no place."""
    groups = zip(kinds[:, 2:].unbind(1), CLASSES, strict=True)
    placed = [one_hot(_cells(kind, size) + 1, count + 1)[..., 1:] for kind, count in groups]
    return rearrange(torch.cat(placed, dim=-1), "b rows columns channels -> b channels rows columns").float()


def _things_right(said: Tensor, kinds: Tensor, least: int = NOTHING + 1) -> Tensor:
    cells = _cells(kinds, said.shape[-2:])
    things = cells >= least
    return ((said == cells) & things).sum() / things.sum().clamp(min=1)


def _cells(kinds: Tensor, size: tuple[int, ...]) -> Tensor:
    return interpolate(kinds[:, None].float(), size, mode="nearest-exact")[:, 0].long()
