"""What a prompt says of the camera: "the camera pans left", "..., slow orbit", "seen from above".

Words for motion are shared by things and cameras: a plane flies in, a ball orbits. So a phrase counts only
where it can mean nothing else:

    the subject      "the camera pans left", "while the camera is zooming out and rises", "camera: dolly in"
    a noun of it     "with a slow camera orbit", "tracking shot to the left"
    a clause alone   "the goat runs, pan left": a word of film-makers (`_ALONE`), between commas
    a point of view  "seen from above", "..., from below"

What is found is cut out of the prompt, so that it moves nothing in the scene.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from more4d.pipelines.camera_spec import CameraSpec, parse_cameras

if TYPE_CHECKING:
    from more4d.geometry.camera import CameraPath

_log = logging.getLogger(__name__)

_IN, _OUT = "dolly-in", "dolly-out"
_TRAVEL = {
    **dict.fromkeys(("in", "forward", "closer"), _IN),
    **dict.fromkeys(("out", "back", "away"), _OUT),
    **{
        "left": "truck-left",
        "right": "truck-right",
        "up": "crane-up",
        "down": "crane-down",
        "around": "orbit",
    },
}
_TURN = {"left": "turn-left", "right": "turn-right", "up": "look-up", "down": "look-down"}
_ROUND = {"left": "surrounding", "right": "anti-surrounding", "around": "orbit", "": "orbit"}
_VERBS: dict[str, dict[str, str]] = {
    "pan": {**_TURN, "": "camera_rotate"},
    **{key: {**_TURN, "around": "camera_rotate"} for key in ("turn", "look", "rotate", "swivel")},
    "tilt": {"up": "look-up", "down": "look-down"},
    **dict.fromkeys(("orbit", "circle", "arc", "revolve"), _ROUND),
    "zoom": {"in": "zoom-in", "out": "zoom-out", "closer": "zoom-in", "back": "zoom-out"},
    **dict.fromkeys(("dolly", "fly", "move", "travel", "glide", "float", "drift", "slide"), _TRAVEL),
    **dict.fromkeys(("track", "truck", "crane", "swing", "push", "pull"), _TRAVEL),
    **{"approach": {"": _IN}, "back": {"": _OUT, "away": _OUT, "out": _OUT}},
    **{key: {"": "crane-up", "up": "crane-up"} for key in ("rise", "ascend")},
    **{key: {"": "crane-down", "down": "crane-down"} for key in ("sink", "descend")},
}
"""What film-makers' verbs mean in each direction; "" is without one."""
_ALONE = {"pan", "tilt", "orbit", "zoom", "dolly", "crane", "fly", "push", "pull"}
"""Verbs that mean the camera where it is not named, as a noun or an order: "fly in", but not "flying in"."""
_PLACES = {
    **dict.fromkeys(("above", "overhead", "the top", "high up"), "crane-up"),
    **dict.fromkeys(("below", "beneath", "underneath"), "crane-down"),
    **{"the left": "surrounding", "the right": "anti-surrounding"},
}
_VIEWS = {r"bird'?s[- ]eye|top[- ]down|overhead|high[- ]angle": "crane-up", r"low[- ]angle": "crane-down"}
_SLOW = r"slow(?:ly)?|gentl[ey]|slight(?:ly)?|subtle|subtly|a little|a bit"
_ROUNDS = r"(?:360|full|complete)(?:\s*°|[\s-]degrees?)?"
_HOW = (
    rf"(?:(?:{_SLOW}|smooth(?:ly)?|quick(?:ly)?|fast|stead(?:y|ily)|soft(?:ly)?|very|really|{_ROUNDS}"
    r"|then|a|an|the)\s+)*"
)
_WHERE = (
    r"(?:(?:to|towards?)\s+(?:the\s+)?)?"
    r"(left|right|up|down|in|out|forward|back|away|closer|around)(?:wards?|s)?\b(?:\s+side\b)?"
)
_WORD = r"(?!(?:and|while|as|when|then|but)\b)[\w'-]+"
_OF = r"\s+(?:round|about|on|at|of|from|towards?|to|over|past|across|into)|(?<=around)"
_TAIL = rf"(?:(?:{_OF})(?:\s+{_WORD}){{1,5}})?"
_JOIN = r"(?:\b(?:while|as|and|then|when|but)\s+)*"
_BEGIN = rf"(?:^|(?<=[,;.:!])\s*|(?=\b(?:while|as|and|then|when)\s)){_JOIN}"
_END = r"(?=\s*(?:$|[,;.:!\0]|\b(?:and|while|as|when|then|but)\b))"
_STILL = r"(?:still|fixed|static|stationary|motionless|unmoving|steady|locked(?:[\s-](?:off|down))?)"
_FRYING = re.compile(
    r"(?:with\s+)?(?:(?:an?|the)\s+)?pan(?:\s+(?:on|of|at|from)\b.*)?|the orbit of\b.*", re.IGNORECASE
)
"""Things that are called as what cameras do: "a pan on the stove", "the orbit of the moon"."""
_IT = re.compile(r"^(?:it|he|she|they|(its|his|their))\b", re.IGNORECASE)


def _forms(verb: str, *, kinds: str) -> str:
    """A verb as a pattern: `b` as it stands, `s` with an s, `i` with -ing."""
    stem = verb.removesuffix("e")
    double = verb + verb[-1] if verb in ("pan", "travel", "swivel") else stem
    plural = verb[:-1] + "ies" if re.search(r"[^aeiou]y$", verb) else f"{verb}(?:e?s)"
    # pan, pans, panning; dolly, dollies, dollying; revolve, revolves, revolving
    listed = {"b": verb, "s": plural, "i": f"(?:{double}|{stem})ing"}
    return "|".join(listed[kind] for kind in kinds)


def _motion(verbs: "set[str] | dict[str, dict[str, str]]", kinds: str, group: str) -> str:
    named = "|".join(_forms(verb, kinds=kinds) for verb in sorted(verbs, key=len, reverse=True))
    how = rf"(?:\s+(?:{_SLOW}|smoothly|quickly|steadily))?"
    return rf"{_HOW}(?P<{group}>(?:{named})\b{how}(?:[\s-]+{_WHERE})?){how}{_TAIL}"


def _patterns() -> list[re.Pattern[str]]:
    device = r"(?:the\s+|a\s+|our\s+)?camera"
    subject = rf"{device}\s+"
    stays, kinds = "stays|remains|is|stands|holds", "|".join(_forms(verb, kinds="bi") for verb in _VERBS)
    order = _HOW.replace("|the)", ")")  # "the dog and the camera move" speaks of things
    more = rf"(?:(?:\s*,)?\s+(?:and\s+|then\s+)+{_motion(_VERBS, 'si', 'more')})?"
    seen, places = r"(?:seen|viewed|filmed|shot|shown|photographed)", "|".join(_PLACES)
    shot = r"(?:\s+(?:shot|move(?:ment)?|motion|view))"
    return [
        re.compile(each, re.IGNORECASE)
        for each in (
            # "while the camera is slowly panning left and rises"
            rf"{_BEGIN}{subject}(?:is\s+)?{_motion(_VERBS, 'si', 'a')}{more}{_END}",
            # "the camera stays still"
            rf"{_BEGIN}{subject}(?P<still>does not move|(?:{stays})\s+{_STILL}){_END}",
            # also "static camera", "fixed shot", "camera still" and "no camera movement"
            rf"(?:{_BEGIN}(?:with\s+)?|\s+with\s+)(?:an?\s+|the\s+)?(?P<fixed>{_STILL}\s+camera{shot}?){_END}",
            rf"{_BEGIN}(?:with\s+)?(?:an?\s+)?(?P<held>{_STILL}{shot}){_END}",
            rf"(?:{_BEGIN}(?:with\s+)?|\s+with\s+){device}(?:\s*[:=]\s*|\s+)(?P<kept>{_STILL}{shot}?){_END}",
            rf"(?:{_BEGIN}|\s+)(?:with\s+)?(?P<none>(?:no|without)\s+(?:any\s+)?camera{shot}s?){_END}",
            # as in "with the camera panning left" and in "a camera pan to the left"
            rf"{_BEGIN}(?:with\s+)?{_HOW}camera(?:\s*[:=]\s*|\s+){_motion(_VERBS, 'i', 'b')}{shot}?{_END}",
            rf"{_BEGIN}(?:with\s+)?{order}camera(?:\s*[:=]\s*|\s+){_motion(_VERBS, 'b', 'g')}{shot}?{_END}",
            rf"\s+with\s+{_HOW}camera\s+{_motion(_VERBS, 'bi', 'c')}{shot}?{_END}",
            # "the dog runs with a slow zoom in"
            rf"\s+with\s+{_motion(_ALONE, 'b', 'h')}{_END}",
            # "tracking shot to the left", "slow orbit shot"
            rf"{_BEGIN}(?:with\s+)?{_HOW}(?P<d>(?:{kinds}){shot}(?:\s+{_WHERE})?){_TAIL}{_END}",
            # "..., slow orbit", "pan left, ..."
            rf"{_BEGIN}(?:with\s+)?{_motion(_ALONE, 'b', 'e')}{_END}",
            rf"{_BEGIN}{_motion({'pan', 'zoom', 'dolly'}, 'i', 'f')}{_END}",
            # "seen from above", "..., from above", "bird's eye view"
            rf"(?:\s|^|(?<=,))(?:as\s+)?{seen}\s+from\s+(?P<place>{places})\b",
            rf"(?:^|(?<=[,;.])\s*)(?:view\s+)?from\s+(?P<at>{places}){_END}",
            rf"(?:^|(?<=[,;.])\s*){_HOW}(?P<view>{'|'.join(_VIEWS)})(?:\s+(?:view|shot|angle))?{_END}",
        )
    ]


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """What a prompt says.

    Attributes:
        prompt: of what happens, without the camera.
        cameras: as `--camera` takes them, in the order in which they are said.
        phrases: the words that said them.
    """

    prompt: str
    cameras: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()


_PATTERNS = _patterns()


def spoken_cameras(prompt: str) -> Spoken:
    """Take what is said of the camera out of a prompt.

    >>> spoken_cameras("the goat runs to the left, slow orbit")
    Spoken(prompt='the goat runs to the left', cameras=('orbit:0.5',), phrases=('slow orbit',))
    """
    found: list[tuple[int, str, str]] = []
    rest = " ".join(prompt.replace("\u2019", "'").split())
    for pattern in _PATTERNS:
        # From the end, so that places before it stay those of the prompt.
        for match in reversed(list(pattern.finditer(rest))):
            meant = [_meant(key, text) for key, text in match.groupdict().items() if text]
            names = [name for name in meant if name]
            phrase = re.sub(rf"^{_JOIN}", "", match.group().strip(" ,;.:"))
            # "Pan" alone is also what eggs are fried in.
            bare = phrase.lower() in _VERBS and phrase.lower() != "orbit"
            if not names or bare or _FRYING.fullmatch(phrase):
                continue
            slow = ":0.5" if re.search(rf"\b(?:{_SLOW})\b", phrase, re.IGNORECASE) else ""
            found += [(match.start(), name if name == "static" else name + slow, phrase) for name in names]
            # As long as what was there, so that later patterns find places of the same prompt.
            rest = rest[: match.start()] + "\0" * (match.end() - match.start()) + rest[match.end() :]
    if not found:
        return Spoken(prompt=prompt)
    found.sort(key=lambda each: each[0])
    return Spoken(
        prompt=_with_thing(_tidy(rest), [phrase for _, _, phrase in found]),
        cameras=tuple(dict.fromkeys(name for _, name, _ in found)),
        phrases=tuple(dict.fromkeys(phrase for _, _, phrase in found)),
    )


def _meant(key: str, text: str) -> str | None:
    """The camera path that a matched group means."""
    text = text.lower()
    if key in ("still", "fixed", "held", "kept", "none"):
        return "static"
    if key in ("place", "at"):
        return _PLACES[text]
    if key == "view":
        return next(name for pattern, name in _VIEWS.items() if re.fullmatch(pattern, text))
    # the verb comes first, the direction after it
    where = re.search(rf"[\s-]{_WHERE}", text)
    longest = sorted(_VERBS, key=len, reverse=True)
    verb = next(verb for verb in longest if re.match(_forms(verb, kinds="isb"), text))
    return _VERBS[verb].get(where.group(1) if where else "")


def _with_thing(prompt: str, phrases: list[str]) -> str:
    """With the thing that was cut away in place of a leading "it": "orbit around the dog while it runs"."""
    no_thing = rf"(?:its|his|her|their|{'|'.join(_PLACES)})\b|(?:the\s+)?{_WHERE}"
    for phrase in phrases:
        named = re.fullmatch(rf".*(?:{_OF})\s+(?!{no_thing})(?P<thing>.+)", phrase, re.IGNORECASE)
        it = _IT.match(prompt)
        if named and it:
            return named["thing"] + ("'s" if it.group(1) else "") + prompt[it.end() :]
    return prompt


def _tidy(text: str) -> str:
    """A prompt with holes in it, without what joined the parts."""
    # where a phrase was, commas and conjunctions meet
    text = re.sub("\0+", " ", text)
    text = re.sub(r"\s*([,;.:!])(?:\s*[,;.:!])+", r"\1", " ".join(text.split()))
    text = re.sub(r"^[\s,;.:!]*(?:(?:and|while|as|then|when|but)\s+)?", "", text)
    return re.sub(r"(?:\s+(?:and|while|as|then|when|but))?[\s,;:]*$", "", re.sub(r"\s+([,;.])", r"\1", text))


def steered(
    prompt: str, cameras: "Mapping[str, CameraSpec | CameraPath]"
) -> "tuple[str, Mapping[str, CameraSpec | CameraPath]]":
    """The prompt without what it says of the camera, and the cameras with that in place of each `auto`."""
    # the prompt speaks before any chooser looks at the scene
    spoken = spoken_cameras(prompt)
    if not spoken.cameras:
        return prompt, cameras
    # a camera that was named wins; what was left to a chooser is said here
    kept = {name: each for name, each in cameras.items() if not getattr(each, "choose", 0)}
    options = next((each.options for name, each in cameras.items() if name not in kept), None)
    if options is not None:
        said = [each.with_options(options) for each in parse_cameras(spoken.cameras)]
        kept |= {each.name: each for each in said}
    _log.warning(
        "the prompt says '%s' of the camera: %s; what moves is '%s'",
        "', '".join(spoken.phrases),
        f"filmed by {', '.join(spoken.cameras)}" if options is not None else "the cameras that are named win",
        spoken.prompt,
    )
    return spoken.prompt, kept
