"""Captions of procedural scenes with the facts they state: what a text encoder is trained on before
anything is drawn.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Dataset

from more4d.datasets.batch import Batch
from more4d.datasets.procedural import HELD_OUT_SEED
from more4d.foundation.seeding import derive_seed, numpy_generator
from more4d.scenes.scene_sampling import sample_scene

DIRECTIONS = ("none", "left", "right", "up", "down", "toward", "away")
VOCABULARY_SCENES = 1500
"""Scenes whose words make up the vocabulary of answers."""
WORLDS_IN_USE, CAPTIONS_PER_WORLD = 512, 16
"""Worlds in use at a time, and captions of each: another costs next to nothing."""


@dataclass(frozen=True, kw_only=True)
class QuestionBatch(Batch):
    """Captions, and for each of them nouns with what the caption's scene says that these things do.

    Attributes:
        captions: any number.
        caption: index into `captions`, one per question.
        noun: class of the noun asked about.
        verb: class of its verb; the last class means 'no such thing here'.
        direction: index into DIRECTIONS, or one beyond for 'no such thing here'.
    """

    captions: tuple[str, ...]
    caption: Int[Tensor, " q"]
    noun: Int[Tensor, " q"]
    verb: Int[Tensor, " q"]
    direction: Int[Tensor, " q"]

    @classmethod
    def collate(cls, batches: Sequence["QuestionBatch"]) -> "QuestionBatch":
        starts = [sum(len(b.captions) for b in batches[:index]) for index in range(len(batches))]
        return cls(
            captions=tuple(text for batch in batches for text in batch.captions),
            caption=torch.cat([batch.caption + start for batch, start in zip(batches, starts, strict=True)]),
            noun=torch.cat([batch.noun for batch in batches]),
            verb=torch.cat([batch.verb for batch in batches]),
            direction=torch.cat([batch.direction for batch in batches]),
        )

    def by_length(self, size: int) -> list["QuestionBatch"]:
        """Parts of at most `size` captions each, of similar length, so that little of a part is padding."""
        order = sorted(range(len(self.captions)), key=lambda index: len(self.captions[index].encode()))
        return [self._part(order[start : start + size]) for start in range(0, len(order), size)]

    def _part(self, captions: list[int]) -> "QuestionBatch":
        place = torch.full((len(self.captions),), -1).index_copy(
            0, torch.tensor(captions), torch.arange(len(captions))
        )
        place = place.to(self.caption.device)[self.caption]
        kept = place >= 0
        return QuestionBatch(
            captions=tuple(self.captions[index] for index in captions),
            caption=place[kept],
            noun=self.noun[kept],
            verb=self.verb[kept],
            direction=self.direction[kept],
        )


class CaptionQuestions(Dataset):
    """One caption a sample, with a question for each thing it speaks of and one about a thing it does not.

    Of two things with one name the caption does not say which is meant: nothing is asked about them.
    """

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        actions = [action for index in range(VOCABULARY_SCENES) for action in sample_scene(index).actions]
        self.nouns = sorted({action.noun for action in actions})
        self.verbs = sorted({action.verb for action in actions})

    def __getitem__(self, index: int) -> QuestionBatch:
        rng = numpy_generator("question", self._seed, index)
        block, place = divmod(index, WORLDS_IN_USE * CAPTIONS_PER_WORLD)
        number = block * WORLDS_IN_USE + place % WORLDS_IN_USE
        world = derive_seed("caption world", self._seed, number) % HELD_OUT_SEED
        scene = sample_scene(world, motion_seed=int(rng.integers(2**31)))
        names = Counter(action.noun for action in scene.actions)
        has_motion = any(
            action.verb != "still" for action in scene.actions
        )  # or "nothing moves" is all it says
        asked = [
            (self.nouns.index(a.noun), self.verbs.index(a.verb), DIRECTIONS.index(a.direction or "none"))
            for a in scene.actions
            if has_motion and names[a.noun] == 1 and a.noun in self.nouns and a.verb in self.verbs
        ]
        absent = next(noun for noun in rng.permutation(self.nouns) if noun not in names)
        asked.append((self.nouns.index(absent), len(self.verbs), len(DIRECTIONS)))
        noun, verb, direction = torch.tensor(asked).unbind(1)
        return QuestionBatch(
            captions=(scene.caption,),
            caption=torch.zeros_like(noun),
            noun=noun,
            verb=verb,
            direction=direction,
        )
