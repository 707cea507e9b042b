"""Dense 3-D point tracks: where every pixel of a photo goes over time."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from more4d.geometry.camera import Camera
from more4d.geometry.framing import crop_camera, resize


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

    Paths are taken, never mixed: a mean of two surfaces' paths is nobody's path. Colours are averaged.
    """
    spans = (rows.stop - rows.start, columns.stop - columns.start)
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
        positions=tracks.positions.flip(2) * tracks.positions.new_tensor([-1.0, 1.0, 1.0]),
        visibility=tracks.visibility.flip(2),
        colours=tracks.colours.flip(1),
        camera=replace(tracks.camera, cx=1 - tracks.camera.cx),
    )
