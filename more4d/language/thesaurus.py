"""The thesaurus: what people say, and what it is called in captions (`thesaurus.txt`)."""

import difflib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
STILL, ALL_STILL = "stays still", "nothing moves"
MOVES, GOES, FLOATS, WALKS, DRIVES, REVERSES = "moves", "goes", "floats", "walks", "drives", "reverses"
GENERAL = (MOVES, GOES)
"""Motions that say little: "comes running" runs."""
ON_FOOT = (WALKS, "runs")
TRAVELS = (*GENERAL, *ON_FOOT, DRIVES, REVERSES, "flies", "rolls")
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


@dataclass(frozen=True, kw_only=True)
class Clause:
    """What a prompt says of one thing.

    Attributes:
        nouns: what it is, in the words of captions; several where only a kind is said; none if unknown.
        motion: as captions say it.
        where: among several of its kind: "left", "big" and the like.
        many: whether more than one such thing is meant.
        unknown: words that say what it is and are not known.
        called: what the prompt calls it.
        apart: whether a clause of its own says which is meant, which no caption has: "that sits there".
    """

    nouns: tuple[str, ...] = ()
    colour: str | None = None
    motion: str = MOVES
    direction: str | None = None
    place: str | None = None
    where: tuple[str, ...] = ()
    many: bool = False
    unknown: tuple[str, ...] = ()
    called: str | None = None
    apart: bool = False


def words_of(prompt: str) -> list[str]:
    """The words of a prompt, in lower case; "hot-air" is two of them."""
    return re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", prompt.lower().replace("’", "'"))


def turned(prompt: str) -> str:
    """A prompt in lower case, with turns of phrase in plain words: "runs right up to us" runs to us."""
    prompt = prompt.lower().replace("’", "'")
    for plain, patterns in read_sections()["turns"].items():
        for pattern in patterns:
            prompt = re.sub(rf"\b(?:{pattern})\b", plain, prompt)
    return prompt


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
        known = sum(word in self._known and word not in self._sections["words"]["foreign"] for word in words)
        return (len(words) > 1 or not prompt.isascii()) and known < LEAST_ENGLISH * len(words)

    def suited(self, motion: str, direction: str | None, noun: str) -> str:
        """The motion in the words that captions have for such a thing: cars do not run.

        For other words the text grounding finds the thing half as surely (docs/log.md).
        """
        level = direction not in ("up", "down", None)
        suited = motion
        if motion in TRAVELS and self.is_in("floater", noun):
            suited = FLOATS
        elif motion in TRAVELS and self.is_in("thing", noun):
            suited = MOVES
        elif self.is_in("vehicle", noun):
            suited = DRIVES if motion in ON_FOOT or (motion in GENERAL and level) else motion
        elif motion in (DRIVES, REVERSES):
            suited = GOES
        if suited in GENERAL and level and self.is_in("walker", noun):
            suited = WALKS
        return suited if set(suited.split()) <= self.vocabulary else motion

    def is_verb(self, word: str) -> bool:
        """Whether a word can be a motion."""
        return any(sense.role == MOTION for sense in self.senses([word]))

    def tokens(self, prompt: str) -> list[str]:
        """The words of a prompt and what ends its clauses, spelt; a possessive "'s" stands for itself."""
        words: list[str] = []
        for token in re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?|[,.;:!?]", prompt):
            owner = token.removesuffix("'s")
            # "The goat's head", but not "Rubik's cube".
            known = owner != token and (self.senses([owner]) or owner in self._sections["words"]["pronouns"])
            words += [*self.spelt(owner).split(), "'s"] if known else self.spelt(token).split()
        return words

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


def write(clauses: Sequence[Clause], thesaurus: Thesaurus) -> str:
    """The clauses in one sentence of the captions' grammar, each with the first of its nouns.

    Raises:
        ValueError: a clause has no noun.
    """
    if not clauses:
        return ALL_STILL
    place = next((clause.place for clause in clauses if clause.place), None)
    sentence = " and ".join(_sentence(clause, thesaurus) for clause in clauses)
    return f"{sentence} {place}" if place else sentence


def with_noun(clause: Clause, noun: str) -> Clause:
    """The clause about a thing of this name."""
    return replace(clause, nouns=(noun,))


def _sentence(clause: Clause, thesaurus: Thesaurus) -> str:
    if not clause.nouns:
        raise ValueError("a clause of an unknown thing has no sentence; choose a noun first")
    noun, motion = clause.nouns[0], clause.motion
    motion = thesaurus.suited(motion, clause.direction, noun)
    if clause.colour and thesaurus.is_in("person", noun):
        noun = f"{noun} in {clause.colour}"
    elif clause.colour:
        noun = f"{clause.colour} {noun}"
    return " ".join(filter(None, ("the", noun, motion, clause.direction)))


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
