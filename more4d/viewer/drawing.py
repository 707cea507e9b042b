"""What one browser draws: the nodes of its own scene in viser, made from layers and camera paths.

Measured of viser 1.1.1, and why things are as they are:

* A cloud of points has one size, so points are split by octaves of their footprint: near ground would tear,
  or the far wall swell.
* Covariances of Gaussians go as float16, in which those of scenes in metres vanish: they are sent in tenths
  of the scene's depth, and their node is scaled back.
* An assignment replaces what has not been sent yet, so a slow browser drops frames and does not fall behind.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from more4d.geometry.camera import CameraPath
from more4d.geometry.poses import rigid_inverse
from more4d.viewer.items import (
    DEPTH,
    PHOTO,
    POINTS,
    SPLATS,
    VISIBILITY,
    Layer,
    ViewedItem,
    shown_now,
)

UNITS_PER_DEPTH = 10.0
POINT_MARGIN = 1.3
"""Side of a drawn point in footprints: points of a tilted surface lie farther apart."""
FRUSTA = 7
"""Cameras drawn along a path."""
FRUSTUM = 0.05
"""Depth of a drawn camera, in scene depths."""
PATH_COLOURS = ((214, 40, 110), (64, 140, 242), (20, 150, 110), (235, 150, 20), (130, 80, 200))
EDITED_COLOUR = (255, 255, 255)
CAMERAS, EDITED = "/cameras", "/edited"


@dataclass(frozen=True, kw_only=True)
class Look:
    """How an item is drawn.

    Attributes:
        layers: which of its layers.
        colouring: of `layers.COLOURINGS`.
        invented: whether what was made for holes is shown.
        size: factor on the size of points.
    """

    layers: tuple[str, ...] = (POINTS,)
    colouring: str = PHOTO
    invented: bool = True
    size: float = 1.0


@dataclass
class _Group:
    """A node and the splats it shows."""

    node: Any
    layer: Layer
    index: Tensor
    live: bool
    gaussians: bool


@dataclass
class Drawing:
    """The nodes of one scene of viser (of a client: others do not see them).

    Attributes:
        scene: of viser.
        look: how the item was drawn last.
        paths_shown: whether camera paths are visible; on the way along one they would stand in the picture.
    """

    scene: Any
    look: Look = field(default_factory=Look)
    paths_shown: bool = True
    _groups: list[_Group] = field(default_factory=list)
    _unit_m: float = 1.0

    def show(self, item: ViewedItem, look: Look, time: float) -> None:
        """Draw an item anew."""
        for group in self._groups:
            group.node.remove()
        self._groups, self.look = [], look
        self._unit_m = item.scene_depth_m / UNITS_PER_DEPTH
        for name in look.layers:
            layer = item.layers.get(name)
            for live in (False, True) if layer is not None else ():
                index = layer.chosen(live=live, invented=look.invented)
                for number, part in enumerate([index] if name == SPLATS else octaves(layer, index)):
                    if len(part):
                        path = f"/{name}/{'live' if live else 'still'}/{number}"
                        add = self._add_gaussians if name == SPLATS else self._add_points
                        node = add(path, layer, part, time)
                        self._groups.append(_Group(node, layer, part, live, name == SPLATS))

    def move_to(self, time: float) -> None:
        """Show another time; only what changes is sent."""
        colouring = self.look.colouring
        for group in self._groups:
            recoloured = colouring == VISIBILITY or (colouring == DEPTH and group.live)
            if group.gaussians and (group.live or recoloured):
                group.node.set_gaussians(*self._gaussians(group.layer, group.index, time))
            elif group.live or recoloured:
                splats = group.layer.at(time, group.index, colouring)
                if group.live:
                    group.node.points = splats.positions.numpy()
                if recoloured:
                    group.node.colors = _bytes(splats.colours)

    def _add_points(self, path: str, layer: Layer, index: Tensor, time: float) -> Any:
        splats = layer.at(time, index, self.look.colouring)
        return self.scene.add_point_cloud(
            path,
            splats.positions.numpy(),
            _bytes(splats.colours),
            point_size=POINT_MARGIN * self.look.size * float(splats.footprint_m.median()),
            point_shape="square",
            precision="float32",
            point_shading="flat",
        )

    def _add_gaussians(self, path: str, layer: Layer, index: Tensor, time: float) -> Any:
        return self.scene.add_gaussian_splats(path, *self._gaussians(layer, index, time), scale=self._unit_m)

    def _gaussians(self, layer: Layer, index: Tensor, time: float) -> tuple[np.ndarray, ...]:
        """Centres, covariances, colours and opacities of those that show, in units of the node."""
        splats = layer.at(time, index, self.look.colouring)
        index = index[shown_now(splats)]
        splats = splats.select(shown_now(splats))
        return (
            (splats.positions / self._unit_m).numpy(),
            (layer.covariances[index] / self._unit_m**2).numpy(),
            _bytes(splats.colours),
            splats.opacities[:, None].numpy(),
        )

    def show_cameras(self, item: ViewedItem, paths: Mapping[str, CameraPath]) -> None:
        """Draw camera paths in place of those drawn before: a line, and some of their cameras."""
        self._remove(CAMERAS)
        for number, (name, path) in enumerate(paths.items()):
            colour = PATH_COLOURS[number % len(PATH_COLOURS)]
            self._add_path(f"{CAMERAS}/{name}", item, path, colour, spread(path.frames))

    def show_edited(self, item: ViewedItem, path: CameraPath | None, key_frames: list[int]) -> None:
        """Draw the path of the editor with a camera at each of its keys; None: nothing."""
        self._remove(EDITED)
        if path is not None:
            self._add_path(EDITED, item, path, EDITED_COLOUR, key_frames)

    def show_paths(self, shown: bool) -> None:
        """Make camera paths visible, or hide them."""
        self.paths_shown = shown
        for name in (CAMERAS, EDITED):
            node = self.scene.get_handle_by_name(name)
            if node is not None:
                node.visible = shown

    def _remove(self, name: str) -> None:
        node = self.scene.get_handle_by_name(name)
        if node is not None:
            node.remove()

    def _add_path(
        self, place: str, item: ViewedItem, path: CameraPath, colour: tuple[int, int, int], frames: list[int]
    ) -> None:
        poses = rigid_inverse(path.world_to_camera.double()).numpy()
        centres = poses[:, :3, 3]
        if path.frames > 1:
            lines = np.stack([centres[:-1], centres[1:]], 1)
            self.scene.add_line_segments(f"{place}/way", lines, colour, thickness=2, thickness_units="screen")
        for frame in frames:
            self.scene.add_camera_frustum(
                f"{place}/{frame}",
                fov=vertical_fov(path, frame),
                aspect=item.aspect,
                scale=FRUSTUM * item.scene_depth_m,
                thickness=1.5,
                thickness_units="screen",
                color=colour,
                wxyz=quaternion(poses[frame, :3, :3]),
                position=centres[frame],
            )
        self.show_paths(self.paths_shown)


def octaves(layer: Layer, index: Tensor) -> Iterator[Tensor]:
    """The splats in groups of which the largest has at most twice the footprint of the smallest."""
    octave = layer.start.footprint_m[index].log2().floor().long()
    for each in octave.unique().tolist():
        yield index[octave == each]


def spread(frames: int) -> list[int]:
    """At most `FRUSTA` frame numbers from the first to the last."""
    return sorted({round(part * (frames - 1)) for part in np.linspace(0, 1, FRUSTA)})


def vertical_fov(path: CameraPath, frame: int) -> float:
    """Radians; viser knows centred principal points only."""
    return 2 * math.atan(0.5 / float(path.intrinsics[frame, 1]))


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """(w, x, y, z) of a rotation matrix."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(rotation).as_quat()[[3, 0, 1, 2]]


def _bytes(colours: Tensor) -> np.ndarray:
    return (colours * 255).round().to(torch.uint8).numpy()
