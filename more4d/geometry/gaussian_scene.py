"""A moving scene as persistent 3-D Gaussians (splats): what stands still and what moves are apart for good.

Every splat has one place: where it is in frame 0 (what is seen only for a moment: where it is then). The
moving ones share a few paths in time, as things move as wholes (Wang et al. 2024, "Shape of Motion", share
rigid motions; of displacements 8 to 12 do as well here):

    x_i(t) = x_i + sum_k w_ik p_k(t) + footprint_i sum_j (b_j(t) - b_j(0)) c_ij        p_k(0) = 0

with cubic B-splines b_j for what the shared paths leave. Between frames the paths follow a cubic spline. What
stands still has no path: it moves by nothing at all, whatever is optimised.
"""

from dataclasses import dataclass, fields, replace
from enum import IntEnum
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int8
from torch import Tensor

from more4d.foundation.errors import checked, shown
from more4d.geometry.camera import Camera
from more4d.geometry.shared_paths import MOST_PATHS, principal_paths
from more4d.geometry.splats import Splats, SplatScene

# Control points of the residual of one splat over the whole clip.
KNOTS = 6
# One step of an 8-bit picture: what is more transparent is not drawn.
LEAST_OPACITY = 1 / 255


class Source(IntEnum):
    """Where a splat comes from: a track of the photo, or a fill, and how that was found to behave."""

    SEEN = 0
    STANDING = 1
    RIDING = 2
    MOMENTARY = 3


@dataclass(frozen=True, kw_only=True)
class Gaussians(Splats):
    """The splats of a `GaussianScene` at one moment: differentiable, with quaternions of any length.

    Attributes:
        moves: which of them move, ever.
    """

    moves: Bool[Tensor, " splats"]

    def __post_init__(self) -> None:
        """Nothing: the scene was checked, and an optimiser makes these in every step."""

    def select(self, which: Tensor) -> "Gaussians":
        """Some of them."""
        return Gaussians(**{each.name: getattr(self, each.name)[which] for each in fields(self)})


@checked
@dataclass(frozen=True, kw_only=True)
class GaussianScene:
    """A moving scene; see the head of this module.

    Attributes:
        positions, rotations, scales_m, opacities, colours: as in `Gaussians`, of every splat.
        footprint_m: side of the square of surface that it stands for; unit of the residual of its motion.
        source: a `Source`.
        moment: frame in which it was seen filled; 0 of tracks.
        lifetime: frames; opacity falls off as exp(-(t - moment)^2 / (2 lifetime^2)). Infinite: always there.
        moving: indices of the splats that move, in order.
        paths: displacements in metres, which `weights` add up; 0 in frame 0.
        knots: of the residual B-splines, in footprints.
        frames: length of the scene; times run from 0 to frames - 1.
        camera: intrinsics of the photo, whose camera at frame 0 is the world.
        scene_depth_m: by which camera paths are scaled.
        caption: what happens, in words.
    """

    positions: Float[Tensor, "splats 3"]
    rotations: Float[Tensor, "splats 4"]
    scales_m: Float[Tensor, "splats 3"]
    opacities: Float[Tensor, " splats"]
    colours: Float[Tensor, "splats 3"]
    footprint_m: Float[Tensor, " splats"]
    source: Int8[Tensor, " splats"]
    moment: Float[Tensor, " splats"]
    lifetime: Float[Tensor, " splats"]
    moving: Int[Tensor, " moving"]
    paths: Float[Tensor, "paths frames 3"]
    weights: Float[Tensor, "moving paths"]
    knots: Float[Tensor, "knots moving 3"]
    frames: int
    fps: float
    camera: Camera
    scene_depth_m: float
    caption: str = ""

    def __post_init__(self) -> None:
        count, moving = len(self.positions), len(self.moving)
        shapes = {
            **{"rotations": (count, 4), "scales_m": (count, 3), "colours": (count, 3)},
            **dict.fromkeys(("opacities", "footprint_m", "source", "moment", "lifetime"), (count,)),
            "paths": (len(self.paths), self.frames, 3),
            "weights": (moving, len(self.paths)),
            "knots": (KNOTS, moving, 3),
        }
        for name, shape in shapes.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"{name} must be {shape}, got {tuple(getattr(self, name).shape)}")
        if moving and not 0 <= int(self.moving.min()) <= int(self.moving.max()) < count:
            raise ValueError(f"moving splats must be among the {count}")
        for name in (
            "positions",
            "rotations",
            "scales_m",
            "opacities",
            "colours",
            "paths",
            "weights",
            "knots",
        ):
            values = getattr(self, name).detach()
            # The extremes of what holds a NaN are NaN: one pass, no memory.
            if values.numel() and not all(bool(torch.isfinite(extreme)) for extreme in values.aminmax()):
                raise ValueError(f"{name} hold NaN or infinite numbers")

    def __len__(self) -> int:
        return len(self.positions)

    def __repr__(self) -> str:
        """What it is, without its tensors."""
        about = f"{len(self)} splats, {len(self.moving)} of them move, {self.frames} frames"
        return f"GaussianScene({about}, caption: {shown(self.caption)})"

    def displacement(self, time: float) -> Float[Tensor, "moving 3"]:
        """How far each moving splat is from where it was in frame 0, in metres; differentiable."""
        path = spline_weights(self.frames, time).to(self.paths) @ self.paths.transpose(0, 1).flatten(1)
        shift = self.weights @ path.view(-1, 3)
        share = (knot_weights(self.frames, time) - knot_weights(self.frames, 0.0)).to(self.knots)
        return shift + (share @ self.knots.flatten(1)).view(-1, 3) * self.footprint_m[self.moving, None]

    def at(self, time: float | int) -> Gaussians:
        """The splats at a time in frames, between frames as well; those that do not show then are left out.

        Times before the first and after the last frame are these frames.
        """
        now = self.all_at(time)
        return now.select(now.opacities >= LEAST_OPACITY)

    def all_at(self, time: float | int) -> Gaussians:
        """As `at`, with those that do not show: row i is splat i."""
        time = min(max(float(time), 0.0), self.frames - 1.0)
        positions = self.positions
        if len(self.moving):
            positions = positions.index_add(0, self.moving, self.displacement(time))
        # exp(0) = 1 for those with an infinite lifetime
        fade = torch.exp(-0.5 * ((time - self.moment) / self.lifetime).square())
        return Gaussians(
            positions=positions,
            rotations=self.rotations,
            scales_m=self.scales_m,
            opacities=self.opacities * fade,
            colours=self.colours,
            moves=self.moves,
        )

    @cached_property
    def moves(self) -> Bool[Tensor, " splats"]:
        """Which splats move, ever."""
        moves = torch.zeros(len(self), dtype=torch.bool, device=self.positions.device)
        moves[self.moving] = True
        return moves

    def select(self, keep: Tensor) -> "GaussianScene":
        """Some of the splats (a mask)."""
        place = keep.cumsum(0) - 1
        stay = keep[self.moving]
        flat = ("positions", "rotations", "scales_m", "opacities", "colours", "footprint_m")
        flat = (*flat, "source", "moment", "lifetime")
        return replace(
            self,
            **{name: getattr(self, name)[keep] for name in flat},
            moving=place[self.moving[stay]],
            weights=self.weights[stay],
            knots=self.knots[:, stay],
        )

    def to(self, device: str | torch.device) -> "GaussianScene":
        """The same on another device."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return replace(self, **{name: v.to(device) for name, v in values.items() if isinstance(v, Tensor)})


def as_splat_scene(scene: GaussianScene, size: tuple[int, int]) -> SplatScene:
    """The scene at its frames, for exports: what stands still first.

    Args:
        size: (height, width) of the photo.
    """
    plain = Splats(
        positions=scene.positions,
        scales_m=scene.scales_m,
        rotations=torch.nn.functional.normalize(scene.rotations, dim=-1),
        opacities=scene.opacities,
        colours=scene.colours.clamp(0, 1),
    )
    still, moving = (~scene.moves).nonzero()[:, 0], scene.moving
    start = scene.positions[moving]
    paths = torch.stack([start + scene.displacement(float(frame)) for frame in range(scene.frames)])
    # Row i of the export is row order[i] of the scene.
    order = torch.cat([still, moving])
    # An infinite lifetime is a rate of 0.
    windows = torch.stack([scene.moment, 1 / scene.lifetime], 1)[order]
    return SplatScene(
        still=plain.select(still),
        moving=plain.select(moving),
        paths=paths,
        camera=scene.camera,
        size=size,
        fps=scene.fps,
        caption=scene.caption,
        windows=windows if bool((windows[:, 1] > 0).any()) else None,
    )


@lru_cache(maxsize=1024)
def spline_weights(frames: int, time: float) -> Float[Tensor, " frames"]:
    """What each frame counts for at a time in frames, by the natural cubic spline through all of them."""
    if frames == 1 or time == int(time):
        return torch.eye(frames)[int(time) if frames > 1 else 0]
    return torch.from_numpy(_natural_spline(frames)(time).astype(np.float32))


@lru_cache(maxsize=16)
def _natural_spline(frames: int) -> Any:
    from scipy.interpolate import CubicSpline  # only where times between frames are shown

    return CubicSpline(np.arange(frames), np.eye(frames), bc_type="natural")


@lru_cache(maxsize=1024)
def knot_weights(frames: int, time: float) -> Float[Tensor, " knots"]:
    """The uniform cubic B-splines of `KNOTS` control points over the clip, at a time in frames."""
    pieces = KNOTS - 3
    at = time / max(frames - 1, 1) * pieces
    piece = min(int(at), pieces - 1)
    u = at - piece
    weights = torch.zeros(KNOTS)
    weights[piece : piece + 4] = torch.tensor(
        [(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3]
    )
    return weights / 6


def shared_paths(
    displacements: Float[Tensor, "frames moving 3"], pixels_per_m: Float[Tensor, " moving"]
) -> tuple[Float[Tensor, "paths frames 3"], Float[Tensor, "moving paths"], Float[Tensor, "knots moving 3"]]:
    """As few paths as give displacements within the tolerance, what each counts for, and the residual.

    Where `MOST_PATHS` do not suffice (`geometry.shared_paths`), splines take what is left.

    Args:
        displacements: metres against frame 0, in which they are 0.
        pixels_per_m: of the photo, at each splat's depth there.

    Returns:
        The paths, the weights, and the knots in metres (not yet in footprints).
    """
    frames, moving = displacements.shape[:2]
    scale = pixels_per_m.double()[:, None, None]
    paths, amounts, left = principal_paths(displacements.transpose(0, 1).double() * scale)
    # Splines only where the paths do not suffice.
    enough = len(paths) < min(MOST_PATHS, frames * 3)
    knots = torch.zeros(KNOTS, moving, 3) if enough else _fit_knots(left / scale)
    return paths.float(), (amounts / scale[..., 0]).float(), knots


def _fit_knots(residual: Float[Tensor, "moving frames 3"]) -> Float[Tensor, "knots moving 3"]:
    """Least squares; the shortest solution, as a shift of all knots changes nothing."""
    moving, frames, _ = residual.shape
    design = torch.stack([knot_weights(frames, float(time)) for time in range(frames)])
    design = (design - knot_weights(frames, 0.0)).double()
    knots = torch.linalg.pinv(design) @ residual.transpose(0, 1).reshape(frames, -1)
    return knots.view(KNOTS, moving, 3).float()
