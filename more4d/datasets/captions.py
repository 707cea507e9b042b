"""Captions of procedural scenes with the facts they state: what a text encoder is trained on before
anything is drawn.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Dataset

from more4d.foundation.seeding import numpy_generator
from more4d.scenes.library import sample_scene

DIRECTIONS = ("none", "left", "right", "up", "down", "toward", "away")
SURVEY = 1500
"""Scenes whose words make up the vocabulary of answers."""


@dataclass(frozen=True, kw_only=True)
class QuestionBatch:
    """A caption, a noun, and what the caption's scene says that thing does.

    Attributes:
        captions: one per question.
        noun: class of the noun asked about.
        verb: class of its verb; the last class means 'no such thing here'.
        direction: index into DIRECTIONS, or one beyond for 'no such thing here'.
    """

    captions: tuple[str, ...]
    noun: Int[Tensor, "b"]
    verb: Int[Tensor, "b"]
    direction: Int[Tensor, "b"]

    def to(self, device: str | torch.device) -> "QuestionBatch":
        return replace(
            self,
            noun=self.noun.to(device),
            verb=self.verb.to(device),
            direction=self.direction.to(device),
        )

    @classmethod
    def collate(cls, questions: list["QuestionBatch"]) -> "QuestionBatch":
        joined = {
            name: torch.cat([getattr(q, name) for q in questions]) for name in ("noun", "verb", "direction")
        }
        return cls(captions=tuple(text for q in questions for text in q.captions), **joined)


class CaptionQuestions(Dataset):
    """One question per scene; a quarter of them about something that is not there."""

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        surveyed = [action for index in range(SURVEY) for action in sample_scene(index).actions]
        self.nouns = sorted({action.noun for action in surveyed})
        self.verbs = sorted({action.verb for action in surveyed})

    def __getitem__(self, index: int) -> QuestionBatch:
        draw = numpy_generator("question", self._seed, index)
        scene = sample_scene(int(draw.integers(1_000_000)), motion_seed=int(draw.integers(2**31)))
        actions = [a for a in scene.actions if a.noun in self.nouns and a.verb in self.verbs]
        if not actions or draw.random() < 0.25:
            present = {action.noun for action in scene.actions}
            noun = next(n for n in draw.permutation(self.nouns) if n not in present)
            verb, direction = len(self.verbs), len(DIRECTIONS)
        else:
            # Two things of one name may do different things: ask only about the first of a name.
            action = actions[int(draw.integers(len(actions)))]
            action = next(a for a in actions if a.noun == action.noun)
            noun, verb = action.noun, self.verbs.index(action.verb)
            direction = DIRECTIONS.index(action.direction or "none")
        return QuestionBatch(
            captions=(scene.caption,),
            noun=torch.tensor([self.nouns.index(noun)]),
            verb=torch.tensor([verb]),
            direction=torch.tensor([direction]),
        )
