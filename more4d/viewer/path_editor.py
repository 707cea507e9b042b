"""A camera path that is being drawn: keys that are added, changed and undone; the spline is that of films."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.keyframes import Keyframe, keyframe_path
from more4d.geometry.poses import so3_exp

MOST_KEYS = 64
LEAST_ZOOM, MOST_ZOOM = 0.2, 5.0


@dataclass(frozen=True, kw_only=True)
class Key:
    """A camera of the path.

    Attributes:
        position: metres.
        upright: camera-to-world rotation, as the page's camera has it, which does not roll.
        roll_deg: clockwise, on top of that.
        zoom: focal length over that of the photo.
        time: in any unit; they increase along the path.
    """

    position: Float[np.ndarray, "3"]
    upright: Float[np.ndarray, "3 3"]
    roll_deg: float | int = 0.0
    zoom: float = 1.0
    time: float = 0.0

    @property
    def keyframe(self) -> Keyframe:
        """As camera paths take it."""
        roll = so3_exp(torch.tensor([0.0, 0.0, np.radians(self.roll_deg)], dtype=torch.float64))
        return Keyframe(
            time=self.time,
            position=torch.from_numpy(self.position.astype(np.float64)),
            rotation=torch.from_numpy(self.upright.astype(np.float64)) @ roll,
            focal_factor=self.zoom,
        )

    @classmethod
    def of(cls, keyframe: Keyframe) -> "Key":
        """A key of a file: what rolls there is part of its rotation."""
        return cls(
            position=keyframe.position.numpy(),
            upright=keyframe.rotation.numpy(),
            zoom=keyframe.focal_factor,
            time=keyframe.time,
        )


PHOTO_KEY = Key(position=np.zeros(3), upright=np.eye(3))
"""Every path that is drawn begins at the photo: there is no hole in its first frame."""


class PathEditor:
    """The keys of a path, and what they were before.

    Attributes:
        keys: the first is the photo's camera, unless a file says otherwise; it stays.
    """

    def __init__(self) -> None:
        self.keys: tuple[Key, ...] = (PHOTO_KEY,)
        self._before: list[tuple[Key, ...]] = []
        self._dragged: int | None = None

    def add(self, key: Key) -> None:
        """Add a key at the end.

        Raises:
            InputError: there are too many.
        """
        if len(self.keys) >= MOST_KEYS:
            raise InputError(f"a path has at most {MOST_KEYS} keys; delete one first")
        self._set((*self.keys, replace(key, time=self.keys[-1].time + 1)))

    def change(self, number: int, *, roll_deg: float, zoom: float) -> None:
        """Turn a key and change its lens; while a slider is dragged, all of it is one change.

        Raises:
            InputError: it is the first one, or does not exist.
        """
        self._check(number)
        key = self.keys[number]
        if (key.roll_deg, key.zoom) != (roll_deg, zoom):
            zoom = min(max(zoom, LEAST_ZOOM), MOST_ZOOM)
            changed = replace(key, roll_deg=roll_deg, zoom=zoom)
            self._set((*self.keys[:number], changed, *self.keys[number + 1 :]), dragged=number)

    def place(self, number: int, key: Key) -> None:
        """Put another camera where a key is, at its time.

        Raises:
            InputError: as `change`.
        """
        self._check(number)
        moved = replace(key, time=self.keys[number].time)
        self._set((*self.keys[:number], moved, *self.keys[number + 1 :]))

    def delete(self, number: int) -> None:
        """Take a key out.

        Raises:
            InputError: as `change`.
        """
        self._check(number)
        self._set((*self.keys[:number], *self.keys[number + 1 :]))

    def swap(self, number: int, other: int) -> None:
        """Two keys change places; times stay.

        Raises:
            InputError: as `change`.
        """
        self._check(number)
        self._check(other)
        keys = list(self.keys)
        keys[number] = replace(self.keys[other], time=self.keys[number].time)
        keys[other] = replace(self.keys[number], time=self.keys[other].time)
        self._set(tuple(keys))

    def load(self, keyframes: Sequence[Keyframe]) -> None:
        """Go on with the keys of a file.

        Raises:
            InputError: there are too many.
        """
        if len(keyframes) > MOST_KEYS:
            raise InputError(f"the path has {len(keyframes)} keys; at most {MOST_KEYS} can be edited")
        self._set(tuple(Key.of(keyframe) for keyframe in keyframes))

    def undo(self) -> None:
        """Take the last change back, if there is one."""
        if self._before:
            self.keys, self._dragged = self._before.pop(), None

    def _set(self, keys: tuple[Key, ...], *, dragged: int | None = None) -> None:
        if dragged is None or dragged != self._dragged:
            self._before.append(self.keys)
        self.keys, self._dragged = keys, dragged

    def _check(self, number: int) -> None:
        if not 0 <= number < len(self.keys):
            raise InputError(f"there is no key {number}; the path has {len(self.keys)}")
        if number == 0:
            raise InputError("the path begins at its first key, the photo's camera; that one stays")

    @property
    def keyframes(self) -> list[Keyframe]:
        return [key.keyframe for key in self.keys]

    def path(self, name: str, *, frames: int, camera: Camera) -> CameraPath:
        """The path as it is filmed (`geometry.keyframes.keyframe_path`)."""
        return keyframe_path(name, self.keyframes, frames=frames, camera=camera)

    def key_frames(self, frames: int) -> list[int]:
        """The frame that is nearest to each key."""
        first, last = self.keys[0].time, self.keys[-1].time
        span = last - first or 1.0
        return [round((key.time - first) / span * (frames - 1)) for key in self.keys]
