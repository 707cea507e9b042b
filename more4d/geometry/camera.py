"""Pinhole cameras, camera paths and depth maps, in OpenCV axes (x right, y down, z forward), metres.

Intrinsics are normalised by the image size; see docs/conventions.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from more4d.foundation.errors import checked

MAX_ASPECT = 4.0
"""Longer pictures are cropped to this."""


@checked
@dataclass(frozen=True, kw_only=True)
class Camera:
    """Pinhole intrinsics, independent of resolution.

    A point (X, Y, Z) of the camera's own frame appears at u = fx X / Z + cx, v = fy Y / Z + cy, where
    (u, v) runs over [0, 1] across the image; pixel (i, j) has its centre at ((i + 0.5) / W, (j + 0.5) / H).

    Attributes:
        fx: focal length in image widths.
        fy: focal length in image heights.
        cx: principal point, 0 at the left edge and 1 at the right edge.
        cy: principal point, 0 at the top edge and 1 at the bottom edge.
    """

    fx: float
    fy: float
    cx: float = 0.5
    cy: float = 0.5

    def __post_init__(self) -> None:
        values = (self.fx, self.fy, self.cx, self.cy)
        if not all(math.isfinite(value) for value in values):
            raise ValueError(f"intrinsics must be finite, got fx, fy, cx, cy = {values}")
        if self.fx <= 0 or self.fy <= 0:
            raise ValueError(f"focal lengths must be positive, got fx = {self.fx}, fy = {self.fy}")

    @classmethod
    def from_pixels(
        cls, fx_px: float, fy_px: float, cx_px: float, cy_px: float, *, width: int, height: int
    ) -> "Camera":
        """From focal lengths and principal point in pixels, the latter from the corner of the image."""
        return cls(fx=fx_px / width, fy=fy_px / height, cx=cx_px / width, cy=cy_px / height)

    @classmethod
    def from_fov(cls, fov_x_deg: float, *, width: int, height: int) -> "Camera":
        """Square pixels, centred, with the given horizontal field of view in degrees."""
        if not 0 < fov_x_deg < 180:
            raise ValueError(f"field of view must lie between 0 and 180 degrees, got {fov_x_deg}")
        # half an image width = f tan(fov / 2)
        fx = 0.5 / math.tan(math.radians(fov_x_deg) / 2)
        return cls(fx=fx, fy=fx * width / height)

    @property
    def fov_x_deg(self) -> float:
        """Horizontal field of view in degrees (for a centred principal point)."""
        return math.degrees(2 * math.atan(0.5 / self.fx))

    def focal_px(self, *, width: int, height: int) -> tuple[float, float]:
        """Focal lengths in pixels of an image of this size."""
        return self.fx * width, self.fy * height

    def project(
        self, points: Float[Tensor, "*batch 3"]
    ) -> tuple[Float[Tensor, "*batch 2"], Float[Tensor, "*batch"]]:
        """Camera-frame points in metres to (normalised image position, depth in metres).

        A depth of zero gives a non-finite position and a negative one a mirrored position:
        the depth is returned so that the caller can detect both.
        """
        # u = fx X / Z + cx, v = fy Y / Z + cy, in image widths and heights
        x, y, depth = points.unbind(-1)
        return torch.stack([self.fx * x / depth + self.cx, self.fy * y / depth + self.cy], -1), depth

    def unproject(
        self, position: Float[Tensor, "*batch 2"], depth: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch 3"]:
        """The inverse of `project`: points in metres in the camera's frame."""
        # X = (u - cx) / fx * Z, Y = (v - cy) / fy * Z
        u, v = position.unbind(-1)
        return torch.stack([(u - self.cx) / self.fx * depth, (v - self.cy) / self.fy * depth, depth], -1)

    def rays(self, height: int, width: int) -> Float[Tensor, "height width 3"]:
        """The ray through every pixel centre, with z = 1, so that `ray * depth` is the point."""
        return self.unproject(pixel_centres(height, width), torch.ones(height, width))

    def unproject_depth(self, depth_m: Float[Tensor, "height width"]) -> Float[Tensor, "height width 3"]:
        """Every pixel of a depth map, in metres in the camera's frame."""
        height, width = depth_m.shape
        return self.rays(height, width).to(depth_m) * depth_m[..., None]


def pixel_centres(height: int, width: int) -> Float[Tensor, "height width 2"]:
    """Normalised (u, v) of every pixel centre: ((i + 0.5) / width, (j + 0.5) / height)."""
    # rows first: [height, width]
    v, u = torch.meshgrid(
        (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
    )
    return torch.stack([u, v], -1)


@checked
@dataclass(frozen=True, kw_only=True)
class CameraPath:
    """A moving camera.

    Attributes:
        name: what to call it in files and messages.
        world_to_camera: one rigid transform per frame; the world is the source camera at frame 0, metres.
        intrinsics: (fx, fy, cx, cy), normalised as in `Camera`, per frame.
    """

    name: str
    world_to_camera: Float[Tensor, "frames 4 4"]
    intrinsics: Float[Tensor, "frames 4"]

    def __post_init__(self) -> None:
        frames = self.world_to_camera.shape[0]
        if self.world_to_camera.shape != (frames, 4, 4) or self.intrinsics.shape != (frames, 4) or not frames:
            raise ValueError(
                f"need frames x 4 x 4 poses and frames x 4 intrinsics, got "
                f"{tuple(self.world_to_camera.shape)} and {tuple(self.intrinsics.shape)}"
            )
        # A single NaN pose would give images of holes without an error.
        if not bool(torch.isfinite(self.world_to_camera).all() & torch.isfinite(self.intrinsics).all()):
            raise ValueError(f"camera path '{self.name}' holds NaN or infinite numbers")

    @property
    def frames(self) -> int:
        return self.world_to_camera.shape[0]

    def camera(self, frame: int) -> Camera:
        """Intrinsics of one frame."""
        fx, fy, cx, cy = self.intrinsics[frame].tolist()
        return Camera(fx=fx, fy=fy, cx=cx, cy=cy)

    def to_camera(self, frame: int, points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """World points in metres into the camera's frame at `frame`."""
        # row vectors: x R^T + t, for any batch of points
        pose = self.world_to_camera[frame].to(points)
        return points @ pose[:3, :3].T + pose[:3, 3]


@checked
@dataclass(frozen=True, kw_only=True)
class DepthMap:
    """Depth (the z coordinate, not the distance) of every pixel, and the camera that saw it.

    Attributes:
        depth_m: metres, finite and positive everywhere; where `valid` is false it is a filled-in guess.
        valid: where the depth was really known.
        camera: intrinsics of the picture.
        estimated: whether a network found it; else it was measured or given.
    """

    depth_m: Float[Tensor, "height width"]
    valid: Bool[Tensor, "height width"]
    camera: Camera
    estimated: bool = False

    def __post_init__(self) -> None:
        if self.depth_m.ndim != 2 or self.depth_m.shape != self.valid.shape:
            raise ValueError(
                f"depth and valid must be height x width alike, got {tuple(self.depth_m.shape)} "
                f"and {tuple(self.valid.shape)}"
            )
        if not bool((torch.isfinite(self.depth_m) & (self.depth_m > 0)).all()):
            raise ValueError(
                "depth must be finite and positive everywhere; use DepthMap.from_raw to fill gaps"
            )

    @classmethod
    def from_raw(cls, depth_m: Float[Tensor, "height width"], camera: Camera) -> "DepthMap":
        """Accept NaN, infinite, zero and negative depth: mark it invalid and fill it.

        A gap takes the far end (95th percentile) of the known depth: unknown depth is mostly sky, glass or
        out of a sensor's range, and a far guess hides nothing in front of it.

        Raises:
            ValueError: no pixel has a usable depth.
        """
        depth_m = depth_m.to(torch.float32)
        valid = torch.isfinite(depth_m) & (depth_m > 0)
        if not bool(valid.any()):
            raise ValueError("no pixel has a finite, positive depth")
        # 95th percentile, not the maximum: one wrong far pixel must not set it
        far = robust_quantile(depth_m[valid], 0.95)
        return cls(depth_m=torch.where(valid, depth_m, far), valid=valid, camera=camera)

    @property
    def points(self) -> Float[Tensor, "height width 3"]:
        """Every pixel as a point in metres in the camera's frame."""
        return self.camera.unproject_depth(self.depth_m)

    @property
    def scene_depth_m(self) -> float:
        """Robust depth of the scene: the 30th percentile of the known depth.

        Camera paths are scaled by it. The mean would follow the sky.
        """
        return float(robust_quantile(self.depth_m[self.valid], 0.3))


def robust_quantile(values: Tensor, q: float) -> Tensor:
    """`torch.quantile` without its limit on the number of elements."""
    flat = values.flatten().float()
    # torch.quantile refuses more than 16 M elements; a million of them give the same quantile
    step = max(1, flat.numel() // 1_000_000)
    return torch.quantile(flat[::step], q)


def fit(
    image: Float[Tensor, "height width channels"],
    camera: Camera,
    *,
    height: int,
    width: int,
    mode: Literal["smooth", "nearest"] = "smooth",
) -> tuple[Float[Tensor, "new_height new_width channels"], Camera]:
    """Crop the largest centred window of this aspect from the image and resize it to height x width.

    The window has whole pixels, so its aspect ratio is right to within half a source pixel; the
    returned camera is exact all the same: a ray through the same content is the same before and after.

    Args:
        image: any channels; colours in [0, 1] for `smooth`.
        camera: intrinsics of `image`.
        height: rows wanted.
        width: columns wanted.
        mode: `smooth` is antialiased bicubic, clipped to the range of the input; `nearest` never mixes
            values (depth, masks).

    Raises:
        ValueError: the wanted size is not positive.
    """
    if height < 1 or width < 1:
        raise ValueError(f"cannot fit a picture into {height} x {width} pixels")
    source_height, source_width = image.shape[:2]
    # cover, do not letterbox: the larger of the two scales leaves no empty border
    scale = max(height / source_height, width / source_width)
    rows = min(source_height, max(1, round(height / scale)))
    columns = min(source_width, max(1, round(width / scale)))
    # the window is centred, in whole source pixels
    top, left = (source_height - rows) // 2, (source_width - columns) // 2
    window = image[top : top + rows, left : left + columns]
    cropped = crop_camera(
        camera,
        left=left / source_width,
        top=top / source_height,
        width=columns / source_width,
        height=rows / source_height,
    )
    return resize(window, height, width, mode), cropped


def window(
    size: tuple[int, int], shape: tuple[int, int], draws: Sequence[float], *, min_scale: float
) -> tuple[slice, slice]:
    """A window (rows, columns) of an image of `size` with the aspect of `shape`.

    Args:
        size: (height, width) of the picture.
        shape: (height, width) whose aspect the window has, to within a pixel.
        draws: how large, how far down and how far right it is, each in [0, 1].
        min_scale: share of the largest such window's side that the smallest one keeps.
    """
    # side of the largest window of this aspect, in units of `shape`
    largest = min(size[0] / shape[0], size[1] / shape[1])
    scale = largest * (min_scale + (1 - min_scale) * draws[0])
    spans = [max(1, min(side, round(wanted * scale))) for side, wanted in zip(size, shape, strict=True)]
    starts = [round((side - span) * draw) for side, span, draw in zip(size, spans, draws[1:], strict=True)]
    rows, columns = (slice(start, start + span) for start, span in zip(starts, spans, strict=True))
    return rows, columns


def crop_camera(camera: Camera, *, left: float, top: float, width: float, height: float) -> Camera:
    """Intrinsics of a window of the image, given in fractions of the image's width and height.

    Resizing changes nothing: intrinsics are normalised.
    """
    return Camera(
        fx=camera.fx / width,
        fy=camera.fy / height,
        cx=(camera.cx - left) / width,
        cy=(camera.cy - top) / height,
    )


def fit_values(
    values: Float[Tensor, "height width"], *, height: int, width: int
) -> Float[Tensor, "new_height new_width"]:
    """`fit` for a map of any numbers, NaN and infinite ones too: nearest values."""
    # where the window lies depends on the shapes alone
    any_camera = Camera(fx=1.0, fy=1.0)
    return fit(values[..., None], any_camera, height=height, width=width, mode="nearest")[0][..., 0]


def fit_mask(
    mask: Bool[Tensor, "height width"], camera: Camera, *, height: int, width: int
) -> tuple[Bool[Tensor, "new_height new_width"], Camera]:
    """`fit` for a mask: nearest values."""
    values, camera = fit(mask[..., None].float(), camera, height=height, width=width, mode="nearest")
    return values[..., 0] > 0.5, camera


def working_size(height: int, width: int, *, pixels: int, multiple: int = 16) -> tuple[int, int]:
    """The size to work at: this shape, about this many pixels, both sides multiples of `multiple`.

    Shapes beyond 4:1 and 1:4 are treated as 4:1 and 1:4 (`fit` then crops the ends off). Of the sizes near
    the wanted number of pixels the one nearest in shape wins, so the number may be off by a step of a side.

    Returns:
        (height, width)

    Raises:
        ValueError: an argument is not positive.
    """
    if min(height, width, pixels, multiple) < 1:
        raise ValueError(f"need positive numbers, got {height} x {width}, {pixels} pixels, step {multiple}")
    # width / height, at most 4:1 either way
    aspect = min(max(width / height, 1 / MAX_ASPECT), MAX_ASPECT)
    # rows * columns = pixels / multiple^2 and columns / rows = aspect
    ideal_rows = math.sqrt(pixels / aspect) / multiple
    ideal_columns = ideal_rows * aspect

    # Log ratios: too wide and too narrow cost the same. Shape counts twice as much as amount.
    def cost(size: tuple[int, int]) -> float:
        rows, columns = size
        shape = abs(math.log(columns / rows / aspect))
        amount = abs(math.log(rows * columns / (ideal_rows * ideal_columns)))
        return shape + 0.5 * amount

    candidates = [
        (rows, columns)
        for rows in range(max(1, math.floor(ideal_rows) - 1), math.ceil(ideal_rows) + 2)
        for columns in range(max(1, math.floor(ideal_columns) - 1), math.ceil(ideal_columns) + 2)
    ]
    rows, columns = min(candidates, key=cost)
    return rows * multiple, columns * multiple


def resize(
    image: Float[Tensor, "height width channels"],
    height: int,
    width: int,
    mode: Literal["smooth", "nearest"] = "smooth",
) -> Float[Tensor, "new_height new_width channels"]:
    """All of an image at another size, even if that stretches it; see `fit` for the modes."""
    if image.shape[:2] == (height, width):
        return image
    # [height, width, channels] -> [1, channels, height, width] for torch's resizing
    planes = image.movedim(-1, 0)[None]
    if mode == "nearest":
        resized = torch.nn.functional.interpolate(planes, (height, width), mode="nearest-exact")
    else:
        resized = torch.nn.functional.interpolate(
            planes, (height, width), mode="bicubic", align_corners=False, antialias=True
        )
        # bicubic overshoots at edges
        resized = resized.clamp(float(image.min()), float(image.max()))
    return resized[0].movedim(0, -1).contiguous()


def check_image(image: Float[Tensor, "height width 3"]) -> None:
    """Refuse what no estimator can use.

    Raises:
        ValueError: the image is not height x width x 3, has no pixel, or leaves [0, 1].
    """
    if image.ndim != 3 or image.shape[-1] != 3 or image.numel() == 0:
        raise ValueError(f"an image is height x width x 3 with at least one pixel, got {tuple(image.shape)}")
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):  # also refuses NaN
        raise ValueError(f"an image's values lie in [0, 1], got {low} to {high}")
