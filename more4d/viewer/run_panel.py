"""The panel of runs: how far the one that goes on is, and the film that it made."""

import base64
import html
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from more4d.runs.reconstruct import film_of
from more4d.viewer.worker import Run

if TYPE_CHECKING:
    from more4d.viewer.client import ClientView

MOST_FILM_BYTES = 30 << 20
"""A larger film is named, not shown."""
VIDEO = (
    '<p style="margin:0.6em">{title}</p><video controls autoplay loop muted style="width:100%" '
    'src="data:video/mp4;base64,{data}"></video>'
)


class RunPanel:
    """Runs as one browser sees them; a `worker.Watcher`."""

    def __init__(self, view: "ClientView", gui: Any, made: Callable[[str], None]) -> None:
        self.view, self._made = view, made
        self.text = gui.add_markdown("Nothing has been run from this page.")
        self.bar = gui.add_progress_bar(0.0, visible=False)
        self.film = gui.add_html("", visible=False)

    def start(self, title: str, run: Run) -> None:
        """Start a run, whose end is a notification.

        Raises:
            InputError: another one goes on.
        """
        self.view.worker.start(run, self)
        self._title = title
        self.bar.visible = True
        self.bar.value = 0.0
        self.view.notify("Started", f"{title}; the tab 'run' shows how it goes on", "blue")

    def progress(self, stage: str, done: int, total: int) -> None:
        """As `pipelines.sampling.Progress`."""
        if self.view.closed:
            return
        self.text.content = f"{stage}: {done} of {total}"
        self.bar.value = 100.0 * done / max(total, 1)

    def finished(self, film: Path) -> None:
        """Show the film in this folder."""
        item = film.name if film_of(film) is None else film.parent.name
        self._made(item)
        if self.view.closed:
            return
        self.bar.visible = False
        self.text.content = "Done."
        file = film_of(film)
        if file is not None and file.suffix == ".mp4" and file.stat().st_size < MOST_FILM_BYTES:
            data = base64.b64encode(file.read_bytes()).decode()
            title = html.escape(f"{item}, camera {film.name}")
            self.film.content = VIDEO.format(title=title, data=data)
            self.film.visible = True
        self.view.notify("Done", f"{item}/{film.name}", "green")

    def failed(self, reason: str) -> None:
        """Say why."""
        if self.view.closed:
            return
        self.bar.visible = False
        self.text.content = "It failed."
        self.view.notify("The run failed", reason, "red")
