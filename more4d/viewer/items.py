"""The items that are shown, looked up by name, and what is drawn of them at a time.

A scene is drawn as two layers, points and Gaussians. Most splats are the same at all times and go to the
browser once; those that move or fade (`live`) are sent for every time that is shown.
"""

import glob
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from more4d.files.depth_and_cameras import load_camera_path
from more4d.files.export import background_splats
from more4d.files.fills import load_background
from more4d.files.gaussians import load_gaussians
from more4d.files.previews import colour_ramp, colourise_depth, depth_limits
from more4d.files.scene_folder import BACKGROUND, FILLED, GAUSSIANS, TRACKS
from more4d.files.tracks import load_filled_points, load_tracks
from more4d.foundation.errors import InputError
from more4d.geometry.camera import CameraPath, robust_quantile
from more4d.geometry.gaussian_scene import LEAST_OPACITY, GaussianScene, Source, as_splat_scene
from more4d.geometry.poses import quaternion_to_matrix
from more4d.geometry.splats import (
    SAME_DEPTH_RATIO,
    Splats,
    SplatScene,
    merged_points,
    scene_with,
    track_splats,
)
from more4d.geometry.tracks import FilledPoints, Tracks
from more4d.pipelines.cameras import scene_depth_of

PHOTO, MOTION, VISIBILITY, DEPTH = COLOURINGS = ("photo", "motion", "visibility", "depth")
HIDDEN, INVENTED = (0.86, 0.16, 0.42), (0.25, 0.55, 0.95)
"""Colours of what the photo's camera does not see at a time, and of what it never saw."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A scene of splats and what is known of each, those that stand still first.

    Attributes:
        scene: the splats and their paths.
        invented: which of them no track shows: they were made for holes.
        seen: which of them the photo's camera sees, per frame; None: it is not known.
    """

    scene: SplatScene
    invented: Bool[Tensor, " splats"]
    seen: Bool[Tensor, "frames splats"] | None = None

    def __len__(self) -> int:
        return len(self.scene)

    @cached_property
    def start(self) -> Splats:
        """All splats in frame 0, at their full opacity."""
        return Splats.concat([self.scene.still, self.scene.moving])

    @cached_property
    def live(self) -> Bool[Tensor, " splats"]:
        """Which splats are not the same at all times: they move, or show for a while only."""
        live = torch.arange(len(self)) >= len(self.scene.still)
        return live if self.scene.windows is None else live | (self.scene.windows[:, 1] > 0)

    @cached_property
    def reach_m(self) -> Float[Tensor, " splats"]:
        """How far each goes from where it began, at most."""
        moved = (self.scene.paths - self.scene.paths[:1]).norm(dim=-1).amax(0)
        return torch.cat([torch.zeros(len(self.scene.still)), moved])

    @cached_property
    def depth_limits_m(self) -> tuple[float, float]:
        """Of the scale of colours by depth: one for all times."""
        return depth_limits(self.start.positions[:, 2])

    @cached_property
    def covariances(self) -> Float[Tensor, "splats 3 3"]:
        """Of all splats, metres^2: R diag(scale^2) R^T; what moves keeps its own."""
        turn = quaternion_to_matrix(self.start.rotations)
        return turn * self.start.scales_m.square()[:, None] @ turn.mT

    def chosen(self, *, live: bool, invented: bool) -> Int[Tensor, " some"]:
        """Indices of the splats of one part.

        Args:
            live: those that change, or those that do not.
            invented: whether what was invented is among them.
        """
        part = self.live == live
        return (part if invented else part & ~self.invented).nonzero()[:, 0]

    def at(self, time: float | int, index: Int[Tensor, " some"], colouring: str = PHOTO) -> Splats:
        """Some of the splats at a time in frames; between two frames they are between their places.

        Raises:
            ValueError: there is no such colouring.
        """
        time = min(max(float(time), 0.0), self.scene.frames - 1.0)
        splats = self.start.select(index)
        still = len(self.scene.still)
        moves, moving = index >= still, index[index >= still] - still
        if len(moving):
            first = min(int(time), max(self.scene.frames - 2, 0))
            pair = self.scene.paths[first : first + 2, moving]
            splats.positions[moves] = torch.lerp(pair[0], pair[-1], time - first)
        opacities = splats.opacities
        if self.scene.windows is not None:
            # A Gaussian in time, as `SplatScene.at`
            away = (time - self.scene.windows[index, 0]) * self.scene.windows[index, 1]
            opacities = opacities * torch.exp(-0.5 * away.square())
        colours = self._colours(splats, time, index, colouring)
        return replace(splats, opacities=opacities, colours=colours)

    def _colours(self, splats: Splats, time: float | int, index: Tensor, colouring: str) -> Tensor:
        if colouring == PHOTO:
            return splats.colours
        if colouring == DEPTH:
            return colourise_depth(splats.positions[:, 2], limits=self.depth_limits_m)
        if colouring == MOTION:
            moved = self.reach_m[self.reach_m > 0]
            most = float(robust_quantile(moved, 0.98)) if len(moved) else 1.0
            return colour_ramp(self.reach_m[index] / most)
        if colouring == VISIBILITY:
            colours = splats.colours.clone()
            if self.seen is not None:
                colours[~self.seen[round(time), index]] = torch.tensor(HIDDEN)
            colours[self.invented[index]] = torch.tensor(INVENTED)
            return colours
        raise ValueError(f"no colouring '{colouring}' of {COLOURINGS}")


def shown_now(splats: Splats) -> Bool[Tensor, " splats"]:
    """Which of them have not faded: what is below one step of an 8-bit picture is not drawn."""
    return splats.opacities >= LEAST_OPACITY


def point_layer(
    tracks: Tracks,
    *,
    background: Mapping[str, Any] | None = None,
    filled: FilledPoints | None = None,
    most: int,
) -> Layer:
    """The tracks as points, and what was made for holes.

    Args:
        background: as `files.fills.load_background` reads it.
        filled: of the films, shown where there is no background.
        most: points of the photo; of a larger photo a point stands for a block of pixels.
    """
    step = 1
    while math.ceil(tracks.height / step) * math.ceil(tracks.width / step) > most:
        step += 1
    still, moving, paths, pixels = track_splats(tracks, step=step)
    made = merged_points(filled or FilledPoints.empty(), tracks, step=step)
    if background is not None:
        made = background_splats(background, step=step)
    scene = scene_with(tracks, Splats.concat([still, made]), moving, paths)
    # what was made stands between the still and the moving points of the photo
    first, last = len(still), len(still) + len(made)
    place = torch.arange(len(scene))
    invented = (place >= first) & (place < last)
    seen = torch.zeros(tracks.frames, len(scene), dtype=torch.bool)
    seen[:, ~invented] = tracks.visibility.flatten(1)[:, pixels]
    return Layer(scene=scene, invented=invented, seen=seen)


def gaussian_layer(scene: GaussianScene, size: tuple[int, int]) -> Layer:
    """A scene of Gaussians of a photo of this (height, width); invented is what comes from no track."""
    order = torch.cat([(~scene.moves).nonzero()[:, 0], scene.moving])
    return Layer(scene=as_splat_scene(scene, size), invented=scene.source[order] != Source.SEEN)


POINTS, SPLATS = "points", "Gaussians"
MOST_POINTS = 300_000
KEPT_ITEMS = 4
"""Each holds where all pixels of its photo are in all frames."""


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

    Items are read once and shared by all who look at them; `forget` drops one whose files have changed, and
    of more than `KEPT_ITEMS` the one that was asked for longest ago is dropped.
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
            item = self._read.pop(name, None)
            if item is None:
                folder = self._folders().get(name)
                if folder is None:
                    raise InputError(f"there is no item '{name:.80}'; reload the page for those there are")
                item = ViewedItem.read(folder, most_points=self._most_points)
            self._read[name] = item  # the last of them: dicts keep their order
            while len(self._read) > KEPT_ITEMS:
                del self._read[next(iter(self._read))]
            return item

    def forget(self, name: str) -> None:
        """Read an item anew when it is asked for again."""
        with self._lock:
            self._read.pop(name, None)
