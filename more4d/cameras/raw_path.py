"""A camera path as a file has it, brought to one set of axes and nothing else.

All readers give a `RawCameraPath`, all writers take one; what its world and unit are to the photo is decided
in `cameras.adoption` only.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from more4d.cameras.formats import CAMERA_TO_WORLD, OPENCV, OPENGL, UNKNOWN, UNREAL
from more4d.foundation.errors import InputError
from more4d.geometry.intrinsics import PIXEL_INTRINSICS_FROM, check_intrinsics

MOST_FRAMES = 100_000
RIGID = 1e-3
"""Largest error of R R^T that is taken for rounding."""
# Columns: the axes of an OpenCV camera (right, down, forward) in the other camera's own coordinates.
_TO_AXES = {
    OPENCV: np.eye(4),
    OPENGL: np.diag([1.0, -1.0, -1.0, 1.0]),
    UNREAL: np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]]),
}


@dataclass(frozen=True, kw_only=True)
class RawCameraPath:
    """Poses in the file's own world and unit.

    Attributes:
        camera_to_world: [frames, 4, 4] float64, rigid, in OpenCV axes.
        intrinsics: [frames, 4]: fx, cx in picture widths, fy, cy in picture heights; None if not said.
        times: [frames], strictly increasing, in any unit; None where frames are evenly spaced.
        size: (height, width) of the pictures in pixels, if said.
        unit: of translations: "metres", "scene" or "unknown".
        source: name of the format.
        zoom_only: whether only ratios of focal lengths are known.
        anchored: whether the world is the photo's camera, so that frame 0 need not be moved there.
        notes: lines for the user about what was left out or assumed.
    """

    camera_to_world: np.ndarray
    intrinsics: np.ndarray | None = None
    times: np.ndarray | None = None
    size: tuple[int, int] | None = None
    unit: str = UNKNOWN
    source: str = ""
    zoom_only: bool = False
    anchored: bool = False
    notes: tuple[str, ...] = field(default=())

    @property
    def frames(self) -> int:
        return len(self.camera_to_world)

    def fingerprint(self) -> str:
        """A short name for everything that a film depends on."""
        digest = hashlib.sha256(f"{self.unit} {self.zoom_only} {self.anchored}".encode())
        for array in (self.camera_to_world, self.intrinsics, self.times):
            digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]


def to_opencv(matrices: np.ndarray, axes: str) -> np.ndarray:
    """Camera-to-world matrices [frames, 4, 4] with cameras in other axes, with cameras in OpenCV's.

    The file's world is kept, for it cancels; but Unreal's, which is left-handed, becomes right-handed.
    """
    change = _TO_AXES[axes]
    # camera-to-world <- its own axes <- OpenCV axes
    return (np.linalg.inv(change) if axes == UNREAL else np.eye(4)) @ matrices @ change


def from_opencv(camera_to_world: np.ndarray, axes: str) -> np.ndarray:
    """The inverse of `to_opencv`."""
    change = _TO_AXES[axes]
    return (change if axes == UNREAL else np.eye(4)) @ camera_to_world @ np.linalg.inv(change)


def invert(matrices: np.ndarray) -> np.ndarray:
    """Inverses of rigid transforms [frames, 4, 4], exactly rigid again."""
    rotation = matrices[:, :3, :3].swapaxes(1, 2)
    inverse = np.tile(np.eye(4), (len(matrices), 1, 1))
    inverse[:, :3, :3] = rotation
    inverse[:, :3, 3] = -np.einsum("nij,nj->ni", rotation, matrices[:, :3, 3])
    return inverse


def read_poses(
    matrices: Any, where: Path | str, *, axes: str, maps: str, first: int = 0, noun: str = "frame"
) -> np.ndarray:
    """Checked camera-to-world matrices [frames, 4, 4] in OpenCV axes.

    Args:
        matrices: [frames, 3 or 4, 4], in the axes and direction of the format.
        where: the file, for messages.
        first: number of the first frame in messages.
        noun: what messages call a frame.

    Raises:
        InputError: a matrix is not finite, is scaled or sheared, or is mirrored.
    """
    try:
        given = np.asarray(matrices, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{where}: a matrix has rows of different lengths or holds no numbers; each has 4 numbers in "
            "3 or 4 rows"
        ) from error
    if given.ndim != 3 or given.shape[1:] not in ((3, 4), (4, 4)):
        shape = " x ".join(map(str, given.shape))
        raise InputError(f"{where} has matrices of shape {shape}; each must have 3 or 4 rows of 4 numbers")
    if not 1 <= len(given) <= MOST_FRAMES:
        raise InputError(f"{where} has {len(given)} poses; give 1 to {MOST_FRAMES}")
    poses = np.tile(np.eye(4), (len(given), 1, 1))
    poses[:, :3] = given[:, :3]

    def refuse(bad: np.ndarray, what: str, remedy: str) -> None:
        if bad.any():
            raise InputError(f"{where}: the matrix of {noun} {int(bad.argmax()) + first} {what}; {remedy}")

    refuse(~np.isfinite(given).all((1, 2)), "holds NaN or infinite numbers", "remove that frame")
    if given.shape[1] == 4:
        last = np.abs(given[:, 3] - [0.0, 0, 0, 1]).max(1) > RIGID
        refuse(last, "has a last row other than 0 0 0 1", "it may have to be transposed")
    rotation = poses[:, :3, :3]
    error = np.abs(rotation @ rotation.swapaxes(1, 2) - np.eye(3)).max((1, 2))
    refuse(error > RIGID, f"is no rotation (R R^T is off by {error.max():.2g})", "remove scale and shear")
    refuse(np.linalg.det(rotation) < 0, "is mirrored (determinant -1)", "negate one axis of it")
    # the nearest rotation to one that was written with few digits
    left, _, right = np.linalg.svd(rotation)
    poses[:, :3, :3] = left @ right
    return to_opencv(poses if maps == CAMERA_TO_WORLD else invert(poses), axes)


def read_intrinsics(
    values: Any, where: Path | str, *, frames: int, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Normalised fx, fy, cx, cy of every frame, [frames, 4].

    Args:
        values: [4], [frames, 4], [3, 3] or [frames, 3, 3]; in pixels if fx is above 10.
        size: (height, width) of the pictures; by default twice the principal point.

    Raises:
        InputError: the shape is another, or no lens has these numbers.
    """
    try:
        given = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: intrinsics must be numbers in rows of equal length") from error
    if given.shape[-2:] == (3, 3):
        given = np.stack([given[..., 0, 0], given[..., 1, 1], given[..., 0, 2], given[..., 1, 2]], -1)
    if given.shape not in ((4,), (1, 4), (frames, 4)):
        shape = " x ".join(map(str, given.shape))
        raise InputError(
            f"{where} has {frames} poses and intrinsics of shape {shape}; give 4 numbers or 3 x 3 a frame"
        )
    given = np.broadcast_to(given, (frames, 4))
    for number, row in enumerate(np.unique(given, axis=0)):
        try:
            check_intrinsics(tuple(row.tolist()))
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        if number > 1000:  # one lens that zooms; what is wrong is wrong at once
            break
    if (given[:, 0] <= PIXEL_INTRINSICS_FROM).all():
        return given.copy()
    sides = np.array(size[::-1], dtype=np.float64) if size else 2 * given[:, 2:]
    if not (sides > 1).all():
        raise InputError(f"{where} has intrinsics in pixels of a picture of no known size; add its size")
    return given / np.concatenate([sides, sides], -1)


def read_times(values: Any, where: Path | str, *, noun: str = "frame") -> np.ndarray:
    """Times [frames] that strictly increase.

    Raises:
        InputError: a time is not finite, or not after the one before.
    """
    times = np.asarray(values, dtype=np.float64)
    bad = ~np.isfinite(times)
    bad[1:] |= ~(np.diff(times) > 0)
    if bad.any():
        index = int(bad.argmax())
        before = f", not after {times[index - 1]:.12g}" if index else ""
        raise InputError(f"{where}: {noun} {index} has the time {times[index]:.12g}{before}; times increase")
    return times
