"""The view of one browser: its own panels, time, camera and editor; nothing here is shared with others."""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from more4d.foundation.errors import More4DError
from more4d.geometry.camera import CameraPath
from more4d.geometry.poses import rigid_inverse
from more4d.viewer.drawing import Drawing, Look, vertical_fov
from more4d.viewer.items import POINTS, SPLATS, Library
from more4d.viewer.layers import COLOURINGS
from more4d.viewer.playback import Playback, next_time
from more4d.viewer.worker import Worker

UP = np.array([0.0, -1.0, 0.0])
BOTH, NOWHERE = "both", "no camera"
SPEEDS = ("0.25", "0.5", "1", "2")


class ClientView:
    """What one browser sees, and what happens when its panels are used."""

    def __init__(self, client: Any, library: Library, worker: Worker) -> None:
        self.client, self.library, self.worker = client, library, worker
        self.drawing = Drawing(client.scene)
        self.playback = Playback(self._tick)
        self._lock = threading.RLock()
        client.scene.set_up_direction(tuple(UP))
        self._build_panels()
        self._choose_item()

    def close(self) -> None:
        """The browser is gone."""
        self.playback.stop()

    # ---- panels

    def _build_panels(self) -> None:
        gui, names = self.client.gui, self.library.names()
        self.chosen = gui.add_dropdown("item", names, visible=len(names) > 1)
        self.chosen.on_update(self._safely(self._choose_item))
        tabs = gui.add_tab_group()
        with tabs.add_tab("scene"):
            self._build_scene(gui)

    def _build_scene(self, gui: Any) -> None:
        self.shown = gui.add_dropdown("show", (POINTS,))
        self.colouring = gui.add_dropdown("colour by", COLOURINGS)
        self.invented = gui.add_checkbox("what was invented", True, hint="What was made for holes")
        self.size = gui.add_slider("size of points", 0.3, 3.0, 0.1, 1.0)
        for each in (self.shown, self.colouring, self.invented, self.size):
            each.on_update(self._safely(self._redraw))
        with gui.add_folder("time"):
            self.time = gui.add_slider("frame", 0.0, 1.0, 0.1, 0.0)
            self.playing = gui.add_checkbox("play", False)
            self.loop = gui.add_checkbox("loop", True)
            self.speed = gui.add_dropdown("speed", SPEEDS, "1")
            self.time.on_update(self._safely(self._show_time))
            self.playing.on_update(self._safely(self._play))
        with gui.add_folder("cameras"):
            self.frusta = gui.add_checkbox("show them", True)
            self.ride = gui.add_dropdown("fly along", (NOWHERE,), hint="The page's camera follows the path")
            photo = gui.add_button("the photo's camera")
            self.frusta.on_update(self._safely(self._show_cameras))
            self.ride.on_update(self._safely(self._show_time))
            photo.on_click(self._safely(self.look_from_photo))

    def _safely(self, act: Callable[[], None]) -> Callable[[Any], None]:
        """`act` for a panel: one at a time, and its errors are notifications."""

        @wraps(act)
        def handle(event: Any) -> None:
            try:
                with self._lock:
                    act()
            except More4DError as error:
                self.notify("This cannot be done", str(error), "red")

        return handle

    def notify(self, title: str, body: str, color: str) -> None:
        self.client.add_notification(title, body, color=color, auto_close_seconds=12.0)

    # ---- scene, time and cameras

    def _choose_item(self) -> None:
        self.item = self.library.item(self.chosen.value)
        layers = tuple(self.item.layers)
        self.shown.options = (*layers, BOTH) if len(layers) > 1 else layers
        self.time.max = float(max(self.item.frames - 1, 1))
        self.ride.options = (NOWHERE, *self.item.cameras)
        self.time.value = 0.0
        self._redraw()
        self._show_cameras()
        self.look_from_photo()

    @property
    def look(self) -> Look:
        """As the panel says."""
        layers = (POINTS, SPLATS) if self.shown.value == BOTH else (self.shown.value,)
        return Look(
            layers=layers,
            colouring=self.colouring.value,
            invented=self.invented.value,
            size=min(max(self.size.value, 0.1), 5.0),
        )

    def _redraw(self) -> None:
        with self.client.atomic():
            self.drawing.show(self.item, self.look, self.time.value)

    def _show_cameras(self) -> None:
        with self.client.atomic():
            self.drawing.show_cameras(self.item, self.item.cameras if self.frusta.value else {})

    def _show_time(self) -> None:
        time = self.time.value
        with self.client.atomic():
            self.drawing.move_to(time)
            path = self.item.cameras.get(self.ride.value)
            if path is not None:
                self.look_along(path, time)

    def _play(self) -> None:
        if self.playing.value:
            self.playback.start()
        else:
            self.playback.stop()

    def _tick(self, elapsed_s: float) -> bool:
        with self._lock:
            rate = self.item.tracks.fps * float(self.speed.value)
            time = next_time(
                self.time.value, elapsed_s, rate=rate, frames=self.item.frames, loop=self.loop.value
            )
            self.time.value = self.item.frames - 1.0 if time is None else time
            if time is None:
                self.playing.value = False
        return time is not None

    def look_from_photo(self) -> None:
        """Put the page's camera where the photo was taken."""
        camera = self.item.tracks.camera
        pose = np.eye(4)
        self._place(pose, 2 * float(np.arctan(0.5 / camera.fy)))

    def look_along(self, path: CameraPath, time: float) -> None:
        """Put the page's camera where a path is at a time."""
        frame = min(max(round(time), 0), path.frames - 1)
        pose = rigid_inverse(path.world_to_camera[frame].double()).numpy()
        self._place(pose, vertical_fov(path, frame))

    def _place(self, pose: np.ndarray, fov: float) -> None:
        camera = self.client.camera
        camera.position = pose[:3, 3]
        camera.look_at = pose[:3, 3] + self.item.scene_depth_m * pose[:3, 2]
        camera.up_direction = -pose[:3, 1]
        camera.fov = fov
