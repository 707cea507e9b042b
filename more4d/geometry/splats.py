"""A moving scene as splats: what exports, the page and other viewers are given.

A splat is a 3-D Gaussian of one colour (Kerbl et al., 3D Gaussian Splatting, 2023, without view dependence).
What stands still and what moves are two sets: a still splat is the same in every frame, bit for bit, so files
hold it once. A moving splat keeps size, rotation and colour; its centre has a path.

Point tracks are a scene of round splats, one per pixel or per block of pixels (`splats_of_grid`). Gaussians
that were optimised are one by their own numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from more4d.geometry.camera import Camera
from more4d.geometry.shared_paths import MOST_PATHS, TOLERANCE_PX, principal_paths
from more4d.geometry.tracks import FilledPoints, Tracks

# Standard deviation of a round splat, in footprints: smaller tears when a camera comes near, larger blurs.
# Measured on scenes that are not optimised; optimised ones choose for themselves.
SIGMA_PER_FOOTPRINT = 0.45
OPACITY = 0.95
# A point that never goes farther than this from where it was, seen in the photo, stands still.
STILL_PX = 0.5
# Pixels of a block belong to one surface if their depths differ by less than this share.
SAME_DEPTH_RATIO = 1.05
FRAMES_PER_CHUNK = 8


def unturned(count: int) -> Float[Tensor, "splats 4"]:
    """Unit quaternions (w, x, y, z) of no rotation."""
    return torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1)


@dataclass(frozen=True, kw_only=True)
class Splats:
    """Gaussians at one moment.

    Attributes:
        positions: centres, metres, world.
        scales_m: standard deviations along the splat's own three axes, metres.
        rotations: unit quaternions (w, x, y, z) from the splat's axes to the world's.
        opacities: at the centre, in [0, 1].
        colours: RGB in [0, 1], as displayed (sRGB).
    """

    positions: Float[Tensor, "splats 3"]
    scales_m: Float[Tensor, "splats 3"]
    rotations: Float[Tensor, "splats 4"]
    opacities: Float[Tensor, " splats"]
    colours: Float[Tensor, "splats 3"]

    def __post_init__(self) -> None:
        count = len(self.positions)
        found = [tuple(getattr(self, name).shape) for name in _FIELDS]
        if found != [(count, 3), (count, 3), (count, 4), (count,), (count, 3)]:
            raise ValueError(f"positions, scales, rotations, opacities and colours do not fit: {found}")
        if not all(bool(torch.isfinite(getattr(self, name)).all()) for name in _FIELDS):
            raise ValueError("splats hold NaN or infinite numbers")
        if count and not bool((self.scales_m > 0).all()):
            raise ValueError("scales of splats must be positive")

    def __len__(self) -> int:
        return len(self.positions)

    @classmethod
    def round(
        cls,
        positions: Float[Tensor, "splats 3"],
        colours: Float[Tensor, "splats 3"],
        footprint_m: Float[Tensor, " splats"],
    ) -> "Splats":
        """Points as round splats, as large as the square of surface that each represents."""
        count = len(positions)
        return cls(
            positions=positions,
            scales_m=(footprint_m * SIGMA_PER_FOOTPRINT)[:, None].expand(-1, 3).contiguous(),
            rotations=unturned(count),
            opacities=torch.full((count,), OPACITY),
            colours=colours,
        )

    @classmethod
    def concat(cls, parts: "Sequence[Splats]") -> "Splats":
        """All splats, in order."""
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in _FIELDS})

    def select(self, which: Bool[Tensor, " splats"] | Int[Tensor, " some"]) -> "Splats":
        """Some of them, by a mask or by their indices."""
        return Splats(**{name: getattr(self, name)[which] for name in _FIELDS})

    @property
    def footprint_m(self) -> Float[Tensor, " splats"]:
        """Side of the square that a splat is drawn as where it is drawn as a point."""
        return self.scales_m.prod(-1).pow(1 / 3) / SIGMA_PER_FOOTPRINT


_FIELDS = ("positions", "scales_m", "rotations", "opacities", "colours")


@dataclass(frozen=True, kw_only=True)
class SplatScene:
    """A moving scene as splats.

    Attributes:
        still: the same in all frames.
        moving: as in frame 0.
        paths: centres of the moving ones in every frame, metres, world.
        camera: intrinsics of the photo; the world is its camera.
        size: (height, width) of the photo, pixels.
        fps: frames per second.
        caption: what happens, in words.
        windows: when splats show, first those that stand still: (moment, rate) in frames; opacities fall off
            as exp(-((t - moment) rate)^2 / 2), and a rate of 0 is always. None: all show always.
    """

    still: Splats
    moving: Splats
    paths: Float[Tensor, "frames moving 3"]
    camera: Camera
    size: tuple[int, int]
    fps: float
    caption: str = ""
    windows: Float[Tensor, "splats 2"] | None = None

    def __post_init__(self) -> None:
        if self.paths.shape[1] != len(self.moving) or len(self.paths) < 1:
            raise ValueError(f"{len(self.moving)} moving splats, and paths of {tuple(self.paths.shape)}")
        if self.windows is not None and len(self.windows) != len(self):
            raise ValueError(f"{len(self)} splats, and windows of {len(self.windows)}")

    def __len__(self) -> int:
        return len(self.still) + len(self.moving)

    @property
    def frames(self) -> int:
        return len(self.paths)

    def at(self, frame: int) -> Splats:
        """All splats in one frame: first those that stand still."""
        splats = Splats.concat([self.still, replace(self.moving, positions=self.paths[frame])])
        if self.windows is None:
            return splats
        # A Gaussian in time: exp(-((t - moment) rate)^2 / 2).
        away = (frame - self.windows[:, 0]) * self.windows[:, 1]
        return replace(splats, opacities=splats.opacities * torch.exp(-0.5 * away.square()))

    def lasting(self) -> "SplatScene":
        """Only what always shows."""
        if self.windows is None:
            return self
        still, moving = (self.windows[:, 1] == 0).split([len(self.still), len(self.moving)])
        return replace(
            self,
            still=self.still.select(still),
            moving=self.moving.select(moving),
            paths=self.paths[:, moving],
            windows=None,
        )

    @property
    def focal_px(self) -> float:
        """Focal length of the photo in pixels."""
        height, width = self.size
        return min(self.camera.focal_px(width=width, height=height))


def splat_scene(
    tracks: Tracks,
    *,
    step: int = 1,
    behind: Sequence[Splats] = (),
    filled: FilledPoints | None = None,
    step_filled: int = 1,
) -> SplatScene:
    """Tracks, and what was made for the holes of views of them, as round splats.

    Args:
        step: one splat stands for step x step pixels.
        behind: further splats that stand still: a completed background (`splats_of_grid`).
        filled: filled points; those of a single moment are left out, and of those at one place the first is
            kept.
        step_filled: side in pixels of such a place.
    """
    still, moving, paths, _ = track_splats(tracks, step=step)
    more = [] if filled is None else [merged_points(filled, tracks, step=step_filled)]
    return scene_with(tracks, Splats.concat([still, *behind, *more]), moving, paths)


def scene_with(
    tracks: Tracks, still: Splats, moving: Splats, paths: Float[Tensor, "frames moving 3"]
) -> SplatScene:
    """A scene of these splats, with the camera, size, speed and caption of tracks."""
    return SplatScene(
        still=still,
        moving=moving,
        paths=paths,
        camera=tracks.camera,
        size=(tracks.height, tracks.width),
        fps=float(tracks.fps),
        caption=tracks.caption,
    )


def track_splats(
    tracks: Tracks, *, step: int = 1
) -> tuple[Splats, Splats, Float[Tensor, "frames moving 3"], Int[Tensor, " splats"]]:
    """What stands still and what moves of tracks, as round splats.

    Args:
        step: one splat stands for step x step pixels.

    Returns:
        The still ones, the moving ones in frame 0, the paths of these, and the pixel (row * width + column)
        of each: of the still ones first.
    """
    moves = moving_pixels(tracks)
    grid, index = splats_of_grid(
        tracks.positions_in(slice(0, 1))[0].float(),
        tracks.colours,
        tracks.footprint_m,
        groups=moves.long(),
        step=step,
    )
    moved = moves.flatten()[index]
    pixels = index[moved]
    paths = torch.cat(
        [
            tracks.positions_in(slice(start, start + FRAMES_PER_CHUNK)).float().flatten(1, 2)[:, pixels]
            for start in range(0, tracks.frames, FRAMES_PER_CHUNK)
        ]
    )
    # A block moves as its pixel does, from its own place.
    paths = grid.positions[moved] + (paths - paths[:1])
    return grid.select(~moved), grid.select(moved), paths, torch.cat([index[~moved], pixels])


def moving_pixels(tracks: Tracks) -> Bool[Tensor, "height width"]:
    """Pixels whose point ever is more than `STILL_PX` pixels, seen in the photo, from where it was."""
    start = tracks.positions_in(slice(0, 1)).float()
    farthest = torch.zeros(tracks.height, tracks.width)
    for first in range(0, tracks.frames, FRAMES_PER_CHUNK):
        step = tracks.positions_in(slice(first, first + FRAMES_PER_CHUNK)).float() - start
        farthest = torch.maximum(farthest, step.square().sum(-1).amax(0))
    # metres over the side of a pixel there
    return farthest.sqrt() > STILL_PX * tracks.footprint_m


def splats_of_grid(
    positions: Float[Tensor, "height width 3"],
    colours: Float[Tensor, "height width 3"],
    footprint_m: Float[Tensor, "height width"],
    *,
    known: Bool[Tensor, "height width"] | None = None,
    groups: Int[Tensor, "height width"] | None = None,
    step: int = 1,
) -> tuple[Splats, Int[Tensor, " splats"]]:
    """Pixels of a picture with depth as round splats, one for each block of step x step pixels.

    A block has the mean place and colour of those of its pixels that lie on one surface with its pixel of
    median depth: a mean of all would lie between the surfaces of an outline.

    Args:
        known: pixels that are taken; None: all.
        groups: pixels of different groups are not mixed.

    Returns:
        The splats, row by row, and for each the index of its pixel of median depth.
    """
    height, width = footprint_m.shape
    # [blocks, step * step]: the pixels of every block.
    blocks = _blocks(height, width, step)
    depth_m = positions[..., 2].flatten()[blocks]
    usable = torch.ones_like(depth_m, dtype=torch.bool) if known is None else known.flatten()[blocks]
    # Unusable pixels go behind the usable ones, of which the middle one is taken.
    order = torch.where(usable, depth_m, torch.inf).argsort(dim=1, stable=True)
    middle = ((usable.sum(1) - 1).clamp(min=0) // 2)[:, None]
    chosen = order.gather(1, middle)
    some = usable.any(1)
    blocks, depth_m, usable, chosen = blocks[some], depth_m[some], usable[some], chosen[some]
    index, here = blocks.gather(1, chosen)[:, 0], depth_m.gather(1, chosen)
    same = usable & (depth_m < here * SAME_DEPTH_RATIO) & (depth_m * SAME_DEPTH_RATIO > here)
    if groups is not None:
        same &= groups.flatten()[blocks] == groups.flatten()[index][:, None]
    share = (same / same.sum(1, keepdim=True))[..., None]
    place, colour = ((each.flatten(0, 1)[blocks] * share).sum(1) for each in (positions, colours))
    splats = Splats.round(place, colour.clamp(0, 1), footprint_m.flatten()[index] * step)
    return splats, index


def _blocks(height: int, width: int, step: int) -> Int[Tensor, "blocks pixels"]:
    """Indices of the pixels of every block; at the borders the last pixels are repeated."""
    rows = torch.arange(math.ceil(height / step) * step).clamp(max=height - 1).view(-1, 1, step, 1)
    columns = torch.arange(math.ceil(width / step) * step).clamp(max=width - 1).view(1, -1, 1, step)
    return (rows * width + columns).reshape(-1, step * step)


def merged_points(filled: FilledPoints, tracks: Tracks, *, step: int = 1) -> Splats:
    """Filled points that every frame may show, as splats: one for each cell of one pixel and 2 % of depth.

    Views of many frames fill the same place again and again; the first in time is kept. Points behind the
    photo's camera have no cell and are left out.
    """
    lasting = filled.select(filled.visible_in_all_frames & (filled.positions[:, 2] > 0))
    if not len(lasting):
        return Splats.round(lasting.positions, lasting.colours, lasting.footprint_m)
    order = lasting.frame.argsort(dim=0, stable=True)
    pixel = step / min(tracks.camera.focal_px(width=tracks.width, height=tracks.height))
    # A point of a small view covers several pixels of the photo.
    size = torch.maximum(lasting.footprint_m / lasting.positions[:, 2], torch.tensor(pixel))
    slope = lasting.positions[:, :2] / lasting.positions[:, 2:] / size.median()
    cell = torch.cat([slope, lasting.positions[:, 2:].log() / math.log(1.02)], 1).floor().long()
    _, inverse = cell[order].unique(dim=0, return_inverse=True)
    first = torch.full((int(inverse.max()) + 1,), len(order)).scatter_reduce(
        0, inverse, torch.arange(len(order)), "amin"
    )
    kept = order[first.sort().values]
    footprint_m = torch.maximum(lasting.footprint_m, lasting.positions[:, 2] * pixel)
    return Splats.round(lasting.positions[kept], lasting.colours[kept], footprint_m[kept])


@dataclass(frozen=True, kw_only=True)
class SharedPaths:
    """Motion by few paths that all moving splats share.

    Splat i is, in frame t, at moving.positions[i] + depth_m[i] sum_k weights[i, k] paths[k, t].

    Attributes:
        weights: of each splat and path.
        paths: without unit: displacement over depth; 0 in frame 0.
        depth_m: of each splat in frame 0: what is twice as far may move twice as much for the same picture.
    """

    weights: Float[Tensor, "moving shared"]
    paths: Float[Tensor, "shared frames 3"]
    depth_m: Float[Tensor, " moving"]

    def displacements(self) -> Float[Tensor, "frames moving 3"]:
        """Metres, from frame 0."""
        return torch.einsum("nk,ktc->tnc", self.weights * self.depth_m[:, None], self.paths)


def share_paths(scene: SplatScene, *, error_px: float = TOLERANCE_PX, most: int = MOST_PATHS) -> SharedPaths:
    """The fewest shared paths that keep most positions within `error_px` pixels of the photo, or `most`."""
    frames, count = scene.paths.shape[:2]
    depth_m = scene.moving.positions[:, 2].clamp(min=1e-6)
    if count == 0:
        return SharedPaths(weights=torch.zeros(0, 0), paths=torch.zeros(0, frames, 3), depth_m=torch.zeros(0))
    # A displacement over depth times the focal length is one in pixels.
    displacements = (scene.paths - scene.moving.positions) / depth_m[:, None] * scene.focal_px
    paths, amounts, _ = principal_paths(displacements.transpose(0, 1), error_px=error_px, most=most)
    return SharedPaths(weights=(amounts / scene.focal_px).float(), paths=paths.float(), depth_m=depth_m)
