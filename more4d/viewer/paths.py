"""A camera path that is drawn: its keys, which can be undone, and the panel that edits and films it.

The spline through the keys is that of films (`geometry.keyframes`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from more4d.files.atomic import write_bytes
from more4d.files.depth_and_cameras import keyframes_to_json, load_keyframes
from more4d.files.scene_folder import PATHS
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.keyframes import Keyframe, keyframe_path
from more4d.geometry.poses import so3_exp
from more4d.pipelines.camera_report import film_holes
from more4d.pipelines.cameras import folder_name
from more4d.runs.additions import film_item, free_name
from more4d.viewer.page import Page, RunPanel
from more4d.viewer.threads import Newest

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
        self._dragged: tuple[int, str] | None = None

    def add(self, key: Key) -> None:
        """Add a key at the end.

        Raises:
            InputError: there are too many.
        """
        if len(self.keys) >= MOST_KEYS:
            raise InputError(f"a path has at most {MOST_KEYS} keys; delete one first")
        self._set((*self.keys, replace(key, time=self.keys[-1].time + 1)))

    def change(self, number: int, *, roll_deg: float, zoom: float) -> None:
        """Turn a key or change its lens; while one of both is dragged, all of it is one change.

        Raises:
            InputError: it is the first one, or does not exist.
        """
        self._check(number)
        key = self.keys[number]
        if (key.roll_deg, key.zoom) != (roll_deg, zoom):
            zoom = min(max(zoom, LEAST_ZOOM), MOST_ZOOM)
            changed = replace(key, roll_deg=roll_deg, zoom=zoom)
            dragged = number, "roll" if key.zoom == zoom else "zoom"
            self._set((*self.keys[:number], changed, *self.keys[number + 1 :]), dragged=dragged)

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

    def _set(self, keys: tuple[Key, ...], *, dragged: tuple[int, str] | None = None) -> None:
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


NOTHING = "-"


class PathPanel:
    """The editor as one browser sees it."""

    def __init__(self, page: Page, gui: Any, runs: RunPanel) -> None:
        self.runs = runs
        self.page, self.editor, self._newest = page, PathEditor(), Newest()
        self._showing = False
        self._own_file: str | None = None
        gui.add_markdown("Move the page's camera, and add what it sees to the path.")
        on = page.safely
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
        item = self.page.item
        name = folder_name(self.name.value).replace(".", "_")
        return self.editor.path(name, frames=item.frames, camera=item.tracks.camera)

    def close(self) -> None:
        """Measure no more."""
        self._newest.close()

    def new_item(self) -> None:
        """Begin another path, of another item."""
        self.editor, self._own_file = PathEditor(), None
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
        frame = self.editor.key_frames(self.page.item.frames)[self.number]
        self.page.look_along(self.path(), frame)

    def _turned(self) -> None:
        if self.number and not self._showing:
            self.editor.change(self.number, roll_deg=self.roll.value, zoom=self.zoom.value)
            self._changed(self.number)

    def _chosen(self) -> None:
        key = self.editor.keys[self.number]
        # viser calls back at each assignment, when the other slider still shows the key before
        self._showing = True
        try:
            self.zoom.value, self.roll.value = key.zoom, key.roll_deg
        finally:
            self._showing = False

    def _page_key(self) -> Key:
        """What the page's camera sees."""
        camera = self.page.client.camera
        fy = 0.5 / math.tan(camera.fov / 2)
        return Key(
            position=np.asarray(camera.position, dtype=np.float64),
            upright=rotation_of(camera.wxyz),
            zoom=min(max(fy / self.page.item.tracks.camera.fy, LEAST_ZOOM), MOST_ZOOM),
        )

    def _changed(self, number: int) -> None:
        """Draw the path, and measure it when there is time."""
        keys = self.editor.keys
        self.key.options = ("0: photo", *map(str, range(1, len(keys))))
        self.key.value = self.key.options[max(number, 0)]
        self._chosen()
        item, path = self.page.item, self.path()
        with self.page.client.atomic():
            shown = path if len(keys) > 1 else None
            self.page.drawing.show_edited(item, shown, self.editor.key_frames(item.frames))
        if len(keys) > 1:
            self._newest.ask(lambda: self._measure(path))
        else:
            self.measured.content = ""

    def _measure(self, path: CameraPath) -> None:
        _, holes = film_holes(path, self.page.item.tracks)
        shares = 100 * holes.float().mean((1, 2)).double().numpy()
        if self.page.closed:
            return
        self.holes.data = (np.arange(len(shares), dtype=np.float64), shares)
        worst = int(shares.argmax())
        self.measured.content = (
            f"holes: {shares.mean():.1f} % on average, {shares[worst]:.0f} % in frame {worst}"
        )

    # ---- files: names are made those of files here, and never leave the item's folder

    def _folder(self) -> Path:
        return self.page.item.folder / PATHS

    def _list_saved(self) -> None:
        names = sorted(file.stem for file in self._folder().glob("*.json"))
        self.saved.options = (NOTHING, *names)

    def _save(self) -> None:
        name = self.path().name
        if name != self._own_file:  # what is saved or opened here may be replaced, other paths not
            name = free_name(self._folder(), name, suffix=".json")
        write_bytes(self._folder() / f"{name}.json", keyframes_to_json(self.editor.keyframes))
        self._own_file = self.name.value = name
        self._list_saved()
        self.page.notify("Saved", f"{self.page.item.folder.name}/{PATHS}/{name}.json", "green")

    def _download(self) -> None:
        name, content = f"{self.path().name}.json", keyframes_to_json(self.editor.keyframes)
        self.page.client.send_file_download(name, content)

    def _open(self) -> None:
        files = {file.stem: file for file in self._folder().glob("*.json")}
        name, item = self.saved.value, self.page.item
        if name == NOTHING:
            return
        self.saved.value = NOTHING  # so that the same one can be opened again
        if name not in files:
            raise InputError(f"there is no saved path '{name:.80}'")
        about = {"camera": item.tracks.camera, "scene_depth_m": item.scene_depth_m}
        self.editor.load(load_keyframes(files[name], **about))
        self._own_file = self.name.value = name
        self._changed(0)

    def _film(self) -> None:
        if len(self.editor.keys) < 2:
            raise InputError("the path has one key, the photo; move the page's camera and add its view")
        folder, path = self.page.item.folder, self.path()
        self.runs.start(
            f"film {free_name(folder, path.name)}",
            lambda pipe, progress: film_item(pipe, folder, path, progress=progress),
        )


def rotation_of(wxyz: Any) -> np.ndarray:
    """Camera-to-world rotation of the page's camera, from its quaternion."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_quat(np.asarray(wxyz, dtype=np.float64)[[1, 2, 3, 0]]).as_matrix()
