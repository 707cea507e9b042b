"""Forms of English words by rule: plurals of nouns; progressive, past and third-person forms of verbs."""

from collections.abc import Iterator

VOWELS = "aeiou"
UNSTRESSED = frozenset(
    "gallop scallop rocket motor billow pedal visit orbit exit edit profit limit rivet wallop develop".split()
)
"""Verbs whose last syllable is not stressed: their last consonant is not doubled."""
IRREGULAR_PLURALS = {
    "man": "men", "woman": "women", "child": "children", "person": "people", "goose": "geese",
    "mouse": "mice", "calf": "calves", "wolf": "wolves", "ox": "oxen", "foot": "feet", "leaf": "leaves",
    "elf": "elves", "thief": "thieves", "scarf": "scarves", "hoof": "hooves", "cactus": "cacti",
    "fungus": "fungi", "housewife": "housewives", "wife": "wives", "dwarf": "dwarves",
}  # fmt: skip
IRREGULAR_PASTS = {
    "run": "ran run", "go": "went gone", "come": "came come", "fly": "flew flown", "drive": "drove driven",
    "ride": "rode ridden", "rise": "rose risen", "fall": "fell fallen", "sink": "sank sunk",
    "swim": "swam swum", "leap": "leapt", "spring": "sprang sprung", "swing": "swung",
    "spin": "spun", "spread": "spread", "bend": "bent", "sit": "sat", "stand": "stood", "lie": "lay lain",
    "sleep": "slept", "eat": "ate eaten", "drink": "drank drunk", "shake": "shook shaken",
    "sing": "sang sung",
    "speak": "spoke spoken", "stride": "strode stridden", "tread": "trod trodden", "creep": "crept",
    "slide": "slid", "speed": "sped", "shoot": "shot", "leave": "left", "withdraw": "withdrew withdrawn",
    "flee": "fled", "take": "took taken", "make": "made", "get": "got", "move": "moved", "wind": "wound",
    "blow": "blew blown", "draw": "drew drawn", "lead": "led", "freeze": "froze frozen", "keep": "kept",
    "steer": "steered", "feed": "fed", "say": "said", "do": "did done", "hold": "held", "put": "put",
    "beat": "beat beaten", "grow": "grew grown", "shrink": "shrank shrunk", "hang": "hung", "be": "was been",
    "lay": "laid", "arise": "arose arisen", "wake": "woke", "catch": "caught", "slink": "slunk",
    "wend": "went",
}  # fmt: skip


def plural(noun: str) -> str:
    """The plural of a noun, of the last of its words: "fir tree" gives "fir trees"."""
    head, _, last = noun.rpartition(" ")
    if last in IRREGULAR_PLURALS:
        last = IRREGULAR_PLURALS[last]
    elif last.endswith(("s", "x", "z", "ch", "sh")):
        last += "es"
    elif last.endswith("y") and last[-2:-1] not in VOWELS:
        last = last[:-1] + "ies"
    elif last.endswith("man"):
        last = last[:-3] + "men"
    else:
        last += "s"
    return f"{head} {last}".strip()


def verb_forms(verb: str) -> Iterator[str]:
    """A verb in all its forms, of the first of its words: "lift off" gives "lifting off"."""
    first, _, rest = verb.partition(" ")
    if first == "not":  # "is not moving"
        yield from (f"not {form}" for form in verb_forms(rest))
        return
    forms = {first, _third_person(first), _with_ending(first, "ing")}
    forms |= set(IRREGULAR_PASTS[first].split()) if first in IRREGULAR_PASTS else {_with_ending(first, "ed")}
    if first == "be":
        forms |= {"is", "are", "were"}
    for form in sorted(forms):
        yield f"{form} {rest}".strip()


def _third_person(verb: str) -> str:
    if verb.endswith(("s", "x", "z", "ch", "sh", "o")):
        return verb + "es"
    if verb.endswith("y") and verb[-2:-1] not in VOWELS:
        return verb[:-1] + "ies"
    return verb + "s"


def _with_ending(verb: str, ending: str) -> str:
    if ending == "ed" and verb.endswith("e"):
        return verb + "d"
    if ending == "ed" and verb.endswith("y") and verb[-2:-1] not in VOWELS:
        return verb[:-1] + "ied"
    if ending == "ing" and verb.endswith("ie"):
        return verb[:-2] + "ying"
    if ending == "ing" and verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) and len(verb) > 2:
        return verb[:-1] + "ing"
    doubled = (
        len(verb) > 2
        and verb[-1] not in VOWELS + "wxy"
        and verb[-2] in VOWELS
        and verb[-3] not in VOWELS
        and not (verb in UNSTRESSED or verb.endswith(("er", "en", "el", "on")))
    )
    return verb + (verb[-1] if doubled else "") + ending
