"""What is drawn of a moving scene at a time: splats that never change, and splats that are sent anew.

A scene is drawn as two layers, points and Gaussians. Most splats are the same at all times and go to the
browser once; those that move or fade (`live`) are sent for every time that is shown.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from more4d.files.export import background_splats
from more4d.files.previews import colour_ramp, colourise_depth, depth_limits
from more4d.geometry.camera import robust_quantile
from more4d.geometry.gaussian_scene import LEAST_OPACITY, GaussianScene, Source, as_splat_scene
from more4d.geometry.poses import quaternion_to_matrix
from more4d.geometry.splats import Splats, SplatScene, merged_points, track_splats
from more4d.geometry.tracks import FilledPoints, Tracks

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
    scene = SplatScene(
        still=Splats.concat([still, made]),
        moving=moving,
        paths=paths,
        camera=tracks.camera,
        size=(tracks.height, tracks.width),
        fps=float(tracks.fps),
        caption=tracks.caption,
    )
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
