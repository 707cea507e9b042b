"""How the patch of surface behind every source pixel lies in space."""

import torch
from jaxtyping import Float
from torch import Tensor

LONGEST_EDGE = 12.0
DEEPEST_EDGE = 0.2


def surface_patches(
    positions: Float[Tensor, "frames height width 3"], footprint_m: Float[Tensor, "height width"]
) -> Float[Tensor, "frames height width 2 3"]:
    """The edges of each point's patch: the steps to its neighbours in a row and in a column of the grid.

    Of the two neighbours along an axis the closer one in space is taken: on a surface they are alike, at an
    outline it is the one on the same side, so that nothing is stretched across a gap. An edge longer than
    `LONGEST_EDGE` footprints (a surface seen at less than 5 degrees), or whose depth changes by more than
    `DEEPEST_EDGE` of itself, is a tear: there the patch is a square of the footprint facing the source camera.

    Args:
        positions: world points of a grid of source pixels, metres.
        footprint_m: side of the patch of a surface that faces the camera, metres.
    """
    right = _closer_step(positions, 2, footprint_m, torch.tensor([1.0, 0.0, 0.0]))
    down = _closer_step(positions, 1, footprint_m, torch.tensor([0.0, 1.0, 0.0]))
    return torch.stack([right, down], -2)


def _closer_step(positions: Tensor, axis: int, footprint_m: Tensor, facing: Tensor) -> Tensor:
    steps = positions.diff(dim=axis)
    far = torch.full_like(positions.narrow(axis, 0, 1), torch.inf)
    forward = torch.cat([steps, far], axis)
    backward = torch.cat([far, steps], axis)
    ahead, behind = forward.square().sum(-1), backward.square().sum(-1)
    step = torch.where((ahead <= behind)[..., None], forward, backward)
    torn = torch.minimum(ahead, behind) > (LONGEST_EDGE * footprint_m).square()
    torn |= step[..., 2].abs() > DEEPEST_EDGE * positions[..., 2].abs()
    return torch.where(torn[..., None], footprint_m[..., None] * facing.to(positions), step)
