"""Trajectories of NeoVerse: operations at key frames, or matrices, as JSON; matrices as npz.

Operations of a key frame are multiplied onto the pose of the key frame before it; between key frames
rotations follow the shortest turn at even speed and positions straight lines. Values that an operation does
not give are those of NeoVerse's code (30 degrees, radius 0.5, distance 0.1); its documentation has others.
`zoom_ratio` is the factor on the focal length that is reached, evenly, at the last frame.
Poses are camera-to-world in OpenCV axes, relative to the camera of the video's frame.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from more4d.cameras.formats import FORMATS
from more4d.cameras.raw_path import MOST_FRAMES, RawCameraPath, read_poses
from more4d.files.atomic import load_arrays
from more4d.foundation.documents import DocumentError, check_shape
from more4d.foundation.errors import InputError, shown

FRAMES = 81
ANGLE_DEG, RADIUS, DISTANCE = 30.0, 0.5, 0.1
_FORMAT = FORMATS["neoverse"]
_KEYFRAMES = {
    "keyframes": [{str: [{str: {"angle?": float, "distance?": float, "orbit_radius?": float}}]}],
}
_MATRICES = {"frame_indices": [int], "frame_matrices": [[[float]]]}


def turn(axis: int, angle_deg: float) -> np.ndarray:
    """Camera-to-world of a turn: about y to the right, about x upwards."""
    cosine, sine = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    pose = np.eye(4)
    one, other = ((2, 0), (1, 2))[axis == 0]
    pose[one, one] = pose[other, other] = cosine
    pose[one, other], pose[other, one] = -sine, sine
    return pose


def shift(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, 3] = x, y, z
    return pose


def _orbit(angle_deg: float, radius: float) -> np.ndarray:
    """Round the point at `radius` ahead; a positive angle moves the camera to the right."""
    return shift(z=radius) @ turn(1, -angle_deg) @ shift(z=-radius)


OPERATIONS: dict[str, Callable[[float, float, float], np.ndarray]] = {
    "static": lambda angle, distance, radius: np.eye(4),
    "pan_left": lambda angle, distance, radius: turn(1, -angle),
    "pan_right": lambda angle, distance, radius: turn(1, angle),
    "tilt_up": lambda angle, distance, radius: turn(0, angle),
    "tilt_down": lambda angle, distance, radius: turn(0, -angle),
    "move_left": lambda angle, distance, radius: shift(x=-distance),
    "move_right": lambda angle, distance, radius: shift(x=distance),
    "push_in": lambda angle, distance, radius: shift(z=distance),
    "pull_out": lambda angle, distance, radius: shift(z=-distance),
    "boom_up": lambda angle, distance, radius: shift(y=-distance),
    "boom_down": lambda angle, distance, radius: shift(y=distance),
    "orbit_left": lambda angle, distance, radius: _orbit(-angle, radius),
    "orbit_right": lambda angle, distance, radius: _orbit(angle, radius),
}
"""Camera-to-world of every operation, of (angle in degrees, distance, radius)."""


def is_neoverse(content: dict[str, Any]) -> bool:
    """Whether a JSON object is a trajectory of NeoVerse; our own files have `keyframes`, too."""
    keys = content.get("keyframes")
    if isinstance(keys, list) and keys:
        return all(isinstance(key, dict) and len(key) == 1 and next(iter(key)).isdigit() for key in keys)
    return isinstance(content.get("trajectory"), dict)


def read_neoverse(path: Path, content: dict[str, Any]) -> RawCameraPath:
    """A trajectory in JSON.

    Raises:
        InputError: an operation does not exist, frames are out of order, or matrices cannot be used.
    """
    frames = content.get("num_frames", FRAMES)
    if isinstance(frames, bool) or not isinstance(frames, int) or not 2 <= frames <= MOST_FRAMES:
        raise InputError(f"{path}: 'num_frames' must lie between 2 and {MOST_FRAMES}, got {shown(frames)}")
    trajectory = content.get("trajectory")
    if isinstance(trajectory, dict) and isinstance(trajectory.get("file"), str):
        return read_neoverse_arrays(path.parent / trajectory["file"], frames, zoom=_zoom(path, content))
    if trajectory is not None:
        _check(path, trajectory, _MATRICES)
        matrices = trajectory["frame_indices"], trajectory["frame_matrices"]
        return _of_matrices(path, *matrices, frames, zoom=_zoom(path, content))
    _check(path, content, _KEYFRAMES)
    times, poses, pose = [], [], np.eye(4)
    guessed = False
    for key in content["keyframes"]:
        frame, operations = next(iter(key.items()))
        for operation in operations:
            for name, values in operation.items():
                if name not in OPERATIONS:
                    raise InputError(
                        f"{path}: frame {frame} has the operation {shown(name)}; there are "
                        f"{', '.join(OPERATIONS)}"
                    )
                given = (values.get("angle"), values.get("distance"), values.get("orbit_radius"))
                guessed |= name.startswith("orbit") and None in (given[0], given[2])
                usual = (ANGLE_DEG, DISTANCE, RADIUS)
                chosen = [
                    float(own if value is None else value) for value, own in zip(given, usual, strict=True)
                ]
                pose = pose @ OPERATIONS[name](*chosen)
        times.append(int(frame))
        poses.append(pose)
    notes = [f"orbits are of {ANGLE_DEG:g} degrees and radius {RADIUS:g} if not said"] if guessed else []
    zoom = _zoom(path, content)
    return _interpolated(path, times, np.stack(poses), frames, tuple(notes), zoom=zoom)


def read_neoverse_arrays(path: Path, frames: int | None = None, *, zoom: float = 1.0) -> RawCameraPath:
    """An npz with `frame_indices` and `frame_matrices`.

    Args:
        frames: that they are interpolated to; by default as many as there are matrices.
        zoom: factor on the focal length at the last frame.

    Raises:
        InputError: an array is missing or cannot be used.
    """
    arrays = load_arrays(path)
    for name in ("frame_indices", "frame_matrices"):
        if name not in arrays:
            raise InputError(f"{path} has no array '{name}'; NeoVerse's has frame_indices and frame_matrices")
    indices = np.asarray(arrays["frame_indices"]).ravel()
    return _of_matrices(path, indices.tolist(), arrays["frame_matrices"], frames, zoom=zoom)


def _of_matrices(
    path: Path, indices: list[Any], matrices: Any, frames: int | None, *, zoom: float
) -> RawCameraPath:
    poses = read_poses(matrices, path, axes=_FORMAT.axes, maps=_FORMAT.maps)
    if len(indices) != len(poses):
        raise InputError(f"{path}: {len(indices)} frame_indices and {len(poses)} frame_matrices; give pairs")
    return _interpolated(path, indices, poses, frames or len(poses), (), zoom=zoom)


def _zoom(path: Path, content: dict[str, Any]) -> float:
    value = content.get("zoom_ratio", 1.0)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.05 <= value <= 20:
        raise InputError(f"{path}: 'zoom_ratio' must be a factor between 0.05 and 20, got {shown(value)}")
    return float(value)


def _interpolated(
    path: Path, times: list[int], poses: np.ndarray, frames: int, notes: tuple[str, ...], *, zoom: float
) -> RawCameraPath:
    """Key poses as `frames` poses: even turns and straight lines between them."""
    from scipy.spatial.transform import Rotation, Slerp

    at = np.array(times, dtype=np.float64)
    if len(at) < 2 or not (np.diff(at) > 0).all() or at[0] != 0:
        raise InputError(f"{path}: key frames must begin with 0 and increase, got {shown(times)[:60]}")
    query = np.linspace(0, at[-1], frames)
    filled = np.tile(np.eye(4), (frames, 1, 1))
    filled[:, :3, :3] = Slerp(at, Rotation.from_matrix(poses[:, :3, :3]))(query).as_matrix()
    filled[:, :3, 3] = np.stack([np.interp(query, at, poses[:, axis, 3]) for axis in range(3)], -1)
    lens = None
    if zoom != 1:
        # The focal length grows evenly to the ratio; of what it starts from nothing is said.
        lens = np.linspace(1, zoom, frames)[:, None] * [1.0, 1.0, 0.0, 0.0] + [0.0, 0.0, 0.5, 0.5]
    return RawCameraPath(
        camera_to_world=filled, intrinsics=lens, zoom_only=True, source=_FORMAT.name, notes=notes
    )


def _check(path: Path, value: Any, shape: Any) -> None:
    try:
        check_shape(value, shape)
    except DocumentError as error:
        raise InputError(f"{path} {error}") from error
