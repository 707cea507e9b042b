"""The thesaurus: what people say, and what it is called in captions (`thesaurus.txt`)."""

import difflib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from more4d.language.inflection import plural, verb_forms

FILE = Path(__file__).with_name("thesaurus.txt")
THING, KIND, MOTION, DIRECTION, COLOUR, PLACE = (
    "things",
    "kinds",
    "motions",
    "directions",
    "colours",
    "places",
)
POSITION, OTHER = "positions", "others"
LEAST_ALIKE = 0.8
"""Of a misspelt word and the right one: one letter in five is wrong."""
LEAST_ENGLISH = 0.25
"""Share of known words in an English prompt: "the", at least, is one of four."""
SHORTEST = 4
"""Words that are shorter have too many neighbours to be corrected."""


@dataclass(frozen=True)
class Sense:
    """One meaning of a phrase.

    Attributes:
        role: THING, KIND, MOTION, DIRECTION, COLOUR, PLACE, POSITION (which of several is meant), or OTHER, a
            thing that captions have no name for.
        means: what it is called in captions; of a kind, all things that are of it; of others, nothing.
        many: whether it is a plural.
    """

    role: str
    means: tuple[str, ...]
    many: bool = False


def words_of(prompt: str) -> list[str]:
    """The words of a prompt, in lower case; "hot-air" is two of them."""
    return re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", prompt.lower().replace("’", "'"))


class Thesaurus:
    """What phrases mean to weights that know some words.

    Attributes:
        vocabulary: the words that the weights were trained on.
        objects: the things that they know by name.
        longest: words of the longest phrase.
    """

    def __init__(self, vocabulary: str, objects: Sequence[str]) -> None:
        self.vocabulary, self.objects = frozenset(vocabulary.split()), tuple(objects)
        self._sections = read_sections()
        self._senses: dict[str, list[Sense]] = defaultdict(list)
        for role in (THING, KIND, OTHER, MOTION, DIRECTION, COLOUR, PLACE, POSITION):
            for left, right in self._sections[role].items():
                self._add(role, left, right)
        self.longest = max(len(phrase.split()) for phrase in self._senses)

    def _add(self, role: str, left: str, right: tuple[str, ...]) -> None:
        """One line of the file; of kinds the names are on the left, and what is of the kind on the right."""
        if role == KIND:
            members = tuple(noun for noun in right if noun in self.objects)
            for name in re.split(", ", left) if members else ():
                self._put(name, Sense(KIND, members))
                self._put(plural(name), Sense(KIND, members, many=True))
        elif role == THING:
            for name in (left, *right) if left in self.objects else ():
                self._put(name, Sense(THING, (left,)))
                self._put(plural(name), Sense(THING, (left,), many=True))
        elif role == OTHER:
            for name in right:
                self._put(name, Sense(OTHER, ()))
                self._put(plural(name), Sense(OTHER, (), many=True))
        elif role == POSITION or set(words_of(left)) <= self.vocabulary:
            for name in (left, *right):
                for form in verb_forms(name) if role == MOTION and name != left else (name,):
                    self._put(form, Sense(role, (left,)))

    def _put(self, phrase: str, sense: Sense) -> None:
        found = self._senses[" ".join(words_of(phrase))]
        # What a line says first counts: the same phrase may be on several lines.
        if all(sense.role != each.role for each in found):
            found.append(sense)

    def senses(self, words: Sequence[str]) -> tuple[Sense, ...]:
        """All meanings of a phrase."""
        return tuple(self._senses.get(" ".join(words), ()))

    def is_in(self, group: str, noun: str | None) -> bool:
        """Whether a thing is a "vehicle" or a "person"."""
        return noun in self._sections["groups"][group]

    def is_foreign(self, prompt: str) -> bool:
        """Whether a prompt is in another language: of several words, or of other letters, few are known."""
        words = words_of(prompt)
        known = sum(word in self._known for word in words)
        return (len(words) > 1 or not prompt.isascii()) and known < LEAST_ENGLISH * len(words)

    def spelt(self, word: str) -> str:
        """A word in the spelling of this thesaurus; misspelt ones are corrected where one word is nearest."""
        if word in self._known or len(word) < SHORTEST or word in self._sections["words"]["others"]:
            return self._sections["spelling"].get(word, (word,))[0]
        # Few miss the first letter or more than one, and a word that is one already is no misspelling.
        likely = [right for right in self._by_letter[word[0]] if abs(len(right) - len(word)) <= 1]
        near = difflib.get_close_matches(word, likely, n=2, cutoff=LEAST_ALIKE)
        if len(near) == 2 and _similarity(word, near[0]) == _similarity(word, near[1]):
            return word
        return near[0] if near else word

    @cached_property
    def _known(self) -> frozenset[str]:
        phrases = {word for phrase in self._senses for word in phrase.split()}
        return self.vocabulary | phrases | set(self._sections["spelling"])

    @cached_property
    def _by_letter(self) -> dict[str, list[str]]:
        """What a word may be corrected to, by its first letter: words of captions, things and colours."""
        found: dict[str, list[str]] = defaultdict(list)
        single = {
            phrase
            for phrase, senses in self._senses.items()
            if " " not in phrase and any(each.role in (THING, COLOUR) and not each.many for each in senses)
        }
        for word in sorted(self.vocabulary | single):
            if len(word) >= SHORTEST:
                found[word[0]].append(word)
        return found


def _similarity(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, other, one).ratio()


@lru_cache(maxsize=1)
def read_sections() -> dict[str, dict[str, tuple[str, ...]]]:
    """The file: sections of lines "left: right, right"."""
    sections: dict[str, dict[str, tuple[str, ...]]] = {}
    for line in _lines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        else:
            left, _, right = line.partition(": ")
            section[left] = (*section.get(left, ()), *right.split(", "))
    return sections


def _lines() -> Iterator[str]:
    for line in FILE.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.strip()
