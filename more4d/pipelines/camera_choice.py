"""Cameras that suit a scene: candidates are measured, scored, and chosen to complement each other.

It runs after the tracks, since only then is known what moves and what is hidden. Candidates are the named
paths at several strengths (`camera_measures`). Weights of the score are fitted to films whose truth is known
(benchmarks/camera_choice.py).
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from more4d.files.previews import save_sheet
from more4d.geometry.camera import CameraPath
from more4d.geometry.camera_recipes import CAMERA_PATHS
from more4d.geometry.tracks import Tracks
from more4d.pipelines.camera_measures import Features, SmallScene
from more4d.pipelines.camera_report import HOLES
from more4d.pipelines.camera_spec import CameraSpec

_log = logging.getLogger(__name__)
STRENGTHS = (0.5, 0.75, 1.0)
STILL = ("static", "stationary")
PARALLAX_0, NEW_AREA_0 = 0.02, 0.2
"""Half of what more parallax (in picture widths) or new area (in photos) can be worth."""
NEXT_BEST, TILE = 3, 120
"""How many candidates are shown besides the chosen ones, and the height of their frames in pixels."""
SHARED = 1.0
"""Decibels that a path of a set loses if the paths before it see all that it newly sees."""
LIKING, UNKNOWN = 1.0, math.log(1e-6)
"""Nats that a decibel of the score counts as, beside what a chooser likes; and of a path it does not know."""
WEIGHTS = (1.871, 0.731, -8.657, -15.142, -7.353)
"""Of `terms`, in decibels: benchmarks/camera_choice.py fit, on 400 films of 40 validation worlds, ridge 1."""


def terms(features: Features) -> tuple[float, ...]:
    """What is weighted: parallax and new area with diminishing returns, and three costs."""
    # x / (x + x0) grows ever more slowly: twice the parallax is not twice as good
    return (
        features.parallax / (features.parallax + PARALLAX_0),
        features.new_area / (features.new_area + NEW_AREA_0),
        features.holes,
        features.hole_distance,
        features.stretched,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A camera that may be chosen.

    Attributes:
        score: the worth of its film.
        refused: why it may not be; empty if it may.
        new_cells: what it sees and the photo does not show.
    """

    spec: CameraSpec
    path: CameraPath
    features: Features
    score: float
    refused: str
    new_cells: Bool[Tensor, "rows columns"]

    def row(self) -> dict[str, Any]:
        """Plain JSON values, for the run record."""
        measured = {name: round(value, 4) for name, value in asdict(self.features).items()}
        refused = {"refused": self.refused} if self.refused else {}
        return {"camera": str(self.spec), "score": round(self.score, 4), **measured, **refused}


def candidates(names: Sequence[str] = ()) -> list[CameraSpec]:
    """Every distinct named path at every strength; those of some names only, if they are given."""
    # what does not move shows nothing new and risks nothing: no score is needed for it
    moving = names or [name for name in CAMERA_PATHS if name not in STILL]
    return [CameraSpec.parse(f"{name}:{k:g}" if k != 1 else name) for name in moving for k in STRENGTHS]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen, and of what.

    Attributes:
        chosen: in the order in which they were chosen.
        ranked: all candidates, the best first, refused ones last.
    """

    chosen: tuple[Candidate, ...]
    ranked: tuple[Candidate, ...]


def measure_candidates(
    tracks: Tracks, specs: Sequence[CameraSpec], sample: Callable[[CameraSpec], CameraPath]
) -> list[Candidate]:
    """Every candidate with its score.

    Args:
        sample: the path of a camera, with a pose for every frame of the tracks.
    """
    scene, measured = SmallScene(tracks), []
    for spec in specs:
        # sampled for all frames and then thinned: times are those of the film
        path = sample(spec)
        there = replace(
            path,
            world_to_camera=path.world_to_camera[scene.moments],
            intrinsics=path.intrinsics[scene.moments],
        )
        features, cells = scene.measure(there)
        measured.append(
            Candidate(
                spec=spec,
                path=there,
                features=features,
                score=sum(w * term for w, term in zip(WEIGHTS, terms(features), strict=True)),
                refused=scene.refusal(features),
                new_cells=cells,
            )
        )
    return measured


def choose(
    measured: Sequence[Candidate],
    count: int,
    *,
    taken: Sequence[str] = (),
    before: Sequence[Candidate] = (),
) -> Choice:
    """The best camera, and after it those whose films add most: greedy, on the union of what is newly seen.

    Args:
        taken: names of paths that are filmed anyway.
        before: what was chosen already, which these are to complement.
    """
    # refused ones last, so that the table of candidates reads from the top
    ranked = sorted(measured, key=lambda each: (bool(each.refused), -each.score))
    allowed = [each for each in ranked if not each.refused and each.spec.path_name not in taken]
    chosen: list[Candidate] = []
    while allowed and len(chosen) < count:
        # greedy is near the best set: what is newly seen together grows by less with each path
        best = max(allowed, key=lambda each: each.score - _seen_again(each, [*before, *chosen]))
        chosen.append(best)
        # the same path at another strength is no second view
        allowed = [each for each in allowed if each.spec.path_name != best.spec.path_name]
    return Choice(chosen=tuple(chosen), ranked=tuple(ranked))


def with_chosen_cameras(
    cameras: Mapping[str, CameraSpec | CameraPath],
    tracks: Tracks,
    sample: Callable[[CameraSpec], CameraPath],
    liked: Callable[[Sequence[str]], Mapping[str, float]] | None = None,
) -> Mapping[str, CameraSpec | CameraPath]:
    """As `choose_cameras`; cameras that are all named stay as they are."""
    if not any(isinstance(each, CameraSpec) and each.choose for each in cameras.values()):
        return cameras
    return choose_cameras(cameras, tracks, sample, liked)[0]


def choose_cameras(
    cameras: Mapping[str, CameraSpec | CameraPath],
    tracks: Tracks,
    sample: Callable[[CameraSpec], CameraPath],
    liked: Callable[[Sequence[str]], Mapping[str, float]] | None = None,
) -> tuple[dict[str, CameraSpec | CameraPath], Choice]:
    """Cameras by name with the chosen ones in place of each `auto`, and what they were chosen of.

    Args:
        sample: the path of a camera, with a pose for every frame of the tracks.
        liked: log-probabilities of names of paths (`camera_taste`), to be added to the scores.
    """
    count = sum(each.choose for each in cameras.values() if isinstance(each, CameraSpec))
    # one frame shows no path: all would be the same film
    usable = candidates() if tracks.frames > 1 else [CameraSpec.parse(STILL[0])]
    taken = [each.path_name for each in cameras.values() if isinstance(each, CameraSpec) and not each.choose]
    choice = Choice(chosen=(), ranked=())
    found: dict[str, CameraSpec | CameraPath] = {}
    for name, camera in cameras.items():
        if not isinstance(camera, CameraSpec) or not camera.choose:
            found[name] = camera
            continue
        # measured as they are filmed: a path in reverse sees other things
        specs = [spec.with_options(camera.options) for spec in usable]
        measured = _with_liking(measure_candidates(tracks, specs, sample), liked)
        # several choosers share one set, so that they complement each other too
        more = choose(measured, camera.choose, taken=taken, before=choice.chosen)
        choice = Choice(chosen=choice.chosen + more.chosen, ranked=choice.ranked + more.ranked)
        taken += [each.spec.path_name for each in more.chosen]
        found |= {each.spec.name: each.spec for each in more.chosen}
    _report(choice, min(count, len(usable)))
    # nothing was asked for by name, and nothing may be filmed otherwise
    if not found:
        found = {STILL[0]: CameraSpec.parse(STILL[0])}
    return found, choice


def _with_liking(
    measured: list[Candidate], liked: Callable[[Sequence[str]], Mapping[str, float]] | None
) -> list[Candidate]:
    """Candidates whose scores have what a chooser likes in them."""
    if liked is None:
        return measured
    # one name, several strengths: a liking is of the path, the strength is geometry's
    logs = liked(list(dict.fromkeys(each.spec.path_name for each in measured)))
    return [
        replace(each, score=LIKING * each.score + logs.get(each.spec.path_name, UNKNOWN)) for each in measured
    ]


def _report(choice: Choice, count: int) -> None:
    """What was chosen, in one line."""
    refused = [each for each in choice.ranked if each.refused]
    # fewer than were asked for: say what kept the others out
    few = ""
    if len(choice.chosen) < count:
        reason = f", such as {refused[0].spec}, which {refused[0].refused}" if refused else ""
        few = f"; {count} were asked for, and the others were refused{reason}"
    named = ", ".join(str(each.spec) for each in choice.chosen) or "none"
    _log.warning(
        "cameras chosen of %d: %s (%d refused; run.json has all)%s",
        *(len(choice.ranked), named, len(refused), few),
    )


def save_candidates(target: Path, tracks: Tracks, choice: Choice) -> None:
    """Draw what the chosen cameras and the three next best see, holes in red.

    Raises:
        InputError: the folder cannot be written to.
    """
    scene = SmallScene(tracks)
    best = [each for each in choice.ranked if each not in choice.chosen and not each.refused]
    # a row per path, its frames side by side
    rows, labels = [], []
    for candidate in [*choice.chosen, *best[:NEXT_BEST]] or choice.ranked[:NEXT_BEST]:
        # without marks, in the photo's colours
        film = scene.draw(candidate.path)
        red = torch.where(film.hole_mask[..., None], torch.tensor(HOLES), film.colour)
        rows.append(list(red))
        how = "chosen" if candidate in choice.chosen else "refused" if candidate.refused else "next"
        labels.append(f"{how}: {candidate.spec}, score {candidate.score:.2f}")
    captions = [[f"frame {moment}" for moment in scene.moments]] * len(rows)
    save_sheet(target, rows, captions=captions, row_labels=labels, title="cameras", tile_height=TILE)


def _seen_again(candidate: Candidate, chosen: Sequence[Candidate]) -> float:
    """What a candidate's score loses because others see the same."""
    total = float(candidate.new_cells.sum())
    if not chosen or not total:
        return 0.0
    # the union of what the others see
    seen = torch.stack([each.new_cells for each in chosen]).any(0)
    return SHARED * float((candidate.new_cells & seen).sum()) / total
