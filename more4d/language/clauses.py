"""Prompts read as clauses (which thing, its colour, what it does, where to), and written as captions say it.

The bundled weights read sentences of a small grammar: "the brown dog runs to the left and the ball rolls".
What people write is read here by a thesaurus, phrase by phrase, and written again in that grammar:

    "A CHOCOLATE LABRADOR trotted leftwards through the park!"
     colour    thing     motion  direction place            ->  "the brown dog walks to the left on the grass"

A prompt in nothing but words of captions reaches the networks as it is.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from more4d.language.thesaurus import (
    COLOUR,
    DIRECTION,
    GENERAL,
    KIND,
    MOTION,
    MOVES,
    OTHER,
    PLACE,
    POSITION,
    STILL,
    THING,
    Clause,
    Sense,
    Thesaurus,
    read_sections,
    turned,
)

ENDS = ",.;:!?"
SIZES = ("big", "small")
OF_PARTS = ("nods", "waves a hand")
"""Motions of a part: "turns its head to the left" goes nowhere."""
OBJECT = "object"
"""In place of a preposition, before what a thing acts on."""
RELATIVES = ("who", "which", "that")
BEFORE_THING = (POSITION, PLACE, COLOUR, THING, KIND, OTHER, DIRECTION, MOTION)
AFTER_THING = (MOTION, POSITION, DIRECTION, PLACE, COLOUR, THING, KIND, OTHER)
AFTER_MOTION = (DIRECTION, PLACE, POSITION, MOTION)
"""Which of its meanings a phrase has, by what was said before it: "a rose moves", "the moon rose"."""


@dataclass
class _Draft:
    """A clause while it is read.

    Attributes:
        early: a motion before the thing: "a running dog".
        named: whether the thing was said, known or not.
        pronoun: whether "it" or the like stands for the thing.
        aside: a thing after a preposition: "near the tree".
        aside_colour: of that thing: "near the brown chair".
        everything: the word by which it speaks of all the rest.
        object: what the thing acts on: "kicks the ball".
        exception: whether it is one to what is said beside it: "... except the goat".
        apart: as of `Clause`.
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
    object: str = ""
    everything: str = ""
    exception: bool = False
    unknown: list[str] = field(default_factory=list)
    called: str | None = None
    apart: bool = False


def is_of_captions(prompt: str, thesaurus: Thesaurus) -> bool:
    """Whether every word is one that the weights were trained on, and in a sense that they know."""
    known = set(re.findall(r"[^\W\d_]+", prompt.lower())) <= thesaurus.vocabulary
    return known and turned(prompt) == prompt.lower()


def read(prompt: str, thesaurus: Thesaurus) -> list[Clause]:
    """The clauses of a prompt, without those that let all the rest be still; none of "nothing moves"."""
    words = thesaurus.tokens(turned(prompt))
    return list(_completed(_excepted(list(_Reading(words, thesaurus).drafts()))))


class _Reading:
    """One pass over the words of a prompt.

    Attributes:
        preposition: that was said last, until its thing is.
        article: "the" or "a", until its noun is said.
        tinted: whether the colour was said after that preposition.
        owned: whether the word before is a possessive: "the goat's ...".
        denied: the motion that was denied.
        auxiliary: whether "is" or the like was said of the thing.
        relative: whether what is said may only say which thing is meant: "the dog that sits there ...".
    """

    def __init__(self, words: Sequence[str], thesaurus: Thesaurus) -> None:
        self.words, self.thesaurus = words, thesaurus
        self.lists = read_sections()["words"]
        self.bounds = {*ENDS, *self.lists["joints"], "except", ""}
        self._begin()

    def _begin(self) -> None:
        self.draft, self.preposition, self.article = _Draft(), "", ""
        self.negated = self.owned = self.tinted = self.auxiliary = self.relative = False
        self.denied = ""

    def _word(self, place: int) -> str:
        return self.words[place] if 0 <= place < len(self.words) else ""

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
            following = self._word(place)
            if self.draft.exception and word in self.lists["everything"]:
                yield self.draft
                self._begin()
            if self._is_aside(word, following, self._word(place - 2)):
                self.draft.apart = self.relative = self.relative or word in RELATIVES
            elif word == "except" or (word == "but" and self.draft.everything):
                yield self.draft
                self._begin()
                self.draft.exception = True
            elif word == "but" and self.denied and following not in self.lists["determiners"]:
                # "Does not run but walks", "does not roll to the left but to the right".
                self.draft.motion, self.draft.early, self.draft.direction = None, self.denied, None
                self.denied = ""
            elif word == "still" and self.auxiliary and following in self.bounds and not self.draft.motion:
                self._take(Sense(MOTION, (STILL,)), word)  # "the dog is still"
            elif word in self.bounds:
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

    def _is_aside(self, word: str, following: str, before: str) -> bool:
        """Whether a word begins, or a comma bounds, what is said of a thing before its verb."""
        draft, verb = self.draft, self.thesaurus.is_verb(following)
        if not draft.named or (draft.motion and not self.relative):
            return False
        if word in RELATIVES:
            return before not in self.lists["prepositions"]
        # "The cow, which stands there, moves", "the cow, standing there, moves"
        again = (self.relative or draft.exception) and (verb or following in self.lists["auxiliaries"])
        return word == "," and (again or following in RELATIVES or (verb and following.endswith("ing")))

    def _single(self, word: str) -> None:
        """A word that has no meaning of its own."""
        lists, draft = self.lists, self.draft
        self.owned = word == "'s" and draft.named
        self.auxiliary |= word in lists["auxiliaries"]
        if word in lists["articles"]:
            self.article = word
            if draft.named and not draft.motion and not self.preposition:
                self.preposition, self.tinted = OBJECT, False  # "the boy kicking a ball"
        elif word not in lists["adverbs"] and not word.endswith("ly"):
            self.article = ""
        draft.pronoun |= word in lists["pronouns"]
        if word == "'s":
            return
        self.negated |= word in lists["negations"]
        if word in lists["negations"] and word not in lists["everything"]:
            return
        if word in lists["many"]:
            draft.many |= not draft.named
        elif word in lists["everything"]:
            draft.everything = draft.everything or ("" if draft.named else word)
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
            if self._is_side(phrase, self._word(place + length)):
                self.draft.where.append(phrase[-1])
                return length
            senses = self.thesaurus.senses(phrase) if phrase[0] not in self.lists["auxiliaries"] else ()
            chosen = self._sense(senses, place, length)
            if chosen:
                self._take(chosen, " ".join(phrase))
                return length
        return 0

    def _is_side(self, phrase: Sequence[str], following: str) -> bool:
        """Whether a phrase says beside what a thing is: "the dog to the left of the tree jumps"."""
        is_place = phrase[-1] in ("left", "right") and following == "of" and not self.draft.motion
        return is_place and set(phrase) <= {"to", "on", "at", "the", phrase[-1]}

    def _sense(self, senses: Iterable[Sense], place: int, length: int) -> Sense | None:
        draft, by_role = self.draft, {sense.role: sense for sense in senses}
        before, after = self._word(place - 1), self._word(place + length)
        # "The steam rises", "the dog near the fly jumps", but "the dog out for a walk".
        aside = self.preposition and self.article == "the"
        noun_due = self.article and not draft.motion and (not draft.named or aside)
        order = (
            AFTER_MOTION if draft.motion else AFTER_THING if draft.named and not noun_due else BEFORE_THING
        )
        leading = (*self.lists["determiners"], *self.lists["many"])
        # "... and moves closer"
        beginning = before in self.bounds or (draft.early and not before.endswith("ing"))
        for role in order:
            if role not in by_role:
                continue
            # "The front wheel", "a little boy": an adjective stands before what it belongs to.
            adjective = role == POSITION and length == 1
            if adjective and (draft.named or not (by_role[role].means[0] in SIZES or before in leading)):
                continue
            if role == DIRECTION and self.words[place] == "off" and after in self.lists["articles"]:
                continue  # "off the table"
            # "Left" and "off" alone are directions only after what they belong to, or at the very beginning.
            if role == DIRECTION and length == 1 and order is BEFORE_THING and not beginning:
                continue
            if role == MOTION and length == 1 and not self.words[place].endswith(("ing", "ed", "en")):
                acts = self.thesaurus.is_verb(after) and after.endswith("s")
                # A verb after an article is a noun, or before another: "steam rises".
                if noun_due or (acts and not (draft.named or draft.motion)):
                    return None if self.words[place] in self.lists["everything"] else Sense(OTHER, ())
                if self.relative and (self.article or before in self.lists["prepositions"]):
                    continue  # "standing on the rock", "walking past rocks"
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
                draft.object = draft.object or (phrase if self.preposition == OBJECT else "")
                draft.aside = draft.aside or sense.means
                if self.tinted and not (self.preposition == "in" and sense.role == OTHER):
                    # "Near the brown chair"; but "the man in the red shirt" is in red.
                    draft.colour, draft.aside_colour = None, draft.colour
                self.preposition, self.tinted = "", False
            else:
                # Of "horse cart" the cart is meant.
                draft.nouns, draft.unknown, draft.named = sense.means, [] if sense.means else [phrase], True
                draft.called, self.auxiliary = phrase, False
                draft.exception, self.negated = draft.exception or self.negated, False  # "..., not the cat"
                draft.many |= sense.many
        elif sense.role == MOTION:
            if self.negated:  # "never stops walking" walks
                self.denied, self.negated = means, False
                means = MOVES if means == STILL else STILL
            first = phrase.split()[0]
            main = bool(self.relative and draft.motion) and not first.endswith("ing")
            if not (draft.named or draft.pronoun) and (first.endswith("ing") or not draft.unknown):
                draft.early = draft.early or means  # "a running dog", "the slow rolling ball"
            elif draft.motion is None or draft.motion in GENERAL or main:
                if main:  # "the dog sitting there runs"
                    draft.direction, draft.apart, self.relative = None, True, False
                elif first.endswith(("ing", "ed", "en")) and not self.auxiliary:
                    self.relative = True
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


def _excepted(drafts: list[_Draft]) -> list[_Draft]:
    """Each exception with the opposite of what is said of all: "nothing moves except the goat"."""
    for index, draft in enumerate(drafts):
        near = [*reversed(drafts[:index]), *drafts[index + 1 :]] if draft.exception else []
        whole = next((each for each in near if each.everything or each.named), None)
        if whole is None:
            continue
        whole.motion = whole.motion or whole.early
        said = whole.motion or draft.motion
        opposite = MOVES if said == STILL else STILL
        if whole.motion is None and whole.everything != "nothing":  # "everything except the goat moves"
            whole.motion, whole.direction = said, draft.direction
            draft.motion, draft.direction = opposite, None
        draft.motion = draft.motion or opposite
    return drafts


def _settle(draft: _Draft) -> None:
    """What moves and where to, of one clause by itself."""
    if draft.object and draft.direction and not draft.motion:  # "kicks the ball to the left"
        draft.nouns, draft.colour, draft.called = draft.aside, draft.aside_colour, draft.object
        draft.unknown = [] if draft.aside else [draft.object]
    draft.motion = draft.motion or draft.early
    if draft.motion in OF_PARTS and draft.direction:
        draft.direction, draft.apart = None, True
    if not draft.named and (draft.motion or draft.direction) and draft.unknown:
        # "The lid of the teapot": at least the right place.
        draft.nouns, draft.colour = draft.aside, draft.colour or draft.aside_colour


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
        _settle(draft)
        place = place or draft.place
        if draft.everything == "everything" and draft.motion not in (None, STILL):
            draft.unknown = [draft.everything]
        elif draft.everything:
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
            called=draft.called or next(iter(draft.unknown), None),
            apart=draft.apart or draft.exception,
        )
