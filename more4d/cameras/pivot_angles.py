"""Texts of three lines of numbers: angles about a pivot, and a distance. Three systems, three meanings.

The lines are the same in form, so a file is read only if the user says whose it is:

    trajectorycrafter   up, right (degrees); third line: forward, in depths of the centre
    viewcrafter         right, down (degrees); third line: backward, in depths of the centre
    inspatio            up, left (degrees); third line: distance of the pivot; without any angle, forward

The pivot lies on the photo's optical axis at the scene's depth. Their splines smooth what is written
(UnivariateSpline with its default smoothing), so they miss the values; ours go through them.
"""

from pathlib import Path

import numpy as np

from more4d.cameras.formats import FORMATS
from more4d.cameras.neoverse import shift, turn
from more4d.cameras.raw_path import RawCameraPath
from more4d.cameras.real_estate import number_like, number_rows
from more4d.foundation.errors import InputError

SYSTEMS = ("trajectorycrafter", "viewcrafter", "inspatio")
SAMPLES = 241
MOST_DEG, MOST_DEPTHS = 720.0, 10.0


def is_three_lines(lines: list[str]) -> bool:
    """Whether a text is three lines of numbers and nothing else."""
    rows = [line for line in lines if line.strip()]
    return len(rows) == 3 and all(map(number_like, rows))


def read_pivot_angles(path: Path, lines: list[str], system: str) -> RawCameraPath:
    """The path that three lines stand for in one of the `SYSTEMS`.

    Raises:
        InputError: there are not three lines of numbers, or a number is impossible.
    """
    rows = [np.array(values) for _, values in number_rows(path, lines)]
    if len(rows) != 3:
        raise InputError(
            f"{path} has {len(rows)} lines of numbers; {system} has three: two of angles, one of r"
        )
    if not all(np.isfinite(row).all() for row in rows):
        raise InputError(f"{path} holds NaN or infinite numbers; remove them")
    if max(np.abs(row).max() for row in rows[:2]) > MOST_DEG:
        raise InputError(
            f"{path} has angles over {MOST_DEG:g} degrees; its lines are angles, angles, distance"
        )
    if np.abs(rows[2]).max() > MOST_DEPTHS:
        raise InputError(f"{path} has distances over {MOST_DEPTHS:g} scene depths in line three; give less")
    still = not any(row.any() for row in rows[:2])
    poses = np.stack([_POSES[system](*each, still) for each in zip(*map(_curve, rows), strict=True)])
    return RawCameraPath(camera_to_world=poses, unit=FORMATS[system].unit, source=system)


def _trajectorycrafter(up: float, right: float, forward: float, still: bool) -> np.ndarray:
    # The scene comes nearer before it turns, so the pivot recedes with the camera's step.
    return shift(z=1 + forward) @ turn(0, -up) @ turn(1, -right) @ shift(z=-1.0)


def _viewcrafter(right: float, down: float, backward: float, still: bool) -> np.ndarray:
    return shift(z=1.0) @ turn(1, -right) @ turn(0, down) @ shift(z=-1 - backward)


def _inspatio(up: float, left: float, radius: float, still: bool) -> np.ndarray:
    # Without any angle the third line is a step forward.
    if still:
        return shift(z=radius)
    return shift(z=radius) @ turn(1, left) @ turn(0, -up) @ shift(z=-radius)


_POSES = {"trajectorycrafter": _trajectorycrafter, "viewcrafter": _viewcrafter, "inspatio": _inspatio}
"""Camera-to-world in scene depths, of the three lines and whether all angles are 0."""


def _curve(values: np.ndarray) -> np.ndarray:
    """`SAMPLES` values of a smooth curve through evenly spaced ones."""
    from scipy.interpolate import PchipInterpolator

    if len(values) == 1:
        return np.repeat(values, SAMPLES)
    at, query = np.linspace(0, 1, len(values)), np.linspace(0, 1, SAMPLES)
    # up to three values are joined by straight lines, in theirs as well; no curve goes beyond its values
    return PchipInterpolator(at, values)(query) if len(values) > 3 else np.interp(query, at, values)
