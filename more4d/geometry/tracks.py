"""3-D point tracks of every pixel, their depth-guided normalisation, and points that a novel view filled in.

Networks generate motion at a small size and few frames; a scene has the photo's size and any number of
frames. `UpsampledTracks` holds the motion as it was generated, and for every pixel of the photo whose motion
it takes: positions of a frame are computed when they are asked for. (49 frames of 1280 x 960 take 720 MB
as positions and 39 MB so.) `PointTracks` holds positions, of whatever origin. Both are `Tracks`.

Depth-guided motion normalisation and its exact inverse (MoRe4D, arXiv 2512.05044): with (X_0, Y_0, Z_0) the
point of a pixel in frame 0 and z0 = Z_0 its depth,

    dX~ = fx (X_t - X_0) / z0        dY~ = fy (Y_t - Y_0) / z0        dZ~ = (Z_t - Z_0) / z0

so that (dX~, dY~) is, to first order, the displacement in image widths and heights, whatever the scale.
Both directions use the same camera: the scene's own.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from more4d.foundation.errors import checked
from more4d.geometry.camera import Camera, DepthMap
from more4d.geometry.motion_upsampling import MotionTaps, interpolation_taps

NEAREST = 0.05
"""No point comes closer to the camera's plane than this fraction of the depth it started at: nearer,
perspective magnifies errors of depth more than twenty times."""


def motion_scale(depth_m: Float[Tensor, "*grid"], camera: Camera) -> Float[Tensor, "*grid 3"]:
    """Metres per unit of normalised motion along each axis: (z0 / fx, z0 / fy, z0).

    A depth that is NaN, infinite, zero or negative counts as 1 metre, in both directions.
    """
    # a pixel without depth keeps its displacement in metres, both ways
    usable = torch.isfinite(depth_m) & (depth_m > 0)
    depth_m = torch.where(usable, depth_m, torch.ones_like(depth_m))
    return torch.stack([depth_m / camera.fx, depth_m / camera.fy, depth_m], -1)


def normalise_motion(
    positions: Float[Tensor, "frames *grid 3"], camera: Camera
) -> Float[Tensor, "frames *grid 3"]:
    """Positions in metres to normalised motion; frame 0 becomes zero.

    MoRe4D's depth-guided motion normalisation; (fx, fy) are the paper's (alpha_x, alpha_y).
    """
    # [*grid, 3]: the point of every pixel in frame 0
    start = positions[0]
    return (positions - start) / motion_scale(start[..., 2], camera)


def denormalise_motion(
    motion: Float[Tensor, "frames *grid 3"], start: Float[Tensor, "*grid 3"], camera: Camera
) -> Float[Tensor, "frames *grid 3"]:
    """The inverse of `normalise_motion`, given the points of frame 0."""
    # One pass over memory: motion of a whole clip is large.
    return torch.addcmul(start, motion, motion_scale(start[..., 2], camera))


def positions_from_motion(
    motion: Float[Tensor, "frames *grid 3"], start: Float[Tensor, "*grid 3"], camera: Camera
) -> Float[Tensor, "frames *grid 3"]:
    """Metres from normalised motion; z stays above `NEAREST` of its start: no point passes the camera."""
    positions = denormalise_motion(motion, start, camera)
    # A point behind the camera would be projected mirrored.
    positions[..., 2] = torch.maximum(positions[..., 2], NEAREST * start[..., 2])
    return positions


def resampling_matrix(frames: int, wanted: int) -> Float[Tensor, "wanted frames"]:
    """The matrix that takes `frames` samples of a natural cubic spline to `wanted` samples of the same span.

    Every row sums to one (what stands still stays still), and the first and last rows pick the first and
    last frame exactly.
    """
    if frames < 1 or wanted < 1:
        raise ValueError(f"frame counts must be positive, got {frames} and {wanted}")
    if frames == 1:
        return torch.ones(wanted, 1)
    # Both run from 0 to 1: the same span of time, sampled at another number of frames.
    times = np.arange(frames) / (frames - 1)
    asked = np.arange(wanted) / max(wanted - 1, 1)
    from scipy.interpolate import CubicSpline  # only where frames are resampled: it takes a third of a second

    # Two samples carry no curvature: the natural spline through them is the straight line.
    rows = CubicSpline(times, np.eye(frames), bc_type="natural")(asked)
    return torch.from_numpy(np.asarray(rows, dtype=np.float32))


def resample_frames(values: Float[Tensor, "frames *rest"], wanted: int) -> Float[Tensor, "wanted *rest"]:
    """`values` over the same span of time with `wanted` frames, smoothly interpolated."""
    frames = values.shape[0]
    if frames == wanted:
        return values
    # A cubic spline is linear in its samples, so one matrix serves every pixel.
    matrix = resampling_matrix(frames, wanted).to(values)
    return (matrix @ values.reshape(frames, -1)).reshape(wanted, *values.shape[1:])


class Tracks(ABC):
    """One 3-D path per pixel of frame 0.

    The world is the camera of the photo at frame 0: x right, y down, z forward, metres.

    Attributes:
        colours: RGB of the photo in [0, 1], [height, width, 3].
        camera: intrinsics of the photo.
        fps: frames per second.
        caption: what happens, in words.
        scene_depth_m: `DepthMap.scene_depth_m` of the photo, by which camera paths are scaled; None: of the
            depth of all pixels.
        frames: number of frames.
        positions: float32 metres, [frames, height, width, 3].
        visibility: whether the source camera sees the point in each frame, [frames, height, width].
        depth_m: depth of the photo: z in frame 0, [height, width].
    """

    colours: Float[Tensor, "height width 3"]
    camera: Camera
    fps: float
    caption: str
    scene_depth_m: float | None

    @property
    def height(self) -> int:
        return self.colours.shape[0]

    @property
    def width(self) -> int:
        return self.colours.shape[1]

    @property
    def footprint_m(self) -> Float[Tensor, "height width"]:
        """Side of the patch of surface that a source pixel covers: depth / focal length in pixels."""
        # One pixel at depth z spans z / f metres.
        fx_px, fy_px = self.camera.focal_px(width=self.width, height=self.height)
        return self.depth_m / min(fx_px, fy_px)

    @abstractmethod
    def positions_in(self, frames: slice) -> Float[Tensor, "some height width 3"]:
        """Positions in some of the frames."""

    @abstractmethod
    def at_pixels(self, rows: slice, columns: slice) -> "PointTracks":
        """The paths of some of the pixels, with the photo's own camera."""

    @abstractmethod
    def to(self, device: str | torch.device) -> "Tracks":
        """The same on another device."""


def _check_picture(tracks: Tracks) -> None:
    colours = tracks.colours
    if not bool(torch.isfinite(colours).all()) or colours.min() < 0 or colours.max() > 1:
        raise ValueError("colours must lie in [0, 1]")
    if not 0 < tracks.fps < math.inf:
        raise ValueError(f"fps must be positive and finite, got {tracks.fps}")


@checked
@dataclass(frozen=True, kw_only=True)
class PointTracks(Tracks):
    """Tracks by their positions; see `Tracks` for the fields."""

    positions: Float[Tensor, "frames height width 3"]
    colours: Float[Tensor, "height width 3"]
    visibility: Bool[Tensor, "frames height width"]
    camera: Camera
    fps: float = 12.0
    caption: str = ""
    scene_depth_m: float | None = None

    def __post_init__(self) -> None:
        # [frames, height, width, 3], none of them 0
        shape = tuple(self.positions.shape)
        if len(shape) != 4 or shape[-1] != 3 or 0 in shape:
            raise ValueError(f"positions must be frames x height x width x 3, got {shape}")
        if tuple(self.colours.shape) != shape[1:]:
            raise ValueError(f"colours must be {shape[1:]} like positions, got {tuple(self.colours.shape)}")
        if tuple(self.visibility.shape) != shape[:3]:
            seen = tuple(self.visibility.shape)
            raise ValueError(f"visibility must be {shape[:3]} like positions, got {seen}")
        if self.visibility.dtype != torch.bool:
            raise ValueError(f"visibility must be boolean, got {self.visibility.dtype}")
        # The extremes of what holds a NaN are NaN; isfinite would take memory for all positions twice more.
        if not all(bool(torch.isfinite(extreme)) for extreme in self.positions.aminmax()):
            raise ValueError("positions hold NaN or infinite coordinates")
        if not bool((self.positions[0, ..., 2] > 0).all()):
            raise ValueError("every point must lie in front of the camera in frame 0: z > 0, y is down")
        _check_picture(self)

    @property
    def frames(self) -> int:
        return self.positions.shape[0]

    @property
    def depth_m(self) -> Float[Tensor, "height width"]:
        return self.positions[0, ..., 2]

    def positions_in(self, frames: slice) -> Float[Tensor, "some height width 3"]:
        return self.positions[frames]

    def at_pixels(self, rows: slice, columns: slice) -> "PointTracks":
        return replace(
            self,
            positions=self.positions[:, rows, columns],
            colours=self.colours[rows, columns],
            visibility=self.visibility[:, rows, columns],
        )

    def to(self, device: str | torch.device) -> "PointTracks":
        return replace(
            self,
            positions=self.positions.to(device),
            colours=self.colours.to(device),
            visibility=self.visibility.to(device),
        )


@checked
@dataclass(frozen=True, kw_only=True)
class UpsampledTracks(Tracks):
    """Tracks by the motion that a network generated at a smaller size; every pixel takes that of one place.

    Attributes:
        motion: normalised motion (see the head of this module) at the size and in the frames in which it was
            generated; they span the same time as the `frames` of the tracks. Frame 0 is zero.
        source: row * small_w + column of the small pixel whose motion each pixel takes.
        objects: of each small pixel, 0 where it stays; motion is interpolated within. None: that of `source`.
        start_depth_m: metres.
        seen: whether the source camera sees each small pixel's point in each of the `frames`.
        frames, colours, camera, fps, caption, scene_depth_m: as in `Tracks`.
    """

    motion: Float[Tensor, "key_frames small_h small_w 3"]
    source: Int[Tensor, "height width"]
    start_depth_m: Float[Tensor, "height width"]
    seen: Bool[Tensor, "frames small_h small_w"]
    frames: int
    colours: Float[Tensor, "height width 3"]
    camera: Camera
    objects: Int[Tensor, "small_h small_w"] | None = None
    fps: float = 12.0
    caption: str = ""
    scene_depth_m: float | None = None

    def __post_init__(self) -> None:
        small, size = tuple(self.motion.shape[1:3]), tuple(self.colours.shape[:2])
        if self.motion.ndim != 4 or self.motion.shape[-1] != 3 or self.motion.numel() == 0:
            raise ValueError(
                f"motion must be key frames x height x width x 3, got {tuple(self.motion.shape)}"
            )
        if tuple(self.source.shape) != size or tuple(self.start_depth_m.shape) != size:
            raise ValueError(
                f"source and depth must be {size} like the colours, got {tuple(self.source.shape)} and "
                f"{tuple(self.start_depth_m.shape)}"
            )
        if tuple(self.seen.shape) != (self.frames, *small):
            raise ValueError(f"seen must be {(self.frames, *small)}, got {tuple(self.seen.shape)}")
        if not 0 <= int(self.source.min()) <= int(self.source.max()) < small[0] * small[1]:
            raise ValueError(f"source points outside of the {small[0]} x {small[1]} pixels of the motion")
        if not bool(torch.isfinite(self.motion).all()):
            raise ValueError("motion holds NaN or infinite numbers")
        if not bool((torch.isfinite(self.depth_m) & (self.depth_m > 0)).all()):
            raise ValueError("every point must lie in front of the camera (z > 0) in frame 0")
        _check_picture(self)

    @property
    def depth_m(self) -> Float[Tensor, "height width"]:
        return self.start_depth_m

    @property
    def positions(self) -> Float[Tensor, "frames height width 3"]:
        """All positions, computed anew: 12 bytes per pixel and frame."""
        return self.positions_in(slice(None))

    @property
    def visibility(self) -> Bool[Tensor, "frames height width"]:
        return self.seen.flatten(1)[:, self.source]

    @cached_property
    def _small_motion(self) -> Float[Tensor, "frames small_pixels 3"]:
        """Motion of all frames at its own size, once: a part of the frames would be rounded differently."""
        return resample_frames(self.motion, self.frames).flatten(1, 2)

    @cached_property
    def _taps(self) -> MotionTaps | None:
        return None if self.objects is None else interpolation_taps(self.objects, self.source)

    def positions_in(self, frames: slice) -> Float[Tensor, "some height width 3"]:
        return self._positions(self._small_motion[frames], (slice(None), slice(None)))

    def _positions(self, small: Tensor, pixels: tuple[slice, slice]) -> Tensor:
        start, taps = self.camera.unproject_depth(self.start_depth_m)[pixels], self._taps
        motion = small[:, self.source[pixels]] if taps is None else taps.at(*pixels).interpolate(small)
        return positions_from_motion(motion, start, self.camera)

    def at_pixels(self, rows: slice, columns: slice) -> PointTracks:
        return PointTracks(
            positions=self._positions(self._small_motion, (rows, columns)),
            colours=self.colours[rows, columns],
            visibility=self.seen.flatten(1)[:, self.source[rows, columns]],
            camera=self.camera,
            fps=self.fps,
            caption=self.caption,
            scene_depth_m=self.scene_depth_m,
        )

    def to(self, device: str | torch.device) -> "UpsampledTracks":
        return replace(
            self,
            motion=self.motion.to(device),
            source=self.source.to(device),
            start_depth_m=self.start_depth_m.to(device),
            seen=self.seen.to(device),
            colours=self.colours.to(device),
            objects=None if self.objects is None else self.objects.to(device),
        )


@dataclass(frozen=True, kw_only=True)
class FilledPoints:
    """Points of the world, each with the moment it was seen filled at.

    Attributes:
        positions: metres, world.
        colours: RGB in [0, 1].
        footprint_m: side of the square of surface that each represents, in metres.
        frame: the frame of the view that filled it.
        visible_in_all_frames: whether other frames may show it, too.
    """

    positions: Float[Tensor, "points 3"]
    colours: Float[Tensor, "points 3"]
    footprint_m: Float[Tensor, " points"]
    frame: Int[Tensor, " points"]
    visible_in_all_frames: Bool[Tensor, " points"]

    def __post_init__(self) -> None:
        # [points, 3], [points, 3] and three times [points]
        count = len(self.positions)
        flat = (self.footprint_m, self.frame, self.visible_in_all_frames)
        shapes = [tuple(each.shape) for each in (self.positions, self.colours, *flat)]
        if shapes != [(count, 3), (count, 3), (count,), (count,), (count,)]:
            raise ValueError(f"positions, colours and the rest of filled points do not fit: {shapes}")
        if not bool(torch.isfinite(self.positions).all() & torch.isfinite(self.footprint_m).all()):
            raise ValueError("filled points hold NaN or infinite numbers")
        if count and (float(self.colours.min()) < 0 or float(self.colours.max()) > 1):
            raise ValueError("colours must lie in [0, 1]")

    def __len__(self) -> int:
        return len(self.positions)

    @classmethod
    def concat(cls, parts: "Sequence[FilledPoints]") -> "FilledPoints":
        """All points, in order; none of none."""
        parts = parts or [cls.empty()]
        return cls(
            positions=torch.cat([part.positions for part in parts]),
            colours=torch.cat([part.colours for part in parts]),
            footprint_m=torch.cat([part.footprint_m for part in parts]),
            frame=torch.cat([part.frame for part in parts]),
            visible_in_all_frames=torch.cat([part.visible_in_all_frames for part in parts]),
        )

    @classmethod
    def empty(cls) -> "FilledPoints":
        """No points."""
        empty = torch.zeros(0, 3)
        return cls(
            positions=empty,
            colours=empty,
            footprint_m=empty[:, 0],
            frame=empty[:, 0].long(),
            visible_in_all_frames=empty[:, 0].bool(),
        )

    def select(self, mask: Bool[Tensor, " points"]) -> "FilledPoints":
        """Some of them."""
        return FilledPoints(
            positions=self.positions[mask],
            colours=self.colours[mask],
            footprint_m=self.footprint_m[mask],
            frame=self.frame[mask],
            visible_in_all_frames=self.visible_in_all_frames[mask],
        )


def depth_of_tracks(tracks: Tracks) -> DepthMap:
    """Depth of the image that tracks start from; all of it is known."""
    known = torch.ones(tracks.height, tracks.width, dtype=torch.bool)
    return DepthMap(depth_m=tracks.depth_m, valid=known, camera=tracks.camera)
