"""Results of point trackers as tracks: the `.npz` that SpatialTrackerV2 and TAPIP3D write.

    coords      [frames, points, 3]     metres, world
    visibs      [frames, points(, 1)]   flags, probabilities or logits
    video       [frames, 3, height, width] or [frames, height, width, 3], uint8, [0, 1] or [0, 255]
    intrinsics  [frames, 3, 3]          pixels of the video
    extrinsics  [frames, 4, 4]          world to camera

Points must start on a regular grid over the first frame, row by row, as trackers lay it: every point then is
a pixel of the tracks.
"""

import math
from collections.abc import Mapping

import numpy as np

from more4d.foundation.errors import InputError
from more4d.geometry.camera import pixel_centres

FIELDS = ("coords", "visibs", "video", "intrinsics", "extrinsics")
_OFF_GRID = 1.0
"""Cells that points may start beside their place in the grid, in the median."""


def is_tracker_output(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a file has the fields of a tracker, and not those of plain tracks."""
    return "positions" not in arrays and "coords" in arrays and "visibs" in arrays


def plain_tracks(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a plain track file, in the world of the first camera.

    Raises:
        InputError: a field is missing or has another shape, or the points start on no grid.
    """
    missing = [name for name in FIELDS if name not in arrays]
    if missing:
        raise InputError(f"it lacks {', '.join(missing)} of what a tracker writes ({', '.join(FIELDS)})")
    coords, video = arrays["coords"].astype(np.float64), arrays["video"]
    frames, points = coords.shape[:2] if coords.ndim == 3 else (0, 0)
    if not frames or coords.shape[2] != 3 or video.ndim != 4 or 3 not in (video.shape[1], video.shape[3]):
        raise InputError(
            f"'coords' has shape {coords.shape} and 'video' {video.shape}; they are frames x points x 3 and "
            "frames x 3 x height x width"
        )
    picture = video[0] if video.shape[3] == 3 else np.moveaxis(video[0], 0, -1)
    height, width = picture.shape[:2]
    camera_0, first = _matrices(arrays["intrinsics"], 3)[0], _matrices(arrays["extrinsics"], 4)[0]
    # world -> first camera, which is our world
    positions = coords @ first[:3, :3].T + first[:3, 3]
    known = np.isfinite(positions).all(-1)
    if not known[0].all():
        raise InputError(f"{int((~known[0]).sum())} of its {points} points have no place in frame 0")
    for frame in range(1, frames):  # a lost point stays where it was last, unseen
        positions[frame] = np.where(known[frame][:, None], positions[frame], positions[frame - 1])
    visibs = arrays["visibs"].reshape(frames, points)
    projected = positions[0] @ camera_0.T
    seen_at = projected[:, :2] / projected[:, 2:] / (width, height)
    rows, columns = _grid(seen_at, points, height / width)
    normalised = camera_0[:2] / np.array([[width], [height]])
    cells = pixel_centres(rows, columns).reshape(-1, 2).numpy()
    at_row, at_column = (
        np.minimum((cells[:, axis] * side).astype(int), side - 1) for axis, side in ((1, height), (0, width))
    )
    colours = picture[at_row, at_column].reshape(rows, columns, 3)
    if colours.dtype != np.uint8 and picture.max() > 1:
        colours = colours / 255
    return {
        "positions": positions.reshape(frames, rows, columns, 3).astype(np.float32),
        "colours": colours,
        "visibility": visibs.reshape(frames, rows, columns) if known.all() else _unseen(visibs, known, rows),
        "intrinsics": np.array([normalised[0, 0], normalised[1, 1], normalised[0, 2], normalised[1, 2]]),
        **{name: arrays[name] for name in ("fps", "caption") if name in arrays},
    }


def _unseen(visibs: np.ndarray, known: np.ndarray, rows: int) -> np.ndarray:
    """Lost points get the lowest value there is, whatever the values mean."""
    lowest = visibs.dtype.type(False) if visibs.dtype == bool else min(visibs.min(), 0)
    return np.where(known, visibs, lowest).astype(visibs.dtype).reshape(len(visibs), rows, -1)


def _matrices(values: np.ndarray, side: int) -> np.ndarray:
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[1] < 3 or values.shape[2] != side:
        raise InputError(f"it has matrices of shape {values.shape}; they are frames x {side} x {side}")
    return values.astype(np.float64)


def _grid(seen_at: np.ndarray, points: int, aspect: float) -> tuple[int, int]:
    """Rows and columns of the grid on which points start, of all that have this number of points."""
    shapes = [(rows, points // rows) for rows in range(1, points + 1) if points % rows == 0]
    shapes.sort(key=lambda shape: abs(math.log(shape[0] / shape[1] / aspect)))
    for rows, columns in shapes[:4]:
        cells = pixel_centres(rows, columns).reshape(-1, 2).numpy()
        off = np.abs((seen_at - cells) * (columns, rows)).max(1)
        if np.median(off) < _OFF_GRID:
            return rows, columns
    raise InputError(
        f"its {points} points start on no regular grid over the first frame; track a grid from frame 0"
    )
