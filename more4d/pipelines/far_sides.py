"""Holes that no background belongs in: those within a moving thing itself.

A thing that turns shows sides that the photo does not, and one that is cut by the frame goes on beyond it.
The tracks have no points there, so a film has holes; but what belongs in them moves with the thing, and a
background that stands still cannot show it. They are left to what 4D-ViSM generated for the frame.

Such holes are found by the thing's shape: its pixels in the photo, carried as a whole by their mean motion,
cover about what the thing covers. Beyond the frame its mirror image stands in for what is cut off.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.tracks import Tracks
from more4d.raster.registry import AUTO, open_rasteriser
from more4d.raster.render import surface_patches


@dataclass(frozen=True, kw_only=True)
class MovingShapes:
    """The shapes of what moves, as points on the canvas of a background.

    Attributes:
        positions: metres, of the photo's moment.
        footprint_m, patches_m: of the points, as `Rasteriser.render` takes them.
        thing: the number of each point's thing.
        rows, columns: texels of the photo, one per cell.
        things: the cells of the photo that each thing has.
        tracks: the scene.
    """

    positions: Float[Tensor, "points 3"]
    footprint_m: Float[Tensor, " points"]
    patches_m: Float[Tensor, "points 2 3"]
    thing: Tensor
    rows: Tensor
    columns: Tensor
    things: list[Bool[Tensor, "rows columns"]]
    tracks: Tracks

    def seen(self, here: CameraPath, frame: int, *, height: int, width: int) -> Bool[Tensor, "height width"]:
        """The pixels that the shapes cover in a frame, seen by the camera of a path of one frame."""
        if not self.things or self.tracks.frames == 1:
            return torch.zeros(height, width, dtype=torch.bool)
        start, now = (self._cells_at(number) for number in (0, frame))
        way = torch.stack([(now - start)[cells].mean(0) for cells in self.things])
        drawn = open_rasteriser(AUTO, "cpu").render(
            *((self.positions + way[self.thing])[None], torch.ones_like(self.positions)),
            *(self.footprint_m, here, height, width),
            patches_m=self.patches_m[None],
        )
        return ~drawn.hole_mask[0]

    def _cells_at(self, frame: int) -> Float[Tensor, "rows columns 3"]:
        return self.tracks.positions_in(slice(frame, frame + 1))[0][self.rows[:, None], self.columns]


def moving_shapes(
    tracks: Tracks,
    moving: Bool[Tensor, "rows columns"],
    depth_m: Float[Tensor, "rows columns"],
    camera: Camera,
    *,
    texels: tuple[Tensor, Tensor],
    beyond: tuple[int, int],
) -> MovingShapes:
    """The shapes of the things that move.

    Args:
        moving: cells of the photo of which something moves.
        depth_m: metres, of the same cells.
        camera: of the canvas.
        texels: row of the photo of each row of cells, and column of each column.
        beyond: rows and columns of the canvas on each side of the photo.
    """
    from scipy.ndimage import label  # here: it takes long to import

    rows, columns = beyond
    around = (columns, columns, rows, rows)
    canvas = pad(moving[None, None].float(), around, mode="reflect")[0, 0] > 0
    depth_m = pad(depth_m[None, None], around, mode="reflect")[0, 0]
    # Of what is mirrored only that counts which hangs together with a thing in the photo.
    numbers = torch.from_numpy(label(canvas.numpy(), structure=torch.ones(3, 3).numpy())[0]).long()
    inside = numbers[rows : rows + moving.shape[0], columns : columns + moving.shape[1]]
    kept = [number for number in inside.unique().tolist() if number > 0]
    positions = camera.unproject_depth(depth_m)
    patches = surface_patches(positions[None], depth_m, camera)[0]
    mine = torch.isin(numbers, torch.tensor(kept, dtype=torch.long))
    focal_px = min(camera.focal_px(width=canvas.shape[1], height=canvas.shape[0]))
    thing = torch.searchsorted(torch.tensor(kept, dtype=torch.long), numbers[mine])
    return MovingShapes(
        positions=positions[mine],
        footprint_m=depth_m[mine] / focal_px,
        patches_m=patches[mine],
        thing=thing,
        rows=texels[0],
        columns=texels[1],
        things=[inside == number for number in kept],
        tracks=tracks,
    )
