"""The panel for motion that is drawn: clicks in the scene become strokes, and a new item follows them."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from more4d.foundation.errors import More4DError
from more4d.pipelines.motion_control import FOLLOW, MotionControl
from more4d.runs.additions import move_item
from more4d.viewer.strokes import FARTHEST, NEAREST, StrokeDrawing

if TYPE_CHECKING:
    from more4d.viewer.client import ClientView

ALL = "all of them"
COLOUR = (255, 220, 40)
BEFORE = 0.98
"""Strokes are drawn a little nearer to the photo's camera than what they lie on."""


class MotionPanel:
    """Strokes as one browser draws them."""

    def __init__(self, view: "ClientView", gui: Any) -> None:
        self.view = view
        gui.add_markdown("Click on the thing that shall move, then on the places where it goes.")
        on = view.safely
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
        self.strokes = StrokeDrawing(self.view.item)
        self.camera.options = (*self.view.item.cameras, ALL) if self.view.item.cameras else (ALL,)
        self._draw()

    def _switch(self) -> None:
        scene = self.view.client.scene
        self._draw()
        if not self.drawing.value:
            scene.remove_click_callback()
            return
        self.view.time.value = 0.0
        self.view.look_from_photo()
        scene.on_click()(self._clicked)

    def _clicked(self, event: Any) -> None:
        try:
            with self.view.lock:
                origin, direction = (
                    torch.tensor(each, dtype=torch.float32)
                    for each in (event.ray_origin, event.ray_direction)
                )
                self.strokes.click(origin, direction, self.depth.value)
                self._draw()
        except More4DError as error:
            self.view.refuse(error)

    def _edit(self, what: str) -> None:
        {"undo": self.strokes.undo, "clear": self.strokes.clear, "next stroke": self.strokes.finish}[what]()
        self._draw()

    def _draw(self) -> None:
        scene = self.view.client.scene
        with self.view.client.atomic():
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
        item, library = self.view.item, self.view.library
        control = MotionControl(strokes=self.strokes.on_photo(), follow=min(max(self.follow.value, 0.0), 1.0))
        cameras = [name for name in item.cameras if self.camera.value in (name, ALL)]
        prompt, output = self.prompt.value.strip(), library.output

        def run(pipe: Any, progress: Any) -> Any:
            about = {"prompt": prompt, "cameras": cameras, "progress": progress}
            made = move_item(pipe, item.folder, output, control, **about)
            return made / cameras[0] if cameras else made

        self.view.runs.start(f"another motion of {item.folder.name}", run)
