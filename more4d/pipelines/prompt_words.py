"""What a prompt means in the words that the weights were trained on; and of a photo, which thing it means.

Presets without `objects` are trained on words of all kinds: their prompts reach the networks as they are. For
the bundled weights a prompt is read as clauses (`language.clauses`):

* In words of captions it reaches the networks unchanged, letter by letter.
* Otherwise it is written anew in the captions' grammar, and the run says what was understood.
* Of a kind ("the animal", "she") that noun is taken which the text grounding finds best in the photo.
* A thing without a name among captions is what stands out (`pipelines.unknown_words`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from more4d.language.clauses import is_of_captions, read
from more4d.language.inflection import plural
from more4d.language.thesaurus import STILL, Clause, Thesaurus, with_noun, words_of, write
from more4d.pipelines.preset import Preset

SOMETHING = "what stands out"
SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Understood:
    """A prompt as it is understood, before anything was seen.

    Attributes:
        prompt: what the user wrote.
        thesaurus: of the weights; None for weights that know words of all kinds.
        clauses: what moves and how; none of "nothing moves", or without a thesaurus.
        unchanged: whether the prompt is in words of captions and needs nothing more.
    """

    prompt: str
    thesaurus: Thesaurus | None = None
    clauses: tuple[Clause, ...] = ()
    unchanged: bool = True

    @property
    def open(self) -> int | None:
        """The first clause whose noun is to be found in the photo."""
        return next((place for place, each in enumerate(self.clauses) if len(each.nouns) != 1), None)

    @property
    def still(self) -> bool:
        """Whether it is understood and lets nothing move: "nothing moves", "the dog stays still"."""
        return self.thesaurus is not None and not moving(self.clauses)

    @property
    def is_foreign(self) -> bool:
        """Whether it is in another language than English."""
        return self.thesaurus is not None and self.thesaurus.is_foreign(self.prompt)

    @property
    def text(self) -> str | None:
        """In words of captions; None while a noun is missing."""
        return self.said if self.open is None else None

    @property
    def said(self) -> str:
        """The same, with "what stands out", or a kind's first nouns, in place of a noun that is missing."""
        if self.unchanged or self.thesaurus is None:
            return self.prompt
        shown = [with_noun(each, _name(each.nouns)) for each in self.clauses]
        return write(shown, self.thesaurus).replace(f"the {SOMETHING}", SOMETHING)

    @property
    def explained(self) -> str:
        """`said` in quotes, and which words of the prompt its nouns stand for."""
        pairs = [(each.called or SOMETHING, noun) for each in self.clauses for noun in each.nouns]
        renamed = [f"'{called}' as '{noun}'" for called, noun in pairs if called not in (noun, plural(noun))]
        nearest = f" ({', '.join(renamed)}, the nearest that the weights know)" if renamed else ""
        return f"'{self.said}'{nearest}"

    def with_noun(self, place: int, noun: str) -> "Understood":
        """The same with a noun for one of the clauses."""
        clauses = list(self.clauses)
        clauses[place] = with_noun(clauses[place], noun)
        return replace(self, clauses=tuple(clauses), unchanged=False)


def _name(nouns: Sequence[str]) -> str:
    if len(nouns) > SHOWN:
        return f"{' or '.join(nouns[:SHOWN])} or another"
    return " or ".join(nouns) or SOMETHING


def understand(prompt: str, preset: Preset) -> Understood:
    """Read a prompt; no network is needed."""
    if not preset.objects:
        return Understood(prompt=prompt)
    thesaurus = _thesaurus(preset.vocabulary, tuple(preset.objects))
    # Of another language "die" is no die: what stands out moves.
    clauses = [Clause()] if thesaurus.is_foreign(prompt) else read(prompt, thesaurus)
    if not words_of(prompt):
        clauses = [Clause()]  # a mask alone: something in it moves
    # An unknown thing beside known ones cannot be located in the photo: it is left out. But where those stay
    # still, as in "it flies up and the sheep stays still", it is all that moves.
    known, moved = [clause for clause in clauses if clause.nouns], moving(clauses)
    alone = moved[:1] if not moving(known) else []
    clauses = [clause for clause in clauses if clause.nouns or clause in alone] or clauses[:1]
    # "The left dog" has words of captions only, but no caption has "left" there.
    complete = all(len(each.nouns) == 1 and not (each.where or each.apart) for each in clauses)
    unchanged = complete and is_of_captions(prompt, thesaurus)
    return Understood(prompt=prompt, thesaurus=thesaurus, clauses=tuple(clauses), unchanged=unchanged)


def moving(clauses: Sequence[Clause]) -> list[Clause]:
    """Those that let something move."""
    return [clause for clause in clauses if clause.motion != STILL]


@lru_cache(maxsize=4)
def _thesaurus(vocabulary: str, objects: tuple[str, ...]) -> Thesaurus:
    return Thesaurus(vocabulary, objects)
