"""Another number of frames for the same motion.

A model generates its native number of frames. They span the whole motion; asking for more or fewer frames
samples that span more or less finely. It neither prolongs nor cuts the motion.
"""

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from torch import Tensor


def resampling_matrix(frames: int, wanted: int) -> Float[Tensor, "wanted frames"]:
    """The matrix that takes `frames` samples of a natural cubic spline to `wanted` samples of the same span.

    Every row sums to one (what stands still stays still), and the first and last rows pick the first and
    last frame exactly.
    """
    if frames < 1 or wanted < 1:
        raise ValueError(f"frame counts must be positive, got {frames} and {wanted}")
    if frames == 1:
        return torch.ones(wanted, 1)
    times = np.arange(frames) / (frames - 1)
    asked = np.arange(wanted) / max(wanted - 1, 1)
    # Two samples carry no curvature: the natural spline through them is the straight line.
    rows = CubicSpline(times, np.eye(frames), bc_type="natural")(asked)
    return torch.from_numpy(np.asarray(rows, dtype=np.float32))


def resample_frames(values: Float[Tensor, "frames *rest"], wanted: int) -> Float[Tensor, "wanted *rest"]:
    """`values` over the same span of time with `wanted` frames, smoothly interpolated."""
    frames = values.shape[0]
    if frames == wanted:
        return values
    matrix = resampling_matrix(frames, wanted).to(values)
    return (matrix @ values.reshape(frames, -1)).reshape(wanted, *values.shape[1:])


def smooth_in_time(values: Float[Tensor, "frames *rest"], passes: int) -> Float[Tensor, "frames *rest"]:
    """Each frame a quarter its neighbours' each and half its own, `passes` times over.

    Beyond the ends motion goes on uniformly: first and last frame, and whatever moves uniformly, stay.
    """
    if values.shape[0] < 3:
        return values
    for _ in range(passes):
        between = (values[:-2] + 2 * values[1:-1] + values[2:]) / 4
        values = torch.cat([values[:1], between, values[-1:]])
    return values
