"""What every rasteriser takes and gives, and how one is opened by name."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from more4d.foundation.errors import InputError
from more4d.geometry.camera_path import CameraPath
from more4d.geometry.tracks import PointTracks
from more4d.raster.patches import surface_patches

BACKENDS = ("reference", "numba", "torch", "gsplat", "diff-gaussian")
COVERAGE_THRESHOLD = 0.5
FRAMES_PER_CHUNK = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """What a camera path sees.

    Attributes:
        colour: RGB in [0, 1] of what is there, not multiplied by coverage; 0 where nothing is.
        depth_m: the z coordinate in the frame's camera in metres; infinite where nothing is.
        coverage: how much of the pixel something covers, in [0, 1]; the z-buffers give 0 or 1.
    """

    colour: Float[Tensor, "frames height width 3"]
    depth_m: Float[Tensor, "frames height width"]
    coverage: Float[Tensor, "frames height width"]

    @property
    def hole_mask(self) -> Bool[Tensor, "frames height width"]:
        """Pixels in which the camera sees no point: less than half covered. Black points are no holes."""
        return self.coverage < COVERAGE_THRESHOLD

    @classmethod
    def empty(cls, frames: int, height: int, width: int, device: str | torch.device = "cpu") -> "Rendering":
        """Memory to draw into; its content is arbitrary."""

        def memory(*shape: int) -> Tensor:
            if torch.device(device).type != "cpu":
                return torch.empty(shape, device=device)
            # numpy asks the system for large pages, torch does not: the first write then costs far less.
            return torch.from_numpy(np.empty(shape, np.float32))

        size = (frames, height, width)
        return cls(colour=memory(*size, 3), depth_m=memory(*size), coverage=memory(*size))

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

    def at(self, frame: int) -> tuple[Tensor, Tensor | None]:
        """Positions and patches of one frame; a still scene has one pose for all."""
        pose = frame if len(self.positions) > 1 else 0
        return self.positions[pose], None if self.patches_m is None else self.patches_m[pose]


class Rasteriser(ABC):
    """Draws points along a camera path.

    The rules that the z-buffers share are those of `fragments.py`.
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
        out: Rendering | None = None,
    ) -> Rendering:
        """Draw every frame of the path.

        Args:
            positions: world points in metres for every frame of the path, or for one frame: a still scene.
            colours: RGB in [0, 1].
            footprint_m: side in metres of the square of surface that each point stands for, facing the
                camera; 0 draws exactly the pixel the point falls in.
            camera_path: moves the points into each frame's camera.
            height: rows of the picture.
            width: columns of the picture.
            patches_m: the two edges of each point's surface patch, in the world, in metres; with them a
                slanted patch is drawn as it lies instead of facing the camera (see `surface_patches`).
            out: an earlier rendering of this size, float32 on this device, to overwrite and return instead of
                asking for new memory.

        Raises:
            ValueError: sizes do not agree.
        """
        poses, count = positions.shape[:2]
        if poses not in (1, camera_path.frames):
            raise ValueError(
                f"positions hold {poses} frames and camera path '{camera_path.name}' {camera_path.frames}; "
                "give as many, or 1 for a still scene"
            )
        if tuple(colours.shape) != (count, 3) or tuple(footprint_m.shape) != (count,):
            raise ValueError(
                f"{count} points need {count} colours and footprints, got {tuple(colours.shape)} "
                f"and {tuple(footprint_m.shape)}"
            )
        if patches_m is not None and tuple(patches_m.shape) != (poses, count, 2, 3):
            raise ValueError(f"patches must be {(poses, count, 2, 3)}, got {tuple(patches_m.shape)}")
        if height < 1 or width < 1:
            raise ValueError(f"a picture needs at least one pixel, got {height} x {width}")
        if out is not None:
            self._check_reusable(out, (camera_path.frames, height, width))
        points = Points(
            positions=self._to_device(positions),
            colours=self._to_device(colours),
            footprint_m=self._to_device(footprint_m),
            patches_m=None if patches_m is None else self._to_device(patches_m),
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


def open_rasteriser(name: str = "auto", device: str | torch.device = "cpu") -> Rasteriser:
    """The rasteriser called `name`; "auto" takes numba on a CPU and torch on a GPU.

    Raises:
        InputError: the name is not known, or the backend cannot run on the device.
        MissingPackageError: the backend's package is not installed.
    """
    chosen = name
    if name == "auto":
        chosen = "numba" if torch.device(device).type == "cpu" else "torch"
        log.info("rasteriser: %s on %s", chosen, device)
    Backend: type[Rasteriser]
    if chosen == "reference":
        from more4d.raster.zbuffer import ZBuffer as Backend
    elif chosen == "numba":
        from more4d.raster.numba_backend import NumbaRasteriser as Backend
    elif chosen == "torch":
        from more4d.raster.scatter_backend import ScatterRasteriser as Backend
    elif chosen == "gsplat":
        from more4d.raster.gsplat_backend import GsplatRasteriser as Backend
    elif chosen == "diff-gaussian":
        from more4d.raster.diff_gaussian_backend import DiffGaussianRasteriser as Backend
    else:
        raise InputError(f"unknown rasteriser '{name}'; choose one of auto, {', '.join(BACKENDS)}")
    return Backend(device)


def render_tracks(
    tracks: PointTracks,
    camera_path: CameraPath,
    *,
    height: int,
    width: int,
    backend: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Rendering:
    """Film moving tracks along a camera path.

    Every point is drawn as the patch of surface that its source pixel covers (`surface_patches`), so that
    a surface seen from closer or more squarely has no cracks, and the view of the photo's own camera at
    frame 0 gives the photo back.

    Args:
        progress: called with (frames done, frames in all).

    Raises:
        ValueError: tracks and path differ in their number of frames and the tracks are not still (one frame).
    """
    if tracks.frames not in (1, camera_path.frames):
        raise ValueError(
            f"the tracks have {tracks.frames} frames and camera path '{camera_path.name}' has "
            f"{camera_path.frames}; sample the path at as many frames"
        )
    rasteriser = open_rasteriser(backend, tracks.positions.device)
    footprint_m = tracks.footprint_m.flatten()
    rendering = Rendering.empty(camera_path.frames, height, width, tracks.positions.device)
    for start in range(0, camera_path.frames, FRAMES_PER_CHUNK):
        stop = min(start + FRAMES_PER_CHUNK, camera_path.frames)
        poses = slice(0, 1) if tracks.frames == 1 else slice(start, stop)
        positions = tracks.positions[poses]
        rasteriser.render(
            positions.flatten(1, 2),
            tracks.colours.flatten(0, 1),
            footprint_m,
            CameraPath(
                name=camera_path.name,
                world_to_camera=camera_path.world_to_camera[start:stop],
                intrinsics=camera_path.intrinsics[start:stop],
            ),
            height,
            width,
            patches_m=surface_patches(positions, tracks.depth_m, tracks.camera).flatten(1, 2),
            out=rendering.slice_frames(start, stop),
        )
        if progress is not None:
            progress(stop, camera_path.frames)
    return rendering
