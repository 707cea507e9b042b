"""Prompts read as clauses (which thing, its colour, what it does, where to), and written as captions say it.

The bundled weights read sentences of a small grammar: "the brown dog runs to the left and the ball rolls".
What people write is read here by a thesaurus, phrase by phrase, and written again in that grammar:

    "A CHOCOLATE LABRADOR trotted leftwards through the park!"
     colour    thing     motion  direction place            ->  "the brown dog walks to the left on the grass"

A prompt in nothing but words of captions reaches the networks as it is.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from more4d.language.thesaurus import (
    COLOUR,
    DIRECTION,
    KIND,
    MOTION,
    OTHER,
    PLACE,
    POSITION,
    THING,
    Sense,
    Thesaurus,
    read_sections,
)

STILL, MOVES, GOES, FLOATS = "stays still", "moves", "goes", "floats"
WALKS, DRIVES, REVERSES = "walks", "drives", "reverses"
ALL_STILL = "nothing moves"
ENDS = ",.;:!?"
SIZES = ("big", "small")
GENERAL = (MOVES, GOES)
"""Motions that say little: "comes running" runs."""
ON_FOOT = (WALKS, "runs")
TRAVELS = (*GENERAL, *ON_FOOT, DRIVES, REVERSES, "flies", "rolls")
BEFORE_THING = (POSITION, PLACE, COLOUR, THING, KIND, OTHER, DIRECTION, MOTION)
AFTER_THING = (MOTION, POSITION, DIRECTION, PLACE, COLOUR, THING, KIND, OTHER)
AFTER_MOTION = (DIRECTION, PLACE, POSITION, MOTION)
"""Which of its meanings a phrase has, by what was said before it: "a rose moves", "the moon rose"."""


@dataclass(frozen=True, kw_only=True)
class Clause:
    """What a prompt says of one thing.

    Attributes:
        nouns: what it is, in the words of captions; several where only a kind is said; none if unknown.
        motion: as captions say it.
        where: among several of its kind: "left", "big" and the like.
        many: whether more than one such thing is meant.
        unknown: words that say what it is and are not known.
    """

    nouns: tuple[str, ...] = ()
    colour: str | None = None
    motion: str = MOVES
    direction: str | None = None
    place: str | None = None
    where: tuple[str, ...] = ()
    many: bool = False
    unknown: tuple[str, ...] = ()


@dataclass
class _Draft:
    """A clause while it is read.

    Attributes:
        early: a motion before the thing: "a running dog".
        named: whether the thing was said, known or not.
        pronoun: whether "it" or the like stands for the thing.
        aside: a thing after a preposition: "near the tree".
        aside_colour: of that thing: "near the brown chair".
        everything: whether it speaks of all the rest.
    """

    nouns: tuple[str, ...] = ()
    colour: str | None = None
    motion: str | None = None
    early: str | None = None
    direction: str | None = None
    place: str | None = None
    where: list[str] = field(default_factory=list)
    named: bool = False
    many: bool = False
    pronoun: bool = False
    aside: tuple[str, ...] = ()
    aside_colour: str | None = None
    everything: bool = False
    unknown: list[str] = field(default_factory=list)


def is_of_captions(prompt: str, thesaurus: Thesaurus) -> bool:
    """Whether every word is one that the weights were trained on."""
    return set(re.findall(r"[^\W\d_]+", prompt.lower())) <= thesaurus.vocabulary


def read(prompt: str, thesaurus: Thesaurus) -> list[Clause]:
    """The clauses of a prompt, without those that speak of all the rest; none of "nothing moves"."""
    tokens = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?|[,.;:!?]", prompt.lower().replace("’", "'"))
    words: list[str] = []
    for token in tokens:
        owner = token.removesuffix("'s")
        # "The goat's head", but not "Rubik's cube".
        known = owner != token and (
            thesaurus.senses([owner]) or owner in read_sections()["words"]["pronouns"]
        )
        words += [*thesaurus.spelt(owner).split(), "'s"] if known else thesaurus.spelt(token).split()
    return list(_completed(_Reading(words, thesaurus).drafts()))


class _Reading:
    """One pass over the words of a prompt.

    Attributes:
        preposition: that was said last, until its thing is.
        article: "the" or "a", until its noun is said.
        tinted: whether the colour was said after that preposition.
        owned: whether the word before is a possessive: "the goat's ...".
    """

    def __init__(self, words: Sequence[str], thesaurus: Thesaurus) -> None:
        self.words, self.thesaurus = words, thesaurus
        self.lists = read_sections()["words"]
        self._begin()

    def _begin(self) -> None:
        self.draft, self.preposition, self.article = _Draft(), "", ""
        self.negated = self.owned = self.tinted = False

    def drafts(self) -> Iterator[_Draft]:
        """What is said of each thing, in the order of the prompt."""
        place = 0
        while place < len(self.words):
            length = self._phrase(place)
            if length:
                place += length
                continue
            word = self.words[place]
            place += 1
            if word in ENDS or word in self.lists["joints"]:
                yield self.draft
                self._begin()
            elif word in self.lists["kinds of pictures"] and not self.draft.named:
                # "A slow video of a dog": what went before is of the picture.
                self._begin()
                while place < len(self.words) and self.words[place] in self.lists["of pictures"]:
                    place += 1
            elif word in self.lists["groups"] and self.words[place : place + 1] == ["of"]:
                self.draft.many = True
                place += 1
            else:
                self._single(word)
        yield self.draft

    def _single(self, word: str) -> None:
        """A word that has no meaning of its own."""
        lists, draft = self.lists, self.draft
        self.owned = word == "'s" and draft.named
        if word in lists["articles"]:
            self.article = word
        elif word not in lists["adverbs"] and not word.endswith("ly"):
            self.article = ""
        draft.pronoun |= word in lists["pronouns"]
        if word == "'s":
            return
        if word in ("not", "never"):
            self.negated = True
        elif word in lists["many"]:
            draft.many |= not draft.named
        elif word in lists["everything"]:
            draft.everything |= not draft.named
        elif word in lists["prepositions"]:
            self.preposition, self.tinted = word, False
        elif not (
            word in self.thesaurus.vocabulary
            or word.endswith("ly")
            or any(word in lists[name] for name in ("determiners", "auxiliaries", "adverbs", "left out"))
            or draft.named
            or draft.motion
        ):
            draft.unknown.append(word)

    def _phrase(self, place: int) -> int:
        """Take the longest phrase with a meaning that begins here; how many words it has, 0 if none has."""
        for length in range(min(self.thesaurus.longest, len(self.words) - place), 0, -1):
            phrase = self.words[place : place + length]
            senses = self.thesaurus.senses(phrase) if phrase[0] not in self.lists["auxiliaries"] else ()
            chosen = self._sense(senses, place, length)
            if chosen:
                self._take(chosen, " ".join(phrase))
                return length
        return 0

    def _sense(self, senses: Iterable[Sense], place: int, length: int) -> Sense | None:
        draft, by_role = self.draft, {sense.role: sense for sense in senses}
        before = self.words[place - 1] if place else ""
        # "The steam rises", "the dog near the fly jumps", but "the dog out for a walk".
        aside = self.preposition and self.article == "the"
        noun_due = self.article and not draft.motion and (not draft.named or aside)
        order = (
            AFTER_MOTION if draft.motion else AFTER_THING if draft.named and not noun_due else BEFORE_THING
        )
        leading = (*self.lists["determiners"], *self.lists["many"])
        beginning = not before or before in ENDS or before in self.lists["joints"]
        for role in order:
            if role not in by_role:
                continue
            # "The front wheel", "a little boy": an adjective stands before what it belongs to.
            adjective = role == POSITION and length == 1
            if adjective and (draft.named or not (by_role[role].means[0] in SIZES or before in leading)):
                continue
            # "Left" and "off" alone are directions only after what they belong to, or at the very beginning.
            if role == DIRECTION and length == 1 and order is BEFORE_THING and not beginning:
                continue
            if role == MOTION and length == 1 and not self.words[place].endswith(("ing", "ed", "en")):
                if noun_due:  # a verb after an article is a noun
                    return Sense(OTHER, ())
                # "The goat's head", "the dog near the tree": no verbs.
                if self.owned or self.words[place] in self.lists["prepositions"]:
                    continue
            return by_role[role]
        return None

    def _take(self, sense: Sense, phrase: str) -> None:
        draft, means = self.draft, (sense.means or (phrase,))[0]
        self.owned = False
        if sense.role not in (COLOUR, POSITION):  # "the white steam"
            self.article = ""
        if sense.role in (THING, KIND, OTHER):
            if self.preposition:  # "near the tree a dog runs", "the lid of the teapot opens"
                draft.aside = draft.aside or sense.means
                if self.tinted and not (self.preposition == "in" and sense.role == OTHER):
                    # "Near the brown chair"; but "the man in the red shirt" is in red.
                    draft.colour, draft.aside_colour = None, draft.colour
                self.preposition, self.tinted = "", False
            else:
                # Of "horse cart" the cart is meant.
                draft.nouns, draft.unknown, draft.named = sense.means, [] if sense.means else [phrase], True
                draft.many |= sense.many
        elif sense.role == MOTION:
            means = STILL if self.negated else means
            if not (draft.named or draft.pronoun) and (
                phrase.split()[0].endswith("ing") or not draft.unknown
            ):
                draft.early = draft.early or means  # "a running dog", "the slow rolling ball"
            elif draft.motion is None or draft.motion in GENERAL:
                draft.motion = means
        elif sense.role == DIRECTION:
            draft.direction = draft.direction or means
            self.preposition = ""
        elif sense.role == PLACE:
            draft.place = draft.place or means
        elif sense.role == COLOUR:
            self.tinted = self.tinted or (bool(self.preposition) and draft.colour is None)
            draft.colour = draft.colour or means
        else:
            draft.where.append(means)


def _completed(drafts: Iterable[_Draft]) -> Iterator[Clause]:
    """Clauses from drafts: what one leaves out another says."""
    found: list[_Draft] = []
    place = None
    drafts = list(drafts)
    for draft, following in pairwise(drafts):
        alone = draft.direction and not (draft.named or draft.unknown or draft.motion)
        if alone and following.named and not following.direction:
            # "And upward, a balloon floats": a direction before the thing.
            following.direction, draft.direction = draft.direction, None
    for draft in drafts:
        last = found[-1] if found else None
        draft.motion = draft.motion or draft.early
        if not draft.named and (draft.motion or draft.direction) and draft.unknown:
            # "The lid of the teapot": at least the right place.
            draft.nouns, draft.colour = draft.aside, draft.colour or draft.aside_colour
        place = place or draft.place
        if draft.everything:
            continue
        if draft.nouns or last is None or (draft.unknown and draft.motion):
            # "Running fast, the dog ...": a beginning without a thing belongs to what follows.
            # "It jumps and the cat stays still" is of two things.
            apart = last and last.pronoun and last.motion and draft.motion
            if last and not last.nouns and not last.unknown and not apart:
                draft.motion = draft.motion or last.motion
                draft.direction = draft.direction or last.direction
                found.pop()
            if draft.nouns or draft.unknown or draft.motion or draft.direction:
                found.append(draft)
        else:  # "and jumps", "very fast": more about the same thing
            last.motion = last.motion or draft.motion
            last.direction = last.direction or draft.direction
    for index, draft in enumerate(found):
        # "The dog and the cat run": the first does what the next does.
        following = next((each for each in found[index + 1 :] if each.motion), None)
        if draft.motion is None and draft.direction is None and following:
            draft.motion, draft.direction = following.motion, following.direction
        motion, direction = draft.motion or MOVES, draft.direction
        if motion.startswith("moves "):  # "climbs": moves up
            motion, direction = MOVES, direction or motion.removeprefix("moves ")
        nothing_named = not draft.nouns and not draft.unknown
        if nothing_named and motion == STILL:
            continue
        yield Clause(
            nouns=draft.nouns,
            colour=draft.colour,
            motion=motion,
            direction=None if motion == STILL else direction,
            place=place if index == 0 else None,
            where=tuple(draft.where),
            many=draft.many,
            unknown=tuple(draft.unknown),
        )


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
    motion = _suited(motion, clause.direction, noun, thesaurus)
    if clause.colour and thesaurus.is_in("person", noun):
        noun = f"{noun} in {clause.colour}"
    elif clause.colour:
        noun = f"{clause.colour} {noun}"
    return " ".join(filter(None, ("the", noun, motion, clause.direction)))


def _suited(motion: str, direction: str | None, noun: str, thesaurus: Thesaurus) -> str:
    """The motion in the words that captions have for such a thing: cars do not run, and dogs do not drive.

    For words that captions do not use of a thing the text grounding finds it half as surely (docs/log.md).
    """
    level = direction not in ("up", "down", None)
    suited = motion
    if motion in TRAVELS and thesaurus.is_in("floater", noun):
        suited = FLOATS
    elif motion in TRAVELS and thesaurus.is_in("thing", noun):
        suited = MOVES
    elif thesaurus.is_in("vehicle", noun):
        suited = DRIVES if motion in ON_FOOT or (motion in GENERAL and level) else motion
    elif motion in (DRIVES, REVERSES):
        suited = GOES
    if suited in GENERAL and level and thesaurus.is_in("walker", noun):
        suited = WALKS
    return suited if set(suited.split()) <= thesaurus.vocabulary else motion
