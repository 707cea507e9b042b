"""What panels share: the page of one browser, its camera and its notifications; and the panel of runs."""

import base64
import html
import logging
import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np

from more4d.foundation.errors import More4DError, one_line
from more4d.geometry.camera import CameraPath
from more4d.geometry.poses import rigid_inverse
from more4d.runs.reconstruct import film_of
from more4d.viewer.drawing import Drawing, vertical_fov
from more4d.viewer.items import Library, ViewedItem
from more4d.viewer.threads import Run, Worker

_log = logging.getLogger(__name__)

UP = (0.0, -1.0, 0.0)
MOST_FILM_BYTES = 30 << 20
"""A larger film is named, not shown."""
VIDEO = (
    '<p style="margin:0.6em">{title}</p><video controls autoplay loop muted style="width:100%" '
    'src="data:video/mp4;base64,{data}"></video>'
)


class Page:
    """The page of one browser; nothing of it is shared with others.

    Attributes:
        client: of viser.
        library, worker: shared by all pages.
        drawing: of the scene.
        lock: held while a panel acts.
        closed: whether the browser is gone.
        item: that is shown.
    """

    item: ViewedItem

    def __init__(self, client: Any, library: Library, worker: Worker) -> None:
        self.client, self.library, self.worker = client, library, worker
        self.drawing = Drawing(client.scene)
        self.lock = threading.RLock()
        self.closed = False
        client.scene.set_up_direction(UP)

    def safely(self, act: Callable[[], None]) -> Callable[[Any], None]:
        """`act` for a panel: one at a time, and its errors are notifications."""

        @wraps(act)
        def handle(event: Any) -> None:
            try:
                with self.lock:
                    act()
            except More4DError as error:
                self.refuse(error)
            except Exception as error:  # noqa: BLE001 - viser would only print it
                _log.exception("a panel failed")
                self.refuse(More4DError(f"{type(error).__name__}: {error}; this is a fault in more4d"))

        return handle

    def refuse(self, error: More4DError) -> None:
        """Say why something was not done."""
        self.notify("This cannot be done", one_line(str(error)), "red")

    def notify(self, title: str, body: str, color: str) -> None:
        """Show a text in a corner of the page for a while."""
        if self.closed:
            return
        self.client.add_notification(title, body, color=color, auto_close_seconds=12.0)

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


class RunPanel:
    """Runs as one browser sees them; a `threads.Watcher`."""

    def __init__(self, page: Page, gui: Any, made: Callable[[str], None]) -> None:
        self.page, self._made = page, made
        self.text = gui.add_markdown("Nothing has been run from this page.")
        self.bar = gui.add_progress_bar(0.0, visible=False)
        self.film = gui.add_html("", visible=False)

    def start(self, title: str, run: Run) -> None:
        """Start a run, whose end is a notification.

        Raises:
            InputError: another one goes on.
        """
        with self.page.lock:  # what the run says comes after this, also where it fails at once
            self.page.worker.start(run, self)
            self.text.content = title
            self.bar.visible = True
            self.bar.value = 0.0
        self.page.notify("Started", f"{title}; the tab 'run' shows how it goes on", "blue")

    def progress(self, stage: str, done: int, total: int) -> None:
        """As `pipelines.sampling.Progress`."""
        if self.page.closed:
            return
        with self.page.lock:
            self.text.content = f"{stage}: {done} of {total}"
            self.bar.value = 100.0 * done / max(total, 1)

    def finished(self, film: Path) -> None:
        """Show the film in this folder."""
        file = film_of(film)
        item = film.name if file is None else film.parent.name
        self._made(item)
        if self.page.closed:
            return
        self._end("Done.")
        if file is not None and file.suffix == ".mp4" and file.stat().st_size < MOST_FILM_BYTES:
            data = base64.b64encode(file.read_bytes()).decode()
            title = html.escape(f"{item}, camera {film.name}")
            self.film.content = VIDEO.format(title=title, data=data)
            self.film.visible = True
        self.page.notify("Done", item if file is None else f"{item}/{film.name}", "green")

    def failed(self, reason: str) -> None:
        """Say why."""
        if self.page.closed:
            return
        self._end("It failed.")
        self.page.notify("The run failed", reason, "red")

    def _end(self, text: str) -> None:
        with self.page.lock:
            self.bar.visible = False
            self.text.content = text
