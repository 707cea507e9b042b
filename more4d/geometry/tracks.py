"""Dense 3-D point tracks, their depth-guided normalisation, and points that a novel view filled in.

Depth-guided motion normalisation and its exact inverse (MoRe4D, arXiv 2512.05044): with (X_0, Y_0, Z_0) the
point of a pixel in frame 0 and z0 = Z_0 its depth,

    dX~ = fx (X_t - X_0) / z0        dY~ = fy (Y_t - Y_0) / z0        dZ~ = (Z_t - Z_0) / z0

so that (dX~, dY~) is, to first order, the displacement in image widths and heights, whatever the scale.
Both directions use the same camera: the scene's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from more4d.geometry.camera import Camera, DepthMap, crop_camera, resize


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
    """Positions in metres to normalised motion; frame 0 becomes zero."""
    # [*grid, 3]: the point of every pixel in frame 0
    start = positions[0]
    return (positions - start) / motion_scale(start[..., 2], camera)


def denormalise_motion(
    motion: Float[Tensor, "frames *grid 3"], start: Float[Tensor, "*grid 3"], camera: Camera
) -> Float[Tensor, "frames *grid 3"]:
    """The inverse of `normalise_motion`, given the points of frame 0."""
    # One pass over memory: motion of a whole clip is large.
    return torch.addcmul(start, motion, motion_scale(start[..., 2], camera))


@dataclass(frozen=True, kw_only=True)
class PointTracks:
    """One 3-D path per pixel of frame 0.

    The world is the camera of the photo at frame 0: x right, y down, z forward, metres.

    Attributes:
        positions: float32 metres, [frames, height, width, 3].
        colours: RGB of the photo in [0, 1], [height, width, 3].
        visibility: whether the source camera sees the point in each frame, [frames, height, width].
        camera: intrinsics of the photo.
        fps: frames per second.
        caption: what happens, in words.
    """

    positions: Float[Tensor, "frames height width 3"]
    colours: Float[Tensor, "height width 3"]
    visibility: Bool[Tensor, "frames height width"]
    camera: Camera
    fps: float = 12.0
    caption: str = ""

    def __post_init__(self) -> None:
        # [frames, height, width, 3], none of them 0
        shape = tuple(self.positions.shape)
        if len(shape) != 4 or shape[-1] != 3 or 0 in shape:
            raise ValueError(f"positions must be frames x height x width x 3, got {shape}")
        if tuple(self.colours.shape) != shape[1:]:
            raise ValueError(
                f"colours must be {shape[1:]} like the positions, got {tuple(self.colours.shape)}"
            )
        if tuple(self.visibility.shape) != shape[:3]:
            raise ValueError(
                f"visibility must be {shape[:3]} like the positions, got {tuple(self.visibility.shape)}"
            )
        if self.visibility.dtype != torch.bool:
            raise ValueError(f"visibility must be boolean, got {self.visibility.dtype}")
        # The extremes of what holds a NaN are NaN; isfinite would take memory for all positions twice more.
        if not all(bool(torch.isfinite(extreme)) for extreme in self.positions.aminmax()):
            raise ValueError("positions hold NaN or infinite coordinates")
        if not bool(torch.isfinite(self.colours).all()) or self.colours.min() < 0 or self.colours.max() > 1:
            raise ValueError("colours must lie in [0, 1]")
        if not bool((self.positions[0, ..., 2] > 0).all()):
            raise ValueError("every point must lie in front of the camera (z > 0) in frame 0")
        if not self.fps > 0:
            raise ValueError(f"fps must be positive, got {self.fps}")

    @property
    def frames(self) -> int:
        return self.positions.shape[0]

    @property
    def height(self) -> int:
        return self.positions.shape[1]

    @property
    def width(self) -> int:
        return self.positions.shape[2]

    @property
    def depth_m(self) -> Float[Tensor, "height width"]:
        """Depth of the photo: z in frame 0."""
        return self.positions[0, ..., 2]

    @property
    def footprint_m(self) -> Float[Tensor, "height width"]:
        """Side of the patch of surface that a source pixel covers: depth / focal length in pixels."""
        # One pixel at depth z spans z / f metres.
        fx_px, fy_px = self.camera.focal_px(width=self.width, height=self.height)
        return self.depth_m / min(fx_px, fy_px)

    def to(self, device: str | torch.device) -> "PointTracks":
        return replace(
            self,
            positions=self.positions.to(device),
            colours=self.colours.to(device),
            visibility=self.visibility.to(device),
        )


def crop_tracks(tracks: PointTracks, rows: slice, columns: slice, *, height: int, width: int) -> PointTracks:
    """The tracks of a window of the photo, seen through the camera of that window, as height x width points.

    Paths are picked, never averaged: the mean path of two surfaces belongs to neither. Colours are averaged.
    """
    # size of the window in source pixels
    spans = (rows.stop - rows.start, columns.stop - columns.start)
    # centres of the wanted pixels, rounded down to source pixels: paths are picked, never averaged
    taken_rows, taken_columns = (
        start.start + ((torch.arange(count) + 0.5) * span / count).long()
        for start, span, count in zip((rows, columns), spans, (height, width), strict=True)
    )
    camera = crop_camera(
        tracks.camera,
        left=columns.start / tracks.width,
        top=rows.start / tracks.height,
        width=spans[1] / tracks.width,
        height=spans[0] / tracks.height,
    )
    # All of the window: cut once more to the exact shape, the photo would no longer lie on its points.
    return replace(
        tracks,
        positions=tracks.positions[:, taken_rows][:, :, taken_columns],
        visibility=tracks.visibility[:, taken_rows][:, :, taken_columns],
        colours=resize(tracks.colours[rows, columns], height, width),
        camera=camera,
    )


def mirror_tracks(tracks: PointTracks) -> PointTracks:
    """The same scene in a mirror: left and right change places. Its own inverse."""
    return replace(
        tracks,
        # columns reversed, and x changes its sign
        positions=tracks.positions.flip(2) * tracks.positions.new_tensor([-1.0, 1.0, 1.0]),
        visibility=tracks.visibility.flip(2),
        colours=tracks.colours.flip(1),
        # the principal point is mirrored, too
        camera=replace(tracks.camera, cx=1 - tracks.camera.cx),
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


def depth_of_tracks(tracks: PointTracks) -> DepthMap:
    """Depth of the image that tracks start from; all of it is known."""
    known = torch.ones(tracks.height, tracks.width, dtype=torch.bool)
    return DepthMap(depth_m=tracks.depth_m, valid=known, camera=tracks.camera)
