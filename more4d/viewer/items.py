"""The items that are shown: folders that a run has made, looked up by name and read when they are chosen."""

import glob
import threading
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.files.depth_and_cameras import load_camera_path
from more4d.files.fills import load_background
from more4d.files.gaussians import load_gaussians
from more4d.files.scene_folder import BACKGROUND, FILLED, GAUSSIANS, TRACKS
from more4d.files.tracks import load_filled_points, load_tracks
from more4d.foundation.errors import InputError
from more4d.geometry.camera import CameraPath
from more4d.geometry.splats import SAME_DEPTH_RATIO
from more4d.geometry.tracks import FilledPoints, Tracks
from more4d.pipelines.cameras import scene_depth_of
from more4d.viewer.layers import Layer, gaussian_layer, point_layer

POINTS, SPLATS = "points", "Gaussians"
MOST_POINTS = 300_000


@dataclass(frozen=True, kw_only=True)
class ViewedItem:
    """An item as it is shown.

    Attributes:
        folder: of its files.
        tracks: of the photo.
        scene_depth_m: by which camera paths are scaled.
        cameras: the paths that it was filmed along, by name.
        layers: `POINTS`, and `SPLATS` where there is a scene of Gaussians.
    """

    folder: Path
    tracks: Tracks
    scene_depth_m: float
    cameras: dict[str, CameraPath]
    layers: dict[str, Layer]

    @classmethod
    def read(cls, folder: Path, *, most_points: int = MOST_POINTS) -> "ViewedItem":
        """Read what a run has made so far.

        Raises:
            InputError: a file is damaged, or there are no tracks.
        """
        tracks = load_tracks(folder / TRACKS)
        depth_m = scene_depth_of(tracks)
        known = {"frames": tracks.frames, "camera": tracks.camera, "scene_depth_m": depth_m}
        files = sorted(folder.glob("*/camera_path.json"))
        cameras = {file.parent.name: load_camera_path(file, **known) for file in files}
        filled = [load_filled_points(file) for file in sorted(folder.glob(f"*/{FILLED}"))]
        background = load_background(folder / BACKGROUND) if (folder / BACKGROUND).is_file() else None
        made = {"background": background, "filled": FilledPoints.concat(filled)}
        layers = {POINTS: point_layer(tracks, **made, most=most_points)}
        if (folder / GAUSSIANS).is_file():
            size = tracks.height, tracks.width
            layers[SPLATS] = gaussian_layer(load_gaussians(folder / GAUSSIANS), size)
        return cls(folder=folder, tracks=tracks, scene_depth_m=depth_m, cameras=cameras, layers=layers)

    @property
    def frames(self) -> int:
        return self.tracks.frames

    @property
    def aspect(self) -> float:
        """Width over height of the photo."""
        return self.tracks.width / self.tracks.height

    def nearest_hit(
        self, origin: Float[Tensor, "3"], direction: Float[Tensor, "3"]
    ) -> Float[Tensor, "3"] | None:
        """The point of the photo in frame 0 that a ray meets first; None if it passes all by.

        A point is met if the ray passes within its footprint; of those of one surface it is the nearest one.
        """
        points = self.tracks.positions_in(slice(0, 1))[0].reshape(-1, 3)
        direction = direction / direction.norm()
        along = (points - origin) @ direction
        away = (points - origin - along[:, None] * direction).norm(dim=-1)
        met = (along > 0) & (away <= self.tracks.footprint_m.flatten())
        if not bool(met.any()):
            return None
        met &= along < SAME_DEPTH_RATIO * along[met].min()
        return points[torch.where(met, away, torch.inf).argmin()]


class Library:
    """The items of a folder, or one item: names are all that a browser says of them.

    Items are read once and shared by all who look at them; `forget` drops one whose files have changed.
    """

    def __init__(self, place: Path, *, most_points: int = MOST_POINTS) -> None:
        """Look for items in `place`, which is one or holds some.

        Raises:
            InputError: there is none.
        """
        self.place, self._most_points = place, most_points
        self._read: dict[str, ViewedItem] = {}
        self._lock = threading.Lock()
        if not self.names():
            raise InputError(
                f"{place} is not the folder of an item and holds none (a folder with {TRACKS}); make one by "
                "bash infer.sh PHOTO --prompt TEXT"
            )

    @property
    def alone(self) -> bool:
        """Whether the place is itself an item."""
        return (self.place / TRACKS).is_file()

    @property
    def output(self) -> Path:
        """Where new items go: next to those that are shown."""
        return self.place.resolve().parent if self.alone else self.place

    def names(self) -> list[str]:
        """Of all items, sorted; of a place that is an item, it comes first, with those made from it."""
        return list(self._folders())

    def _folders(self) -> dict[str, Path]:
        if self.alone:
            own = self.place.resolve()
            made = sorted(own.parent.glob(f"{glob.escape(own.name)}-moved*/{TRACKS}"))
            return {own.name: own, **{file.parent.name: file.parent for file in made}}
        return {file.parent.name: file.parent for file in sorted(self.place.glob(f"*/{TRACKS}"))}

    def item(self, name: str) -> ViewedItem:
        """An item by its name.

        Raises:
            InputError: there is none of this name, or it cannot be read.
        """
        with self._lock:
            if name not in self._read:
                folder = self._folders().get(name)
                if folder is None:
                    raise InputError(f"there is no item '{name:.80}'; reload the page for those there are")
                self._read[name] = ViewedItem.read(folder, most_points=self._most_points)
            return self._read[name]

    def forget(self, name: str) -> None:
        """Read an item anew when it is asked for again."""
        with self._lock:
            self._read.pop(name, None)
