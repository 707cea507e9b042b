"""The panel of the path editor: keys from the page's camera, the holes along the path, and its film."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from more4d.files.atomic import write_bytes
from more4d.files.depth_and_cameras import keyframes_to_json, load_keyframes
from more4d.foundation.errors import InputError
from more4d.geometry.camera import CameraPath
from more4d.pipelines.camera_report import film_holes
from more4d.pipelines.cameras import folder_name
from more4d.runs.additions import film_item, free_name
from more4d.viewer.path_editor import LEAST_ZOOM, MOST_ZOOM, Key, PathEditor
from more4d.viewer.worker import Newest

if TYPE_CHECKING:
    from more4d.viewer.client import ClientView

PATHS = "paths"
"""Folder of an item for keys of paths; `--camera ITEM/paths/NAME.json` films them, too."""
NOTHING = "-"


class PathPanel:
    """The editor as one browser sees it."""

    def __init__(self, view: "ClientView", gui: Any) -> None:
        self.view, self.editor, self._newest = view, PathEditor(), Newest()
        gui.add_markdown("Move the page's camera, and add what it sees to the path.")
        on = view.safely
        gui.add_button("add this view").on_click(on(self._add))
        self.key = gui.add_dropdown("key", ("0: photo",))
        self.zoom = gui.add_slider("zoom", LEAST_ZOOM, MOST_ZOOM, 0.05, 1.0)
        self.roll = gui.add_slider("roll, degrees", -180.0, 180.0, 1.0, 0.0)
        order = gui.add_button_group("order", ("earlier", "later"))
        edit = gui.add_button_group("edit", ("replace", "go to", "delete", "undo"))
        self.holes = gui.add_uplot(
            (np.arange(2.0), np.zeros(2)),
            ({"label": "frame"}, {"label": "holes, %", "stroke": "#d6286e", "width": 2}),
            title="holes along the path, %",
            scales={"x": {"time": False}},
            aspect=2.0,
        )
        self.measured = gui.add_markdown("")
        self.name = gui.add_text("name", "path")
        files = gui.add_button_group("keys", ("save", "download"))
        self.saved = gui.add_dropdown("open", (NOTHING,))
        gui.add_button("film this", color="green").on_click(on(self._film))
        self.key.on_update(on(self._chosen))
        self.zoom.on_update(on(self._turned))
        self.roll.on_update(on(self._turned))
        actions = {
            **{"replace": self._replace, "go to": self._go_to, "delete": self._delete, "undo": self._undo},
            **{"earlier": lambda: self._swap(-1), "later": lambda: self._swap(1)},
            **{"save": self._save, "download": self._download},
        }
        for group in (order, edit, files):
            group.on_click(on(lambda group=group: actions[group.value]()))
        self.saved.on_update(on(self._open))

    @property
    def number(self) -> int:
        """Of the chosen key."""
        return min(int(self.key.value.partition(":")[0]), len(self.editor.keys) - 1)

    def path(self) -> CameraPath:
        """As it is filmed now."""
        item = self.view.item
        name = folder_name(self.name.value).replace(".", "_")
        return self.editor.path(name, frames=item.frames, camera=item.tracks.camera)

    def close(self) -> None:
        """Measure no more."""
        self._newest.close()

    def new_item(self) -> None:
        """Begin another path, of another item."""
        self.editor = PathEditor()
        self._list_saved()
        self._changed(0)

    def _add(self) -> None:
        self.editor.add(self._page_key())
        self._changed(len(self.editor.keys) - 1)

    def _replace(self) -> None:
        self.editor.place(self.number, self._page_key())
        self._changed(self.number)

    def _delete(self) -> None:
        self.editor.delete(self.number)
        self._changed(self.number)

    def _swap(self, by: int) -> None:
        number = self.number
        self.editor.swap(number, number + by)
        self._changed(number + by)

    def _undo(self) -> None:
        self.editor.undo()
        self._changed(self.number)

    def _go_to(self) -> None:
        frame = self.editor.key_frames(self.view.item.frames)[self.number]
        self.view.look_along(self.path(), frame)

    def _turned(self) -> None:
        if self.number:
            self.editor.change(self.number, roll_deg=self.roll.value, zoom=self.zoom.value)
            self._changed(self.number)

    def _chosen(self) -> None:
        key = self.editor.keys[self.number]
        self.zoom.value, self.roll.value = key.zoom, key.roll_deg

    def _page_key(self) -> Key:
        """What the page's camera sees."""
        camera = self.view.client.camera
        fy = 0.5 / math.tan(camera.fov / 2)
        return Key(
            position=np.asarray(camera.position, dtype=np.float64),
            upright=rotation_of(camera.wxyz),
            zoom=min(max(fy / self.view.item.tracks.camera.fy, LEAST_ZOOM), MOST_ZOOM),
        )

    def _changed(self, number: int) -> None:
        """Draw the path, and measure it when there is time."""
        keys = self.editor.keys
        self.key.options = ("0: photo", *map(str, range(1, len(keys))))
        self.key.value = self.key.options[max(number, 0)]
        self._chosen()
        item, path = self.view.item, self.path()
        with self.view.client.atomic():
            shown = path if len(keys) > 1 else None
            self.view.drawing.show_edited(item, shown, self.editor.key_frames(item.frames))
        if len(keys) > 1:
            self._newest.ask(lambda: self._measure(path))
        else:
            self.measured.content = ""

    def _measure(self, path: CameraPath) -> None:
        _, holes = film_holes(path, self.view.item.tracks)
        shares = 100 * holes.float().mean((1, 2)).double().numpy()
        if self.view.closed:
            return
        self.holes.data = (np.arange(len(shares), dtype=np.float64), shares)
        worst = int(shares.argmax())
        self.measured.content = (
            f"holes: {shares.mean():.1f} % on average, {shares[worst]:.0f} % in frame {worst}"
        )

    # ---- files: names are made those of files here, and never leave the item's folder

    def _folder(self) -> Path:
        return self.view.item.folder / PATHS

    def _list_saved(self) -> None:
        names = sorted(file.stem for file in self._folder().glob("*.json"))
        self.saved.options = (NOTHING, *names)

    def _save(self) -> None:
        name = self.path().name
        self._folder().mkdir(exist_ok=True)
        write_bytes(self._folder() / f"{name}.json", keyframes_to_json(self.editor.keyframes))
        self._list_saved()
        self.view.notify("Saved", f"{self.view.item.folder.name}/{PATHS}/{name}.json", "green")

    def _download(self) -> None:
        name, content = f"{self.path().name}.json", keyframes_to_json(self.editor.keyframes)
        self.view.client.send_file_download(name, content)

    def _open(self) -> None:
        files = {file.stem: file for file in self._folder().glob("*.json")}
        name, item = self.saved.value, self.view.item
        if name == NOTHING:
            return
        if name not in files:
            raise InputError(f"there is no saved path '{name:.80}'")
        about = {"camera": item.tracks.camera, "scene_depth_m": item.scene_depth_m}
        self.editor.load(load_keyframes(files[name], **about))
        self.name.value = name
        self._changed(0)

    def _film(self) -> None:
        if len(self.editor.keys) < 2:
            raise InputError("the path has one key, the photo; move the page's camera and add its view")
        folder, path = self.view.item.folder, self.path()
        self.view.runs.start(
            f"film {free_name(folder, path.name)}",
            lambda pipe, progress: film_item(pipe, folder, path, progress=progress),
        )


def rotation_of(wxyz: Any) -> np.ndarray:
    """Camera-to-world rotation of the page's camera, from its quaternion."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_quat(np.asarray(wxyz, dtype=np.float64)[[1, 2, 3, 0]]).as_matrix()
