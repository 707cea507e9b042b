"""Motion that is drawn: places that are clicked, in any view, become strokes on the photo.

The first click of a stroke meets the thing that shall move; the others are where its point shall go. They are
taken in the plane through that point parallel to the photo, or nearer or farther by a factor.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.pipelines.motion_control import MOST_POINTS, MOST_STROKES, Stroke
from more4d.viewer.items import ViewedItem

Points = tuple[tuple[float, float, float], ...]
NEAREST, FARTHEST = 0.3, 3.0


def on_plane(
    origin: Float[Tensor, "3"], direction: Float[Tensor, "3"], depth_m: float
) -> Float[Tensor, "3"] | None:
    """Where a ray meets the plane z = `depth_m`; None if it runs away from it or along it."""
    # origin + s direction has z = depth_m
    if abs(float(direction[2])) < 1e-6 * float(direction.norm()):
        return None
    along = (depth_m - origin[2]) / direction[2]
    return origin + along * direction if along > 0 else None


@dataclass
class StrokeDrawing:
    """Strokes that are being drawn on one item: points of the world, metres; the last one is added to."""

    item: ViewedItem
    strokes: list[Points] = field(default_factory=list)
    _open: bool = False

    def click(self, origin: Float[Tensor, "3"], direction: Float[Tensor, "3"], depth: float = 1.0) -> None:
        """Begin a stroke, or go on with the one that is open.

        Args:
            origin, direction: of the ray under the pointer, in the world.
            depth: factor on the depth at the start, for this point.

        Raises:
            InputError: nothing is there, or there are too many strokes or points.
        """
        if not self._open:
            start = self.item.nearest_hit(origin, direction)
            if start is None:
                raise InputError("there is nothing of the photo here; click on the thing that shall move")
            if len(self.strokes) >= MOST_STROKES:
                raise InputError(f"there are {MOST_STROKES} strokes, as many as can be followed")
            self.strokes.append((tuple(start.tolist()),))
            self._open = True
            return
        points = self.strokes[-1]
        if len(points) >= MOST_POINTS:
            raise InputError(f"a stroke has at most {MOST_POINTS} points; begin another one")
        depth = min(max(depth, NEAREST), FARTHEST)
        goal = on_plane(origin, direction, points[0][2] * depth)
        if goal is None:
            raise InputError("this does not lie in the depth of the stroke; look at it more from the front")
        self.strokes[-1] = (*points, tuple(goal.tolist()))

    def finish(self) -> None:
        """The next click begins another stroke."""
        self._open = False

    def undo(self) -> None:
        """Take the last click back."""
        if not self.strokes:
            return
        points = self.strokes.pop()
        if len(points) > 1:
            self.strokes.append(points[:-1])
        self._open = len(points) > 1

    def clear(self) -> None:
        """Begin anew."""
        self.strokes, self._open = [], False

    def on_photo(self) -> tuple[Stroke, ...]:
        """The strokes in pixels of the photo, as `runs.additions.move_item` takes them.

        Raises:
            InputError: there is none, or one has a single point.
        """
        if not self.strokes or any(len(points) < 2 for points in self.strokes):
            raise InputError("a stroke has two points at least: click on a thing, and where it shall go")
        tracks = self.item.tracks
        return tuple(
            stroke_on_photo(points, tracks.camera, tracks.height, tracks.width) for points in self.strokes
        )


def stroke_on_photo(points: Points, camera: Camera, height: int, width: int) -> Stroke:
    """Points of the world as a stroke in pixels of the photo, with depths as factors of the first."""
    position, depth_m = camera.project(torch.tensor(points, dtype=torch.float64))
    pixels = position * torch.tensor([width, height])
    return Stroke.of(pixels.tolist(), depths=(depth_m / depth_m[0]).tolist())
