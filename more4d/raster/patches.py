"""How the patch of surface behind every source pixel lies in space."""

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.geometry.camera import Camera

MAX_EDGE_PX = 12.0
MAX_DEPTH_STEP = 0.2
MAX_STRETCH = 3.0


def surface_patches(
    positions: Float[Tensor, "frames height width 3"], depth_m: Float[Tensor, "height width"], camera: Camera
) -> Float[Tensor, "frames height width 2 3"]:
    """The edges of each point's patch: the steps to its neighbours in a row and in a column of the grid.

    Of the two neighbours along an axis the farther one counts (measured depth comes in stairs), unless the
    surface tears there: a step longer than `MAX_EDGE_PX` pixels' worth of metres (a surface seen at less
    than 5 degrees), or whose depth changes by more than `MAX_DEPTH_STEP` of itself, leads to another surface.
    So does one that has grown to more than `MAX_STRETCH` times its length in the photo: there a thing
    has moved away from what it hid, and the gap is a hole, not rubber.
    A point without neighbours on its surface stands for one pixel's worth, facing the photo.

    Args:
        positions: world points of the photo's pixels, metres.
        depth_m: their depth in the photo.
        camera: the photo's.
    """
    fx_px, fy_px = camera.focal_px(width=depth_m.shape[1], height=depth_m.shape[0])
    start = camera.unproject_depth(depth_m)[None]
    right = _step(positions, start, 2, depth_m / fx_px, torch.tensor([1.0, 0.0, 0.0]))
    down = _step(positions, start, 1, depth_m / fy_px, torch.tensor([0.0, 1.0, 0.0]))
    return torch.stack([right, down], -2)


def _step(positions: Tensor, start: Tensor, axis: int, pixel_m: Tensor, facing: Tensor) -> Tensor:
    steps = positions.diff(dim=axis)
    none = torch.zeros_like(positions.narrow(axis, 0, 1))
    longest_now = MAX_STRETCH**2 * start.diff(dim=axis).square().sum(-1)
    beyond = torch.zeros_like(start[..., 0].narrow(axis, 0, 1))
    longest = torch.zeros_like(positions)
    length = torch.zeros_like(positions[..., 0])
    for order in (1, -1):
        step = torch.cat([steps, none][::order], axis)
        limit = torch.cat([longest_now, beyond][::order], axis)
        square = step.square().sum(-1)
        whole = (square <= torch.minimum(limit, (MAX_EDGE_PX * pixel_m).square())) & (
            step[..., 2].abs() <= MAX_DEPTH_STEP * positions[..., 2].abs()
        )
        better = whole & (square > length)
        longest = torch.where(better[..., None], step, longest)
        length = torch.where(better, square, length)
    alone = (length == 0)[..., None]
    return torch.where(alone, pixel_m[..., None] * facing.to(positions), longest)
