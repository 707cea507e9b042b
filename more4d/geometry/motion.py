"""Depth-guided motion normalisation and its exact inverse (MoRe4D, arXiv 2512.05044).

With (X_0, Y_0, Z_0) the point of a pixel in frame 0 and z0 = Z_0 its depth,

    dX~ = fx (X_t - X_0) / z0        dY~ = fy (Y_t - Y_0) / z0        dZ~ = (Z_t - Z_0) / z0

so that (dX~, dY~) is, to first order, the displacement in image widths and heights, whatever the scale.
Both directions use the same camera: the scene's own.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.geometry.camera import Camera


def motion_scale(depth_m: Float[Tensor, "*grid"], camera: Camera) -> Float[Tensor, "*grid 3"]:
    """Metres per unit of normalised motion along each axis: (z0 / fx, z0 / fy, z0).

    A depth that is NaN, infinite, zero or negative counts as 1 metre, in both directions.
    """
    usable = torch.isfinite(depth_m) & (depth_m > 0)
    depth_m = torch.where(usable, depth_m, torch.ones_like(depth_m))
    return torch.stack([depth_m / camera.fx, depth_m / camera.fy, depth_m], -1)


def normalise_motion(
    positions: Float[Tensor, "frames *grid 3"], camera: Camera
) -> Float[Tensor, "frames *grid 3"]:
    """Positions in metres to normalised motion; frame 0 becomes zero."""
    start = positions[0]
    return (positions - start) / motion_scale(start[..., 2], camera)


def denormalise_motion(
    motion: Float[Tensor, "frames *grid 3"], start: Float[Tensor, "*grid 3"], camera: Camera
) -> Float[Tensor, "frames *grid 3"]:
    """The inverse of `normalise_motion`, given the points of frame 0."""
    # One pass over memory: motion of a whole clip is large.
    return torch.addcmul(start, motion, motion_scale(start[..., 2], camera))
