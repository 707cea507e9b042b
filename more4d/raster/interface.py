"""What a rasteriser takes and gives, and the drawing rule that all z-buffers share.

A point represents a patch of surface. Seen by a camera, the patch's bounding box measures `2 half_x` by
`2 half_y` pixels around the projected point: half the sum of the spans of its two edges (first order in the
perspective), or footprint * focal / z for a patch that faces the camera. The point covers

* the *core*: the pixels whose centres lie inside that box, at least the pixel the point falls in;
* a *margin*: the pixels inside the box enlarged by `MARGIN`. It closes the cracks that rounding, depth noise
  and curved surfaces leave between boxes that only just touch.

The nearest depth wins a pixel; of equal depths the lowest point index. In the margin a point competes as if
it lay `MARGIN_DEPTH_BIAS` footprints farther away, so a margin never overrides the core of its own surface
but still hides what is behind it. A margin reaches less than a pixel beyond a box of one pixel, so the camera
that took the photo sees every point in exactly its own pixel.

Boxes are half open, (x - half, x + half]. Points nearer than `NEAR_M` or infinitely far are not drawn.

All arithmetic is float32 in the order written in `zbuffer.make_fragments`; every z-buffer follows it bit for
bit.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from more4d.geometry.camera import CameraPath

# A pixel with less than half of its area covered is a hole. Colour never decides: black is a colour.
COVERAGE_THRESHOLD = 0.5
# Points nearer to the camera than this (metres) are not drawn.
NEAR_M = 1e-3
# The margin is the core's box enlarged by this factor: a core of one pixel gets less than a pixel around it.
MARGIN = 1.5
# Added depth of margin pixels, in footprints: more than neighbouring pixels of one surface differ by.
MARGIN_DEPTH_BIAS = 4.0
# Largest box, as a share of the longer image side: a point almost at the camera must not hide the scene.
MAX_BOX = 1 / 8
# Light adds up before the camera's response: surfaces are mixed in linear light, of this gamma.
GAMMA = 2.2


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """Images of a camera path.

    Attributes:
        colour: RGB in [0, 1] of the surface, not multiplied by coverage; 0 where there is none.
        depth_m: the z coordinate in the frame's camera in metres; infinite where there is no surface.
        coverage: share of the pixel that is covered, in [0, 1] (Gaussians: alpha); z-buffers give 0 or 1.
    """

    colour: Float[Tensor, "frames height width 3"]
    depth_m: Float[Tensor, "frames height width"]
    coverage: Float[Tensor, "frames height width"]

    @property
    def hole_mask(self) -> Bool[Tensor, "frames height width"]:
        """Disoccluded pixels: less than half covered. Black points are no holes."""
        return self.coverage < COVERAGE_THRESHOLD

    @classmethod
    def empty(cls, frames: int, height: int, width: int, device: str | torch.device = "cpu") -> "Rendering":
        """Memory to draw into; its content is arbitrary."""

        def memory(*shape: int) -> Tensor:
            if torch.device(device).type != "cpu":
                return torch.empty(shape, device=device)
            # numpy requests large pages from the system, torch does not: the first write then costs far less.
            return torch.from_numpy(np.empty(shape, np.float32))

        size = (frames, height, width)
        return cls(colour=memory(*size, 3), depth_m=memory(*size), coverage=memory(*size))

    def to(self, device: str | torch.device) -> "Rendering":
        """The same on another device."""
        return Rendering(
            colour=self.colour.to(device), depth_m=self.depth_m.to(device), coverage=self.coverage.to(device)
        )

    def slice_frames(self, start: int, stop: int) -> "Rendering":
        """Frames `start` to `stop`, in the same memory."""
        return Rendering(
            colour=self.colour[start:stop],
            depth_m=self.depth_m[start:stop],
            coverage=self.coverage[start:stop],
        )

    @classmethod
    def concat(cls, parts: "list[Rendering]", out: "Rendering | None" = None) -> "Rendering":
        """One rendering of all frames, in order; in the memory of `out` where that is given."""
        # no copy of a single chunk
        if len(parts) == 1 and out is None:
            return parts[0]
        colour, depth_m, coverage = (out.colour, out.depth_m, out.coverage) if out else (None, None, None)
        return cls(
            colour=torch.cat([part.colour for part in parts], out=colour),
            depth_m=torch.cat([part.depth_m for part in parts], out=depth_m),
            coverage=torch.cat([part.coverage for part in parts], out=coverage),
        )


@dataclass(frozen=True, kw_only=True)
class Points:
    """What is drawn: contiguous float32 tensors on one device, as `Rasteriser.render` describes them."""

    positions: Float[Tensor, "poses points 3"]
    colours: Float[Tensor, "points 3"]
    footprint_m: Float[Tensor, " points"]
    patches_m: Float[Tensor, "poses points 2 3"] | None
    margin: float = MARGIN

    def at(self, frame: int) -> tuple[Tensor, Tensor | None]:
        """Positions and patches of one frame; a static scene has one pose for all."""
        pose = frame if len(self.positions) > 1 else 0
        return self.positions[pose], None if self.patches_m is None else self.patches_m[pose]


class Rasteriser(ABC):
    """Draws points along a camera path; see the head of this module for what a point covers.

    A backend implements `_render` on points that are checked and on its device.
    """

    name: str

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)

    def render(  # noqa: PLR0917 - points and camera in the order everyone expects
        self,
        positions: Float[Tensor, "poses points 3"],
        colours: Float[Tensor, "points 3"],
        footprint_m: Float[Tensor, " points"],
        camera_path: CameraPath,
        height: int,
        width: int,
        *,
        patches_m: Float[Tensor, "poses points 2 3"] | None = None,
        margin: float = MARGIN,
        out: Rendering | None = None,
    ) -> Rendering:
        """Draw every frame of the path.

        Args:
            positions: world points in metres for every frame of the path, or for one frame: a static scene.
            colours: RGB in [0, 1].
            footprint_m: side in metres of the square of surface that each point represents, facing the
                camera; 0 draws exactly the pixel the point falls in.
            camera_path: moves the points into each frame's camera.
            height: rows of the image.
            width: columns of the image.
            patches_m: the two edges of each point's surface patch, in the world, in metres; with them a
                slanted patch is drawn as it lies instead of facing the camera (see `surface_patches`).
            margin: factor by which boxes are enlarged by their margins.
            out: an earlier rendering of this size, float32 on this device, to overwrite and return instead of
                allocating memory.

        Raises:
            ValueError: sizes do not agree.
        """
        poses, count = positions.shape[:2]
        # A static scene has one pose for all frames.
        if poses not in (1, camera_path.frames):
            raise ValueError(
                f"positions hold {poses} frames and camera path '{camera_path.name}' {camera_path.frames}; "
                "give as many, or 1 for a static scene"
            )
        if tuple(colours.shape) != (count, 3) or tuple(footprint_m.shape) != (count,):
            raise ValueError(
                f"{count} points need {count} colours and footprints, got {tuple(colours.shape)} "
                f"and {tuple(footprint_m.shape)}"
            )
        if patches_m is not None and tuple(patches_m.shape) != (poses, count, 2, 3):
            raise ValueError(f"patches must be {(poses, count, 2, 3)}, got {tuple(patches_m.shape)}")
        if height < 1 or width < 1:
            raise ValueError(f"an image needs at least one pixel, got {height} x {width}")
        if out is not None:
            self._check_reusable(out, (camera_path.frames, height, width))
        # contiguous float32 on the device, whatever the caller's tensors are
        points = Points(
            positions=self._to_device(positions),
            colours=self._to_device(colours),
            footprint_m=self._to_device(footprint_m),
            patches_m=None if patches_m is None else self._to_device(patches_m),
            margin=margin,
        )
        return self._render(points, camera_path, (height, width), out)

    def _check_reusable(self, out: Rendering, shape: tuple[int, int, int]) -> None:
        for buffer, wanted in ((out.colour, (*shape, 3)), (out.depth_m, shape), (out.coverage, shape)):
            if (
                tuple(buffer.shape) != wanted
                or buffer.dtype != torch.float32
                or buffer.device.type != self.device.type
                or not buffer.is_contiguous()
            ):
                raise ValueError(
                    f"cannot draw {wanted} into {tuple(buffer.shape)} {buffer.dtype} on {buffer.device}"
                )

    def _to_device(self, values: Tensor) -> Tensor:
        return values.detach().to(self.device, torch.float32).contiguous()

    @abstractmethod
    def _render(
        self, points: Points, camera_path: CameraPath, size: tuple[int, int], out: Rendering | None
    ) -> Rendering:
        """`render`, after the checks."""


def pack_cameras(camera_path: CameraPath, height: int, width: int) -> Float[Tensor, "frames 16"]:
    """Per frame the rotation by rows, the translation, and fx, fy, cx, cy in pixels, as float32."""
    # computed in float64, rounded once: every backend gets the same bits
    pose = camera_path.world_to_camera.detach().cpu().double()
    pixels = torch.tensor([width, height, width, height], dtype=torch.float64)
    intrinsics = camera_path.intrinsics.detach().cpu().double() * pixels
    return torch.cat([pose[:, :3, :3].flatten(1), pose[:, :3, 3], intrinsics], 1).float()


def max_half_size(height: int, width: int) -> float:
    """Half the side of the largest box in pixels."""
    return max(0.5, max(height, width) * MAX_BOX / 2)


def camera_depth(
    positions: Float[Tensor, "points 3"], camera: Float[Tensor, "16"]
) -> Float[Tensor, " points"]:
    """The z coordinate in the camera."""
    return rotate(positions, camera, 2) + camera[11]


def rotate(
    vectors: Float[Tensor, "points 3"], camera: Float[Tensor, "16"], row: int
) -> Float[Tensor, " points"]:
    """One row of the camera's rotation times every vector; `camera` is a row of `pack_cameras`."""
    x, y, z = vectors.unbind(-1)
    # The order of this sum is part of the specification: compiled rasterisers repeat it bit for bit.
    return (camera[3 * row] * x + camera[3 * row + 1] * y) + camera[3 * row + 2] * z
