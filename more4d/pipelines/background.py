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

SUPERSAMPLING = 2
"""As of tracks: textures alias like surfaces do."""


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
        positions, colours, footprint_m, patches_m = self._points
        rendering = open_rasteriser(AUTO, "cpu").render(
            positions,
            colours,
            footprint_m,
            camera_path,
            height * supersampling,
            width * supersampling,
            patches_m=patches_m,
            margin=MARGIN if supersampling == 1 else SUPERSAMPLED_MARGIN,
        )
        return rendering if supersampling == 1 else average_cells(rendering, supersampling)

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
        # Only the box around what is not covered is drawn.
        rows, columns = mask_bounds(open_pixels)
        height, width = coverage.shape
        window = window_path(camera_path, frame, rows, columns, height=height, width=width)
        drawn = self.draw(window, height=rows.stop - rows.start, width=columns.stop - columns.start)
        known = coverage[rows, columns]
        added = (1 - known) * drawn.coverage[0]
        total = known + added
        mixed = colour[rows, columns] * known[..., None] + drawn.colour[0] * added[..., None]
        # Exact where the film covers all: dividing by 1 changes nothing.
        mixed /= torch.where(total > 0, total, 1.0)[..., None]
        colour, coverage = colour.clone(), coverage.clone()
        colour[rows, columns], coverage[rows, columns] = mixed, total
        return colour, coverage


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
