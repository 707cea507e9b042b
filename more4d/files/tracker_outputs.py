"""Own tracks as arrays: plain ones, and results of point trackers.

Plain (`.npz`):

    positions   [frames, height, width, 3]   metres, world; NaN where a point is lost
    colours     [height, width, 3]           uint8, [0, 1] or [0, 255]
    intrinsics  fx, fy, cx, cy or 3x3        pixels or normalised
    visibility  [frames, height, width]      flags, probabilities or logits; optional, as are fps and caption

What SpatialTrackerV2 and TAPIP3D write:

    coords      [frames, points, 3]     metres, world
    visibs      [frames, points(, 1)]   flags, probabilities or logits
    video       [frames, 3, height, width] or [frames, height, width, 3], uint8, [0, 1] or [0, 255]
    intrinsics  [frames, 3, 3]          pixels of the video
    extrinsics  [frames, 4, 4]          world to camera

Trackers in the picture (CoTracker, TAPIR) write `tracks` [frames, points, 2], in pixels of the video, in
place of `coords`. With `depths` [frames, height, width], in metres, they are lifted to 3-D; without
`extrinsics` the camera stands still.

Points of trackers must start on a regular grid over the first frame, row by row, as trackers lay it: every
point then is a pixel of the tracks.
"""

import logging
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from more4d.files.problems import error_summary
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera, pixel_centres
from more4d.geometry.intrinsics import camera_from_intrinsics
from more4d.geometry.tracks import PointTracks

NAMES = {
    "coords": ("trajs_3d", "tracks_3d"),
    "visibs": ("visibility", "visibilities", "vis", "pred_visibility"),
    "tracks": ("pred_tracks", "tracks_2d", "trajs_uv", "trajectories"),
    "depths": ("depth",),
}
"""Other names of the fields."""
FIELDS = ("coords", "visibs", "video", "intrinsics", "extrinsics")
_SHAPES = "they are frames x height x width x 3, visibility without the last and colours without the first"
_OFF_GRID = 1.0
"""Cells that points may start beside their place in the grid, in the median."""
_OFF_PIXEL = 0.03
"""Of the picture's sides: pixels of tracks lie nearer to where the camera sees their points in frame 0."""

_log = logging.getLogger(__name__)


def tracks_of_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> PointTracks:
    """Tracks of the arrays of a file, described above.

    Raises:
        InputError: an array is missing or impossible.
    """
    if "positions" not in arrays:
        try:
            arrays = _tracker_arrays(arrays)
            arrays = plain_tracks(arrays) if "coords" in arrays else arrays
        except (InputError, ValueError, IndexError, TypeError) as error:
            raise InputError(f"{path} does not hold usable tracks of a tracker: {error}") from error
    missing = [name for name in ("positions", "colours", "intrinsics") if name not in arrays]
    if missing:
        raise InputError(
            f"{path} lacks {', '.join(missing)}; tracks need positions, colours and intrinsics (it has: "
            f"{', '.join(arrays) or 'nothing'})"
        )
    for name in ("positions", "colours", "intrinsics", "visibility", "fps"):
        if name in arrays and arrays[name].dtype.kind not in "biuf":
            raise InputError(f"{path}: '{name}' has values of type {arrays[name].dtype}; give real numbers")
    try:
        if arrays["positions"].ndim != 4:
            raise InputError(f"'positions' has shape {arrays['positions'].shape}; {_SHAPES}")
        positions, seen = arrays["positions"].astype(np.float32), np.ones(arrays["positions"].shape[:3], bool)
        if "visibility" in arrays:
            seen = _seen(arrays["visibility"], path)
            seen = seen[..., 0] if seen.ndim == 4 and seen.shape[-1] == 1 else seen
        known = np.isfinite(positions).all(-1)
        if seen.shape != known.shape:
            raise InputError(f"'visibility' is {seen.shape}, 'positions' {positions.shape}; {_SHAPES}")
        if known[0].all() and not known.all():
            positions, seen = _held(positions, known), seen & known
        colours = arrays["colours"]
        colours = colours[0] if colours.ndim == 4 and len(colours) == len(positions) else colours
        if colours.shape != positions.shape[1:]:
            raise InputError(f"'colours' is {colours.shape}, 'positions' {positions.shape}; {_SHAPES}")
        white = 255.0 if colours.dtype == np.uint8 or colours.max(initial=0) > 1 else 1.0
        tracks = PointTracks(
            positions=torch.from_numpy(positions),
            colours=torch.from_numpy(colours).float() / white,
            visibility=torch.from_numpy(seen),
            camera=_camera(arrays["intrinsics"], positions.shape),
            fps=float(arrays["fps"]) if "fps" in arrays else 12.0,
            caption=str(arrays["caption"]) if "caption" in arrays else "",
        )
        _report_off_pixels(tracks, path)
        return tracks
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} does not hold usable tracks: {error_summary(error)}") from error
    except InputError as error:
        raise InputError(f"{path} does not hold usable tracks: {error}") from error


def _report_off_pixels(tracks: PointTracks, path: Path) -> None:
    """Warn of tracks that the camera of frame 0 does not see at their own pixels."""
    seen_at = tracks.camera.project(tracks.positions[0])[0]
    off = (seen_at - pixel_centres(tracks.height, tracks.width)).abs().amax(-1).median()
    if float(off) > _OFF_PIXEL:
        _log.warning(
            "%s: in frame 0 the camera sees points %.0f %% of the picture away from their pixels; are the "
            "intrinsics those of this picture, and the axes x right, y down, z forward?",
            *(path, 100 * float(off)),
        )


def _tracker_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a tracker under the names of `FIELDS`, of one video; tracks in the picture are lifted."""
    found = {}
    for name, array in arrays.items():
        known = next((key for key, others in NAMES.items() if name in others and key not in arrays), name)
        batched = array.ndim > (4 if known == "video" else 3) and len(array) == 1
        found[known] = array[0] if batched else array
    flat = found.get("tracks")
    if "coords" in found or flat is None or flat.ndim != 3 or flat.shape[2] != 2:
        return found
    return found | lifted(found)


def lifted(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`coords` and `extrinsics` of tracks in the picture, where they are seen: NaN where not.

    Raises:
        InputError: there is no depth, or a shape does not fit.
    """
    tracks = arrays["tracks"].astype(np.float64)
    missing = [name for name in ("depths", "intrinsics", "video", "visibs") if name not in arrays]
    if missing:
        raise InputError(
            f"tracks in the picture (shape {tracks.shape}) need {', '.join(missing)} beside them, which say "
            "where in space they are"
        )
    frames, points = tracks.shape[:2]
    depths = arrays["depths"].reshape(-1, *arrays["depths"].shape[-2:]).astype(np.float64)
    if len(depths) != frames:
        raise InputError(f"there are {len(depths)} depth maps for tracks of {frames} frames")
    sides = (arrays["video"].shape[-1], arrays["video"].shape[-2])  # of [frames, 3, height, width]
    if arrays["video"].shape[-1] == 3:
        sides = (arrays["video"].shape[-2], arrays["video"].shape[-3])
    column, row = (
        # Depth may be smaller than the video.
        np.clip(np.nan_to_num(tracks[..., axis] * of / sides[axis]).round().astype(int), 0, of - 1)
        for axis, of in ((0, depths.shape[2]), (1, depths.shape[1]))
    )
    z = depths[np.arange(frames)[:, None], row, column]
    matrices = np.broadcast_to(_matrices(arrays["intrinsics"], 3), (frames, 3, 3))
    rays = np.linalg.solve(
        matrices, np.concatenate([tracks, np.ones((frames, points, 1))], -1).swapaxes(1, 2)
    )
    in_camera = rays.swapaxes(1, 2) * z[..., None]
    world_to_camera = np.broadcast_to(
        _matrices(arrays["extrinsics"], 4) if "extrinsics" in arrays else np.eye(4)[None], (frames, 4, 4)
    )
    rotation, shift = world_to_camera[:, :3, :3], world_to_camera[:, None, :3, 3]
    coords = (in_camera - shift) @ rotation  # R^T (x - t), of rows
    seen = _seen(arrays["visibs"].reshape(frames, points), "visibs") & (z > 0) & np.isfinite(z)
    seen[0] = True
    return {"coords": np.where(seen[..., None], coords, np.nan), "extrinsics": world_to_camera}


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
    positions = _held(positions, known)
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


def _held(positions: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A lost point stays where it was last."""
    positions = positions.copy()
    for frame in range(1, len(positions)):
        positions[frame] = np.where(known[frame][..., None], positions[frame], positions[frame - 1])
    return positions


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


def _camera(numbers: np.ndarray, shape: tuple[int, ...]) -> Camera:
    """Intrinsics of tracks of [frames, height, width, 3]; if every frame has its own, they must be equal."""
    frames, height, width, _ = shape
    if numbers.ndim > 1 and numbers.shape[0] == frames and numbers.shape[1:] in ((4,), (3, 3)):
        if numbers.shape != (3, 3) and np.abs(numbers - numbers[:1]).max() > 1e-3 * np.abs(numbers).max():
            raise InputError("'intrinsics' change over time; tracks are those of one camera")
        numbers = numbers if numbers.shape == (3, 3) else numbers[0]
    return camera_from_intrinsics(numbers, height=height, width=width)


def _seen(visibility: np.ndarray, where: Path | str) -> np.ndarray:
    """Whether points are seen, of what trackers write: flags, probabilities, or logits."""
    if visibility.dtype == bool:
        return visibility
    if not np.isfinite(visibility).all():
        raise InputError("'visibility' holds NaN or infinite values; give true or false")
    low, high = float(visibility.min(initial=0)), float(visibility.max(initial=0))
    if visibility.dtype.kind in "iu":
        if np.isin(visibility, (0, 255)).all():  # of masks
            return visibility > 0
        if low < 0 or high > 1:
            raise InputError(f"'visibility' holds whole numbers from {low:g} to {high:g}; give true or false")
        return visibility > 0
    if np.isin(visibility, (0, 1)).all():
        return visibility > 0.5
    kind, threshold = ("probabilities", 0.5) if low >= 0 and high <= 1 else ("logits", 0.0)
    _log.warning("%s: 'visibility' is taken for %s; points above %g are seen", where, kind, threshold)
    return visibility > threshold
