"""What a user says about motion besides words: how much of it, and paths drawn on the photo.

Requests are read and checked here, before torch is imported; `geometry.rigid_motion` makes motion larger and
smaller, `pipelines.stroke_motion` turns strokes into motion.
"""

import json
import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from more4d.files.problems import plural
from more4d.foundation.documents import read_json
from more4d.foundation.errors import ConfigError, InputError, checked, shown

_log = logging.getLogger(__name__)
MOST_MOTION = 3.0
"""The largest amount of motion that can be asked for."""
MOST_STILL_GUIDANCE = 3.0
FOLLOW = 0.85
"""How closely strokes are followed by default."""
MOST_STROKES, MOST_POINTS = 64, 256
STROKE = (
    "a stroke is 'x,y > x,y [> ...]' in pixels of the photo, such as '640,300 > 200,320'; a third number is "
    "the depth as a factor of that at the start, @0.5 the time as a share of the film"
)
TWICE_SAID = (
    'strokes say themselves what moves; leave the masks out, or give each stroke its "mask" in a file'
)
_NUMBER = r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*"
_POINT = re.compile(rf"{_NUMBER},{_NUMBER}(?:,{_NUMBER})?(?:@{_NUMBER})?")


@checked
@dataclass(frozen=True, kw_only=True)
class Stroke:
    """A path drawn on the photo; the thing under its first point follows it.

    Attributes:
        points: x, y in pixels of the photo, from its corner.
        depths: at each point, as factors of the depth at the first.
        times: at each point, from 0 to 1 as shares of the film.
        mask: picture of the thing (white, or by number), of the whole photo; once that is read, where the
            thing is, [H, W]. None: what is under the first point is looked for.
        scale, shift: of `placed`, all of them together: what made x and y of pixels of the photo.
    """

    points: tuple[tuple[float, float], ...]
    depths: tuple[float, ...]
    times: tuple[float, ...]
    mask: Any = None
    scale: tuple[float, float] = (1.0, 1.0)
    shift: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def of(
        cls,
        points: Sequence[Sequence[float | int]],
        *,
        depths: Sequence[float | int] | None = None,
        times: Sequence[float | int] | None = None,
        mask: Path | None = None,
    ) -> "Stroke":
        """A stroke; by default at constant depth, and at constant speed through the film.

        Raises:
            InputError: too few points, or numbers that are no path.
        """
        try:
            flat = tuple((float(x), float(y)) for x, y in points)
            depths = [1.0] * len(flat) if depths is None else [float(each) for each in depths]
            times = _even_times(flat) if times is None else [float(each) for each in times]
        except (TypeError, ValueError) as error:
            text = "points are pairs of x and y, depths and times are numbers"
            raise InputError(f"a stroke's {text}, got points {shown(points)}") from error
        stroke = cls(points=flat, depths=tuple(depths), times=tuple(times), mask=mask)
        stroke.check()
        return stroke

    def check(self) -> None:
        """Refuse what is no path.

        Raises:
            InputError: one line.
        """
        text = self._points_text()
        if not 2 <= len(self.points) <= MOST_POINTS:
            points = plural(len(self.points), "point")
            raise InputError(f"stroke '{text}' has {points}; give 2 to {MOST_POINTS}")
        if not len(self.points) == len(self.depths) == len(self.times):
            raise InputError(f"stroke '{text}' needs one depth and one time for each of its points")
        # NaN fails no comparison, so it is looked for by itself.
        numbers = [*(each for point in self.points for each in point), *self.depths, *self.times]
        if not all(map(math.isfinite, numbers)):
            raise InputError(f"stroke '{text}' has numbers that are not finite; {STROKE}")
        if not 0.1 <= min(self.depths) <= max(self.depths) <= 10 or self.depths[0] != 1:
            raise InputError(
                f"stroke '{text}' has depths {self.depths[0]:g} to {self.depths[-1]:g}; they are factors "
                "from 0.1 to 10 of the depth at the start, which is 1"
            )
        if self.times[0] != 0 or self.times[-1] > 1 or any(b <= a for a, b in pairwise(self.times)):
            raise InputError(
                f"stroke '{text}' has times {', '.join(f'{each:g}' for each in self.times[:6])}; they grow "
                "from 0 at the start to at most 1, the end of the film"
            )

    def _points_text(self) -> str:
        return " > ".join(f"{x:g},{y:g}" for x, y in self.points[:4])

    def normalised(self, height: int, width: int) -> "Stroke":
        """A stroke in pixels of a picture as one in its widths and heights; a note says what looks mistaken.

        Raises:
            InputError: it starts outside of the picture.
        """
        # Where it goes may lie outside: things leave the picture.
        x, y = self.points[0]
        if not (0 <= x < width and 0 <= y < height):
            raise InputError(
                f"a stroke starts at {x:g},{y:g}, outside of the photo of {width} x {height} pixels; it "
                "starts on what shall move"
            )
        last_x, last_y = self.points[-1]
        if not (-width <= last_x <= 2 * width and -height <= last_y <= 2 * height):
            _log.warning(
                "the stroke '%s' ends more than a whole picture outside of the photo of %d x %d pixels; what "
                "follows it leaves the film early",
                *(self._points_text(), width, height),
            )
        # A change of depth alone moves something, too.
        if len(set(self.points)) == 1 and len(set(self.depths)) == 1:
            _log.warning("the stroke '%s' has no length; it keeps its thing in place", self._points_text())
        return self.placed((1 / width, 1 / height), mask=self.mask)

    def placed(
        self, scale: tuple[float, float], shift: tuple[float, float] = (0.0, 0.0), mask: Any = None
    ) -> "Stroke":
        """With other coordinates: x and y times `scale`, plus `shift`; and the mask in these."""

        def place(point: tuple[float, float]) -> tuple[float, float]:
            return point[0] * scale[0] + shift[0], point[1] * scale[1] + shift[1]

        return replace(
            self,
            points=tuple(map(place, self.points)),
            mask=mask,
            scale=(self.scale[0] * scale[0], self.scale[1] * scale[1]),
            shift=place(self.shift),
        )

    def on_photo(self, point: tuple[float, float]) -> tuple[float, float]:
        """A point of the picture that the stroke is placed on, in pixels of the photo: undoes `placed`."""
        return (point[0] - self.shift[0]) / self.scale[0], (point[1] - self.shift[1]) / self.scale[1]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, as `read_strokes` takes them."""
        values: dict[str, Any] = {
            "points": [list(point) for point in self.points],
            "depths": list(self.depths),
            "times": list(self.times),
        }
        return values | ({} if self.mask is None else {"mask": str(self.mask)})


@checked
@dataclass(frozen=True, kw_only=True)
class MotionControl:
    """How much moves, and where to.

    Attributes:
        amount: how far everything goes, in what was generated: 0 is a still scene, 1 changes nothing, at most
            `MOST_MOTION`.
        still_guidance: X draws motion away from stillness while it is generated, to about 1 + X times the
            way; -1 is still. See `diffusion.flow_matching.away_from`.
        reach: how far things go, as a rank among the clips that the weights were trained on: 0 is least, 0.5
            the middle clip, 1 most; None leaves it to the prompt. For weights with this condition.
        strokes: paths that things follow.
        follow: 1 keeps strokes exactly, 0 ignores them; between, motion is sampled from their noisy latents.
            None: `FOLLOW`.
    """

    amount: float | int = 1.0
    still_guidance: float | int = 0.0
    strokes: tuple[Stroke, ...] = ()
    follow: float | int | None = None
    reach: float | int | None = None

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            InputError: one line that names the value and the range.
        """
        if not 0 <= self.amount <= MOST_MOTION:
            raise InputError(
                f"the amount of motion must lie from 0 (still) to {MOST_MOTION:g}, got {self.amount:g}; 1 is "
                "as generated"
            )
        if not -1 <= self.still_guidance <= MOST_STILL_GUIDANCE:
            raise InputError(
                f"still guidance must lie from -1 (still) to {MOST_STILL_GUIDANCE:g}, got "
                f"{self.still_guidance:g}; 0 is none"
            )
        if self.reach is not None and not 0 <= self.reach <= 1:
            text = "motion reach must lie from 0 (least) to 1 (most of the training clips), got"
            raise InputError(f"{text} {self.reach:g}; leave it out for what the prompt alone gives")
        if not 0 <= self.closeness <= 1:
            raise InputError(f"strokes are followed from 0 (not) to 1 (exactly), got {self.follow:g}")
        if len(self.strokes) > MOST_STROKES:
            raise InputError(f"got {len(self.strokes)} strokes; at most {MOST_STROKES} can be followed")

    def check_together(self) -> None:
        """Refuse what would do nothing without something else, or beside it, with an InputError."""
        if self.follow is not None and not self.strokes:
            text = f"follow {self.follow:g} says how closely strokes are followed, and there is none"
            raise InputError(f"{text}; draw one with --move, such as 'x,y > x,y', or leave out --follow")
        given = [
            *(["a stroke"] if self.strokes else []),
            *(["motion reach"] if self.reach is not None else []),
            *(["still guidance"] if self.still_guidance else []),
        ]
        if given and self.amount == 0:
            text = f"{given[0]} changes how things move, and with motion 0 nothing does"
            raise InputError(f"{text}; leave out one of the two")
        if self.strokes and self.closeness == 1 and (self.still_guidance or self.reach is not None):
            text = f"{given[-1]} changes what is generated, and with follow 1 nothing is; lower --follow"
            raise InputError(f"{text} or leave out --{given[-1].replace(' ', '-')}")

    @property
    def closeness(self) -> float | int:
        """`follow`, or the default."""
        return FOLLOW if self.follow is None else self.follow

    @property
    def neutral(self) -> bool:
        """Whether it asks for nothing."""
        return self == NEUTRAL

    def check_weights(self, preset: str, *, reach: bool) -> None:
        """Refuse what a preset's weights cannot do, with a ConfigError; `reach`: whether they know it."""
        if self.reach is not None and not reach:
            raise ConfigError(
                f"preset '{preset}' has no weights for motion reach; give some (--part motion_reach=FILE; "
                "docs/training.md trains them), or --motion AMOUNT, which scales what any weights generate"
            )

    def with_strokes(self, strokes: tuple[Stroke, ...]) -> "MotionControl":
        """The same with other strokes, such as these in other coordinates."""
        return replace(self, strokes=strokes)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, for the run record."""
        # What is not asked for is left out, and must not make a finished item outdated.
        values = {"amount": self.amount, "still_guidance": self.still_guidance}
        values |= {} if self.reach is None else {"reach": self.reach}
        if self.strokes:
            values |= {"strokes": [stroke.as_dict() for stroke in self.strokes], "follow": self.closeness}
        return values

    def metadata(self) -> dict[str, str]:
        """What is stored with tracks; nothing if nothing was asked."""
        return {} if self.neutral else {"control": json.dumps(self.as_dict())}


NEUTRAL = MotionControl()


def is_stroke_file(text: str) -> bool:
    """Whether `read_strokes` takes a text for the path of a file."""
    return text.strip().lower().endswith(".json")


def read_strokes(text: str) -> list[Stroke]:
    """The strokes of a text "x,y > x,y", or of a .json file: {"strokes": [{"points": [[x, y], ...]}, ...]}.

    A stroke of a file may have "depths", "times" and "mask", a picture relative to the file.

    Raises:
        InputError: names what cannot be read.
    """
    if is_stroke_file(text):
        return _read_file(Path(text.strip()))
    points, depths, times = [], [], []
    # "x,y,depth@time", the last two optional.
    for part in text.split(">"):
        match = _POINT.fullmatch(part)
        if match is None:
            raise InputError(f"'{part.strip()[:40]}' is no point of a stroke; {STROKE}")
        x, y, depth, time = match.groups()
        points.append((float(x), float(y)))
        depths.append(1.0 if depth is None else float(depth))
        times.append(None if time is None else float(time))
    return [Stroke.of(points, depths=depths, times=_filled(points, times))]


def _read_file(path: Path) -> list[Stroke]:
    numbers = [float]
    shape = {"strokes": [{"points": [numbers], "depths?": numbers, "times?": numbers, "mask?": str}]}
    strokes = []
    for number, each in enumerate(read_json(path, "strokes (.json)", shape)["strokes"], start=1):
        if any(len(point) != 2 for point in each["points"]):
            raise InputError(f"{path}: the points of stroke {number} must be pairs of x and y")
        # As all paths in files: relative to the file, not to where the command runs.
        mask = path.parent / each["mask"] if "mask" in each else None
        try:
            known = {key: each.get(key) for key in ("depths", "times")}
            strokes.append(Stroke.of(each["points"], **known, mask=mask))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    if not strokes:
        raise InputError(f"{path} has no strokes; {STROKE}")
    return strokes


def _even_times(points: Sequence[tuple[float, float]]) -> list[float]:
    """Constant speed: times by the length of the path so far."""
    # In pixels of the photo: what looks uniform, not what is uniform in space.
    lengths = [math.dist(a, b) for a, b in pairwise(points)]
    total, so_far, times = sum(lengths), 0.0, [0.0]
    for length in lengths:
        so_far += length
        times.append(so_far / total if total else len(times) / len(lengths))
    return times


def _filled(points: Sequence[tuple[float, float]], times: list[float | None]) -> list[float]:
    """Times that are not given, by constant speed between those that are."""
    if all(time is None for time in times):
        return _even_times(points)
    known = [0.0 if times[0] is None else times[0], *times[1:]]
    if known[-1] is None:
        known[-1] = 1.0
    # Between two given times the points share the time by their distances.
    fixed = [index for index, time in enumerate(known) if time is not None]
    filled: list[float] = []
    for first, last in pairwise(fixed):
        begin, end = known[first], known[last]
        shares = _even_times(points[first : last + 1])[:-1]
        filled += [begin + share * (end - begin) for share in shares]
    return [*filled, known[-1]]
