"""What a prompt means in the words that the weights were trained on; and of a photo, which thing it means.

Presets without `objects` are trained on words of all kinds: their prompts reach the networks as they are. For
the bundled weights a prompt is read as clauses (`language.clauses`):

* In words of captions it reaches the networks unchanged, letter by letter.
* Otherwise it is written anew in the captions' grammar, and the run says what was understood.
* Of a kind ("the animal", "she") that noun is taken which the text grounding finds best in the photo.
* A thing without a name among captions is what stands out (`pipelines.unknown_words`).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from more4d.language.clauses import STILL, Clause, is_of_captions, read, with_noun, write
from more4d.language.thesaurus import Thesaurus, words_of
from more4d.pipelines.preset import Preset

SOMETHING = "what stands out"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Understood:
    """A prompt as it is understood, before anything was seen.

    Attributes:
        prompt: what the user wrote.
        text: in words of captions, equal to `prompt` where that is; None while a noun is missing.
        clauses: what moves and how; empty for presets that know all words, and for "nothing moves".
    """

    prompt: str
    text: str | None
    clauses: tuple[Clause, ...] = ()

    @property
    def open(self) -> int | None:
        """The clause whose noun is to be found in the photo."""
        found = (index for index, clause in enumerate(self.clauses) if len(clause.nouns) != 1)
        return next(found, None)

    def said(self, preset: Preset) -> str:
        """In one line, for people: with "what stands out" or the kind where the noun is not known yet."""
        if self.text is not None:
            return self.text
        shown = [
            clause if len(clause.nouns) == 1 else with_noun(clause, _one_of(clause))
            for clause in self.clauses
        ]
        return write(shown, thesaurus_of(preset)).replace(f"the {SOMETHING}", SOMETHING)


def _one_of(clause: Clause) -> str:
    return (
        SOMETHING
        if not clause.nouns
        else f"{' or '.join(clause.nouns[:2])}{' ...' * (len(clause.nouns) > 2)}"
    )


def understand(prompt: str, preset: Preset) -> Understood:
    """Read a prompt; no network is needed."""
    if not preset.objects:
        return Understood(prompt=prompt, text=prompt)
    thesaurus = thesaurus_of(preset)
    clauses = read(prompt, thesaurus)
    if not words_of(prompt):
        clauses = [Clause()]  # a mask alone: something in it moves
    # What is not known beside things that are cannot be told apart from them: it is left out.
    named = [clause for clause in clauses if clause.nouns]
    clauses = named or clauses[:1]
    whole = all(len(clause.nouns) == 1 for clause in clauses)
    as_it_is = whole and is_of_captions(prompt, thesaurus) and not any(clause.where for clause in clauses)
    text = prompt if as_it_is else write(clauses, thesaurus) if whole else None
    return Understood(prompt=prompt, text=text, clauses=tuple(clauses))


def moving(clauses: Sequence[Clause]) -> list[Clause]:
    """Those that let something move."""
    return [clause for clause in clauses if clause.motion != STILL]


def thesaurus_of(preset: Preset) -> Thesaurus:
    """The thesaurus for the words that a preset's weights know."""
    return _thesaurus(preset.vocabulary, tuple(preset.objects))


@lru_cache(maxsize=4)
def _thesaurus(vocabulary: str, objects: tuple[str, ...]) -> Thesaurus:
    return Thesaurus(vocabulary, objects)
