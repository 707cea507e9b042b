"""How a camera is written: `[FORMAT=]NAME_OR_FILE[#PART][:MODIFIER...]`. Imports neither torch nor numpy.

orbit:0.5                           a named path, half as strong
path.json:reverse                   a file, from its end to its start
transforms.json:loop:smooth=0.3     there and back, smoothed over 0.3 seconds
garden/sparse/0:level               as if its first frame looked straight ahead: the horizon stays level
re10k=poses.txt:scale=0.5           one unit of the file is half a metre
poses.npy:convention=w2c-opencv     what its matrices mean, which the file does not say
cameras.json#cam03                  one of several cameras in a file
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from more4d.cameras.formats import CONVENTIONS, FORMATS, METRES, SCENE, SUFFIXES
from more4d.foundation.errors import InputError, shown
from more4d.geometry.camera_recipes import MAX_STRENGTH

FIRST, WORLD = "first", "world"
"""Anchors: the first frame is the photo's camera, or the file's world is the photo's camera."""
PHOTO, FILE = "photo", "file"
"""Lenses: the photo's with the file's zoom, or the file's."""
AUTO = "auto"
MOST_SMOOTHING_S = 60.0


@dataclass(frozen=True, kw_only=True)
class CameraOptions:
    """What is asked of a path besides what its file says; the values here change nothing.

    Attributes:
        strength: factor on the extent of the motion, in [0, `MAX_STRENGTH`].
        reverse: from the last frame to the first.
        loop: there and back, at rest at both ends and at the turn.
        level: turned so that its up is the photo's (`cameras.pose_paths.level_poses`).
        smooth: standard deviation of a Gaussian over time, in seconds of the film.
        anchor: "first" or "world"; None: as the format says.
        scale: metres per unit of the file, "metres", "scene" or "auto"; None: as the format says.
        lens: "photo" or "file"; None: as the format says.
        convention: a key of `CONVENTIONS`, for matrices that do not say it.
    """

    strength: float = 1.0
    reverse: bool = False
    loop: bool = False
    level: bool = False
    smooth: float = 0.0
    anchor: str | None = None
    scale: float | str | None = None
    lens: str | None = None
    convention: str | None = None

    @property
    def text(self) -> str:
        """As modifiers of a camera; empty if nothing is asked."""
        return "".join(f":{each}" for each in self._modifiers())

    @property
    def suffix(self) -> str:
        """As the end of a folder's name: two requests for the same path have one name, others have others."""
        return "".join("-" + re.sub(r"[^\w.-]+", "", each) for each in self._modifiers())

    @property
    def changes_path(self) -> bool:
        """Whether anything but the reading of the file is changed."""
        return bool([each for each in self._modifiers() if not each.startswith("convention")])

    def _modifiers(self) -> list[str]:
        listed = [] if self.strength == 1 else [f"{self.strength:g}"]
        for each in fields(self)[1:]:
            value = getattr(self, each.name)
            if value != each.default:
                written = f"{value:g}" if isinstance(value, float) else value
                listed.append(each.name if value is True else f"{each.name}={written}")
        return listed

    def over(self, others: "CameraOptions") -> "CameraOptions":
        """These where they ask for something, else the others."""
        values = {
            each.name: getattr(self if getattr(self, each.name) != each.default else others, each.name)
            for each in fields(self)
        }
        return CameraOptions(**values)


AS_WRITTEN = CameraOptions()
"""Nothing is asked besides what the file says."""


@dataclass(frozen=True, kw_only=True)
class CameraText:
    """A camera as it is written.

    Attributes:
        source: a name or a file.
        format: a key of `FORMATS`, if it is said.
        part: which of several cameras of the file.
        options: of the modifiers.
    """

    source: str
    format: str | None = None
    part: str | None = None
    options: CameraOptions = AS_WRITTEN


def parse_camera_text(text: str, exists: Callable[[str], bool]) -> CameraText:
    """Take a text apart. What exists as a file under the whole text is that file, whatever is in its name.

    Args:
        exists: whether there is a file or folder of a name.

    Raises:
        InputError: a modifier has an impossible value, or does not exist.
    """
    file_format, rest = None, text
    prefix, equals, after = text.partition("=")
    if equals and prefix in FORMATS and not exists(text):
        file_format, rest = prefix, after
    values: dict[str, Any] = {}
    while ":" in rest and not exists(rest):
        head, _, modifier = rest.rpartition(":")
        found = _modifier(modifier)
        if found is None:
            if Path(head.partition(":")[0].partition("#")[0]).suffix.lower() in SUFFIXES or exists(head):
                raise InputError(
                    f"camera {shown(text)}: '{modifier}' is no modifier; there are reverse, loop, level, "
                    "smooth=, scale=, anchor=, lens=, convention= and a strength"
                )
            break
        if found[0] in values:
            raise InputError(f"camera {shown(text)} has '{found[0]}' twice; give it once")
        values[found[0]] = found[1]
        rest = head
    part = None
    if "#" in rest and not exists(rest):
        rest, _, part = rest.rpartition("#")
    return CameraText(source=rest, format=file_format, part=part, options=CameraOptions(**values))


def check_scale(text: str) -> float | str:
    """Metres per unit of a file, or one of "metres", "scene" and "auto".

    Raises:
        InputError: it is none of these.
    """
    if text in (METRES, SCENE, AUTO):
        return text
    return _number(
        text, "scale", 1e-9, 1e9, f"metres per unit of the file (0.01), or {METRES}, {SCENE}, {AUTO}"
    )


def check_smooth(text: str) -> float:
    """Seconds of smoothing.

    Raises:
        InputError: they are none.
    """
    return _number(text, "smooth", 0.0, MOST_SMOOTHING_S, f"seconds between 0 and {MOST_SMOOTHING_S:g}")


def _modifier(text: str) -> tuple[str, Any] | None:
    """Name and value of a modifier; None if it is none."""
    if text in ("reverse", "loop", "level"):
        return text, True
    name, equals, value = text.partition("=")
    if not equals:
        try:
            float(text)
        except ValueError:
            return None
        return "strength", _number(text, "strength", 0.0, MAX_STRENGTH, f"a number in [0, {MAX_STRENGTH:g}]")
    if name == "smooth":
        return name, check_smooth(value)
    if name == "scale":
        return name, check_scale(value)
    choices = {"anchor": (FIRST, WORLD), "lens": (PHOTO, FILE), "convention": tuple(CONVENTIONS)}.get(name)
    if choices is None:
        return None
    if value not in choices:
        raise InputError(f"'{name}' of a camera must be {' or '.join(choices)}, got {shown(value)}")
    return name, value


def _number(text: str, name: str, low: float, high: float, wanted: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise InputError(f"'{name}' of a camera must be {wanted}, got {shown(text)}")
    return value
