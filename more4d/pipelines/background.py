"""The background of a scene as films show it: an image with depth that is drawn behind what is known.

It is one for all frames and all cameras (`pipelines.background_completion` makes it), so what a camera sees
in a hole stays what it is while the camera moves, and another camera sees the same.
"""

from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from more4d.geometry.camera import Camera, CameraPath, crop_camera
from more4d.raster.interface import MARGIN, Rendering
from more4d.raster.registry import AUTO, open_rasteriser
from more4d.raster.render import SUPERSAMPLED_MARGIN, average_cells, surface_patches

# As of tracks: textures alias like surfaces do.
SUPERSAMPLING = 2
# Pixels along the side of the smallest window that is drawn alone.
WINDOW = 64


@dataclass(frozen=True, kw_only=True)
class Background:
    """A completed image with depth behind a moving scene; it stands still.

    Attributes:
        colour: RGB in [0, 1] of every texel.
        depth_m: metres.
        needed: texels that cameras see in their holes.
        hidden: texels that the photo does not show: they are made.
        camera: intrinsics of the canvas; its pose is that of the photo's camera.
    """

    colour: Float[Tensor, "height width 3"]
    depth_m: Float[Tensor, "height width"]
    needed: Bool[Tensor, "height width"]
    hidden: Bool[Tensor, "height width"]
    camera: Camera

    def values(self) -> dict[str, Tensor | Camera]:
        """The attributes by name, as `files.fills.save_background` takes them."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @cached_property
    def _points(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Positions, colours, footprints and patches of what is needed, as `Rasteriser.render` takes them."""
        positions = self.camera.unproject_depth(self.depth_m)[None]
        patches = surface_patches(positions, self.depth_m, self.camera)[0]
        height, width = self.depth_m.shape
        footprint = self.depth_m / min(self.camera.focal_px(width=width, height=height))
        keep = self.needed
        return positions[0][keep][None], self.colour[keep], footprint[keep], patches[keep][None]

    def draw(
        self, camera_path: CameraPath, *, height: int, width: int, supersampling: int = SUPERSAMPLING
    ) -> Rendering:
        """What is needed of the background, as the cameras of a path see it; elsewhere are holes.

        Args:
            height, width: of the frames, in pixels.
            supersampling: it is drawn so many times larger and averaged.
        """
        margin = MARGIN if supersampling == 1 else SUPERSAMPLED_MARGIN
        drawn = self._draw_points(camera_path, height * supersampling, width * supersampling, margin)
        return drawn if supersampling == 1 else average_cells(drawn, supersampling)

    def _draw_points(self, camera_path: CameraPath, height: int, width: int, margin: float) -> Rendering:
        positions, colours, footprint_m, patches_m = self._points
        return open_rasteriser(AUTO, "cpu").render(
            *(positions, colours, footprint_m, camera_path, height, width),
            patches_m=patches_m,
            margin=margin,
        )

    def composite_behind(
        self,
        colour: Float[Tensor, "height width 3"],
        coverage: Float[Tensor, "height width"],
        camera_path: CameraPath,
        frame: int,
    ) -> tuple[Float[Tensor, "height width 3"], Float[Tensor, "height width"]]:
        """One frame of a film with the background behind it: colour, and the share that is covered now.

        Porter and Duff's "over" (1984): what a pixel leaves uncovered is covered as the background covers it.
        """
        open_pixels = coverage < 1
        if not bool(open_pixels.any()) or not bool(self.needed.any()):
            return colour, coverage
        colour, coverage = colour.clone(), coverage.clone()
        for rows, columns in hole_windows(open_pixels):
            self._fill_window(colour, coverage, (rows, columns), camera_path, frame)
        return colour, coverage

    def _fill_window(
        self,
        colour: Float[Tensor, "height width 3"],
        coverage: Float[Tensor, "height width"],
        place: tuple[slice, slice],
        camera_path: CameraPath,
        frame: int,
    ) -> None:
        """`composite_behind` for a window of the frame, in place; only what is not covered is averaged."""
        height, width = coverage.shape
        known = coverage[place]
        (tall, wide), side = known.shape, SUPERSAMPLING
        window = window_path(camera_path, frame, *place, height=height, width=width)
        drawn = self._draw_points(window, tall * side, wide * side, SUPERSAMPLED_MARGIN)
        row, column = (known < 1).nonzero().unbind(1)
        # [pixels, side, side]: the cell of each pixel; where nothing is drawn colour and coverage are 0
        cells = (tall, side, wide, side)
        cover = drawn.coverage.view(cells)[row, :, column]
        behind = drawn.colour.view(*cells, 3)[row, :, column].mean((1, 2))
        share = known[row, column]
        total = share + (1 - share) * cover.mean((1, 2))
        mixed = colour[place][row, column] * share[:, None] + behind * (1 - share)[:, None]
        # Exact where all is covered: dividing by 1 changes nothing.
        colour[place][row, column] = mixed / torch.where(total > 0, total, 1.0)[:, None]
        known[row, column] = total


def hole_windows(mask: Bool[Tensor, "rows columns"]) -> list[tuple[slice, slice]]:
    """Boxes around all that is true, beside each other: gaps of more than `WINDOW` columns are left out.

    Holes lie at the borders of a frame and behind things; one box around all would be most of the frame. A
    box is no smaller than `WINDOW`, as the largest patch that a rasteriser draws is a share of its picture.
    """
    columns = mask.any(0).nonzero()[:, 0]
    ends = (columns.diff() > WINDOW).nonzero()[:, 0] + 1
    windows = []
    for run in columns.tensor_split(ends.tolist()):
        across = slice(int(run[0]), int(run[-1]) + 1)
        rows, _ = mask_bounds(mask[:, across])
        windows.append((_no_smaller(rows, mask.shape[0]), _no_smaller(across, mask.shape[1])))
    return windows


def _no_smaller(run: slice, length: int) -> slice:
    """At least `WINDOW` long, within `length`."""
    start = max(0, min(run.start, length - WINDOW))
    return slice(start, max(run.stop, min(start + WINDOW, length)))


def mask_bounds(mask: Bool[Tensor, "rows columns"]) -> tuple[slice, slice]:
    """The smallest rows and columns with all that is true, of which there is something."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def one_frame(path: CameraPath, frame: int) -> CameraPath:
    """A path of this frame alone."""
    return replace(
        path,
        world_to_camera=path.world_to_camera[frame : frame + 1],
        intrinsics=path.intrinsics[frame : frame + 1],
    )


def window_path(
    path: CameraPath, frame: int, rows: slice, columns: slice, *, height: int, width: int
) -> CameraPath:
    """A path of this frame alone that sees a window of its picture, of height x width pixels."""
    camera = crop_camera(
        path.camera(frame),
        left=columns.start / width,
        top=rows.start / height,
        width=(columns.stop - columns.start) / width,
        height=(rows.stop - rows.start) / height,
    )
    intrinsics = torch.tensor([[camera.fx, camera.fy, camera.cx, camera.cy]])
    return replace(one_frame(path, frame), intrinsics=intrinsics)
