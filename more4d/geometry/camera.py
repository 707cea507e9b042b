"""The pinhole camera, in normalised intrinsics, OpenCV axes (x right, y down, z forward)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


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
        the depth is returned so that the caller can tell.
        """
        x, y, depth = points.unbind(-1)
        return torch.stack([self.fx * x / depth + self.cx, self.fy * y / depth + self.cy], -1), depth

    def unproject(
        self, position: Float[Tensor, "*batch 2"], depth: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch 3"]:
        """The inverse of `project`: points in metres in the camera's frame."""
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
    v, u = torch.meshgrid(
        (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
    )
    return torch.stack([u, v], -1)
