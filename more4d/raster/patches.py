"""How the patch of surface behind every source pixel lies in space."""

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.geometry.camera import Camera

LONGEST_EDGE = 12.0
DEEPEST_EDGE = 0.2


def surface_patches(
    positions: Float[Tensor, "frames height width 3"], depth_m: Float[Tensor, "height width"], camera: Camera
) -> Float[Tensor, "frames height width 2 3"]:
    """The edges of each point's patch: the steps to its neighbours in a row and in a column of the grid.

    Of the two neighbours along an axis the closer one in space is taken: on a surface they are alike, at an
    outline it is the one on the same side, so that nothing is stretched across a gap. A step longer than
    `LONGEST_EDGE` pixels' worth of metres (a surface seen at less than 5 degrees), or whose depth changes by
    more than `DEEPEST_EDGE` of itself, is a tear: there the patch is one pixel's worth, facing the photo.

    Args:
        positions: world points of the photo's pixels, metres.
        depth_m: their depth in the photo.
        camera: the photo's.
    """
    fx_px, fy_px = camera.focal_px(width=depth_m.shape[1], height=depth_m.shape[0])
    right = _closer_step(positions, 2, depth_m / fx_px, torch.tensor([1.0, 0.0, 0.0]))
    down = _closer_step(positions, 1, depth_m / fy_px, torch.tensor([0.0, 1.0, 0.0]))
    return torch.stack([right, down], -2)


def _closer_step(positions: Tensor, axis: int, pixel_m: Tensor, facing: Tensor) -> Tensor:
    steps = positions.diff(dim=axis)
    far = torch.full_like(positions.narrow(axis, 0, 1), torch.inf)
    forward = torch.cat([steps, far], axis)
    backward = torch.cat([far, steps], axis)
    ahead, behind = forward.square().sum(-1), backward.square().sum(-1)
    step = torch.where((ahead <= behind)[..., None], forward, backward)
    torn = torch.minimum(ahead, behind) > (LONGEST_EDGE * pixel_m).square()
    torn |= step[..., 2].abs() > DEEPEST_EDGE * positions[..., 2].abs()
    return torch.where(torn[..., None], pixel_m[..., None] * facing.to(positions), step)
