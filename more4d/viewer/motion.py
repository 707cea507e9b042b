"""Motion that is drawn: places that are clicked, in any view, become strokes on the photo.

The first click of a stroke meets the thing that shall move; the others are where its point shall go. They are
taken in the plane through that point parallel to the photo, or nearer or farther by a factor.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.pipelines.motion_control import FOLLOW, MOST_POINTS, MOST_STROKES, MotionControl, Stroke
from more4d.runs.additions import move_item
from more4d.viewer.items import ViewedItem
from more4d.viewer.page import Page, RunPanel

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


ALL = "all of them"
COLOUR = (255, 220, 40)
BEFORE = 0.98
"""Strokes are drawn a little nearer to the photo's camera than what they lie on."""


class MotionPanel:
    """Strokes as one browser draws them."""

    def __init__(self, page: Page, gui: Any, runs: RunPanel, rewind: Callable[[], bool]) -> None:
        """Build the panel.

        Args:
            rewind: shows frame 0, and says whether it was another one.
        """
        self.page, self.runs, self._rewind = page, runs, rewind
        gui.add_markdown("Click on the thing that shall move, then on the places where it goes.")
        on = page.safely
        self.drawing = gui.add_checkbox("draw", False)
        self.depth = gui.add_slider(
            "depth", NEAREST, FARTHEST, 0.05, 1.0, hint="Of the next point, as a factor: 0.8 is nearer"
        )
        edit = gui.add_button_group("strokes", ("next stroke", "undo", "clear"))
        self.prompt = gui.add_text("prompt", "", hint="May be empty")
        self.follow = gui.add_slider(
            "follow",
            0.0,
            1.0,
            0.05,
            FOLLOW,
            hint="1: exactly, stiff; less: the network may redraw",
        )
        self.camera = gui.add_dropdown("film along", (ALL,))
        gui.add_button("make this motion", color="green").on_click(on(self._run))
        self.drawing.on_update(on(self._switch))
        edit.on_click(on(lambda: self._edit(edit.value)))

    def new_item(self) -> None:
        """Begin anew, on another photo."""
        self.strokes = StrokeDrawing(self.page.item)
        self.refresh()
        self._draw()

    def refresh(self) -> None:
        """Go on with the strokes, on what is new of the item."""
        self.strokes.item = self.page.item
        self.camera.options = (*self.page.item.cameras, ALL)

    def _switch(self) -> None:
        scene = self.page.client.scene
        self._draw()
        if not self.drawing.value:
            scene.remove_click_callback()
            return
        self._rewind()
        self.page.look_from_photo()
        scene.on_click()(lambda event: self.page.safely(lambda: self._click(event))(event))

    def _click(self, event: Any) -> None:
        if self._rewind():  # what was under the pointer is not what a stroke would begin at
            raise InputError("strokes are drawn on the photo, frame 0, which is shown again now; click anew")
        origin, direction = (
            torch.tensor(each, dtype=torch.float32) for each in (event.ray_origin, event.ray_direction)
        )
        self.strokes.click(origin, direction, self.depth.value)
        self._draw()

    def _edit(self, what: str) -> None:
        {"undo": self.strokes.undo, "clear": self.strokes.clear, "next stroke": self.strokes.finish}[what]()
        self._draw()

    def _draw(self) -> None:
        scene = self.page.client.scene
        with self.page.client.atomic():
            scene.remove_by_name("/strokes")
            for number, points in enumerate(self.strokes.strokes if self.drawing.value else ()):
                places = BEFORE * np.asarray(points)
                size = 0.012 * float(places[0, 2])
                scene.add_icosphere(f"/strokes/{number}/start", radius=size, color=COLOUR, position=places[0])
                if len(places) > 1:
                    ways = np.stack([places[:-1], places[1:]], 1)
                    scene.add_line_segments(
                        f"/strokes/{number}/way", ways, COLOUR, thickness=4, thickness_units="screen"
                    )

    def _run(self) -> None:
        item, library = self.page.item, self.page.library
        control = MotionControl(strokes=self.strokes.on_photo(), follow=min(max(self.follow.value, 0.0), 1.0))
        cameras = [name for name in item.cameras if self.camera.value in (name, ALL)]
        prompt, output = self.prompt.value.strip(), library.output

        def run(pipe: Any, progress: Any) -> Any:
            about = {"prompt": prompt, "cameras": cameras, "progress": progress}
            made = move_item(pipe, item.folder, output, control, **about)
            return made / cameras[0] if cameras else made

        self.runs.start(f"another motion of {item.folder.name}", run)
