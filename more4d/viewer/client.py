"""The view of one browser: its own panels, time, camera and editor; nothing here is shared with others."""

from collections.abc import Callable
from typing import Any

from more4d.viewer.drawing import Look
from more4d.viewer.items import COLOURINGS, POINTS, SPLATS, Library, ViewedItem
from more4d.viewer.motion import MotionPanel
from more4d.viewer.page import Page, RunPanel
from more4d.viewer.paths import PathPanel
from more4d.viewer.threads import Playback, Worker, next_time

BOTH, NOWHERE, EDITED = "both", "no camera", "the path that is edited"
SPEEDS = {"1/4": 0.25, "1/2": 0.5, "1": 1.0, "2": 2.0}


class ClientView(Page):
    """What one browser sees, and what happens when its panels are used."""

    def __init__(self, client: Any, library: Library, worker: Worker, made: Callable[[str], None]) -> None:
        """Build the panels of a browser that has connected.

        Args:
            made: is called with the name of an item whose files are new.
        """
        super().__init__(client, library, worker)
        self.playback = Playback(self._tick)
        self._build_panels(made)
        self.safely(self.choose_item)(None)

    def close(self) -> None:
        """The browser is gone; a run that it started goes on."""
        self.closed = True
        self.playback.stop()
        self.paths.close()

    # ---- panels

    def _build_panels(self, made: Callable[[str], None]) -> None:
        gui, names = self.client.gui, self.library.names()
        self.chosen = gui.add_dropdown("item", names)
        self.chosen.on_update(self.safely(self.choose_item))
        tabs = gui.add_tab_group()
        scene, path, motion, run = (tabs.add_tab(name) for name in ("scene", "path", "motion", "run"))
        with run:
            self.runs = RunPanel(self, gui, made)
        with scene:
            self._build_scene(gui)
        with path:
            self.paths = PathPanel(self, gui, self.runs)
        with motion:
            self.motion = MotionPanel(self, gui, self.runs, self._rewind)

    def _build_scene(self, gui: Any) -> None:
        self.shown = gui.add_dropdown("show", (POINTS,))
        self.colouring = gui.add_dropdown("colour by", COLOURINGS)
        self.invented = gui.add_checkbox("what was invented", True, hint="What was made for holes")
        self.size = gui.add_slider("size of points", 0.3, 3.0, 0.1, 1.0)
        for each in (self.shown, self.colouring, self.invented, self.size):
            each.on_update(self.safely(self._redraw))
        with gui.add_folder("time"):
            self.time = gui.add_slider("frame", 0.0, 1.0, 0.1, 0.0)
            self.playing = gui.add_checkbox("play", False)
            self.loop = gui.add_checkbox("loop", True)
            self.speed = gui.add_dropdown("speed", tuple(SPEEDS), initial_value="1")
            self.time.on_update(self.safely(self._show_time))
            self.playing.on_update(self.safely(self._play))
        with gui.add_folder("cameras"):
            self.frusta = gui.add_checkbox("show them", False)
            self.ride = gui.add_dropdown("fly along", (NOWHERE,), hint="The page's camera follows the path")
            photo = gui.add_button("the photo's camera")
            self.frusta.on_update(self.safely(self._show_cameras))
            self.ride.on_update(self.safely(self._ride))
            photo.on_click(self.safely(self.look_from_photo))

    # ---- scene, time and cameras

    def choose_item(self) -> None:
        """Show the item that the panel names, from its beginning."""
        self._take_up(self.library.item(self.chosen.value))
        self.time.value = 0.0
        self.paths.new_item()
        self.motion.new_item()
        self.look_from_photo()

    def refresh(self, name: str) -> None:
        """Take up what is new of an item; who looks at it keeps time, camera, path and strokes."""
        if self.closed:
            return
        self.chosen.options = self.library.names()
        if self.chosen.value == name:
            self._take_up(self.library.item(name))
            self.motion.refresh()

    def _take_up(self, item: ViewedItem) -> None:
        self.item = item
        layers = tuple(item.layers)
        self.shown.options = (*layers, BOTH) if len(layers) > 1 else layers
        self.time.max = float(max(item.frames - 1, 1))
        self.time.value = min(self.time.value, self.time.max)
        self._redraw()
        self.ride.options = (NOWHERE, EDITED, *item.cameras)
        self._show_cameras()

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

    def _ride(self) -> None:
        self.drawing.show_paths(self.ride.value == NOWHERE)
        self._show_time()

    def _show_time(self) -> None:
        time = self.time.value
        with self.client.atomic():
            self.drawing.move_to(time)
            if self.ride.value != NOWHERE:
                edited = self.ride.value == EDITED
                path = self.paths.path() if edited else self.item.cameras.get(self.ride.value)
                if path is not None:
                    self.look_along(path, time)

    def _rewind(self) -> bool:
        """Show frame 0 and stay there; whether it was another one."""
        moved = self.time.value > 0
        self.playing.value = False
        self.time.value = 0.0
        return moved

    def _play(self) -> None:
        if self.playing.value:
            self.playback.start()
        else:
            self.playback.stop()

    def _tick(self, elapsed_s: float) -> bool:
        with self.lock:
            rate = self.item.tracks.fps * SPEEDS.get(self.speed.value, 1.0)
            time = next_time(
                self.time.value, elapsed_s, rate=rate, frames=self.item.frames, loop=self.loop.value
            )
            self.time.value = self.item.frames - 1.0 if time is None else time
            if time is None:
                self.playing.value = False
        return time is not None
