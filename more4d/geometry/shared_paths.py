"""Motion of many points by few paths that all of them share.

Things move as wholes, so the matrix of displacements, a row per point and three numbers per frame, has nearly
a small rank. The best paths of a number in the mean of squares are its right singular vectors (Eckart and
Young, 1936): eigenvectors of its Gram matrix, which is small whatever the number of points.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

MOST_PATHS = 16
TOLERANCE_PX = 0.25
TOLERANCE_QUANTILE = 0.95
"""As few paths as keep this share of positions within the tolerance, in pixels of the photo."""


def principal_paths(
    displacements_px: Float[Tensor, "points frames 3"],
    *,
    error_px: float = TOLERANCE_PX,
    most: int = MOST_PATHS,
) -> tuple[Float[Tensor, "paths frames 3"], Float[Tensor, "points paths"], Float[Tensor, "points frames 3"]]:
    """The fewest paths that keep most positions within `error_px`, or `most` of them.

    Args:
        displacements_px: from frame 0, in pixels of the photo at each point's depth.

    Returns:
        The paths, orthonormal and 0 in frame 0, what each counts for in pixels, and what they leave; in
        float64.
    """
    points, frames = displacements_px.shape[:2]
    # A row per point: x, y and z of frame 0, of frame 1, ...
    rows = displacements_px.double().reshape(points, frames * 3)
    _, vectors = torch.linalg.eigh(rows.T @ rows)
    vectors = vectors.flip(1)  # eigenvalues ascend
    for count in range(1, min(most, frames * 3) + 1):
        basis = vectors[:, :count]
        amounts = rows @ basis
        left = (rows - amounts @ basis.T).view(points, frames, 3)
        # Frame 0 is exact and would dilute the quantile.
        wrong = left[:, 1:].norm(dim=-1).flatten()
        if not len(wrong) or float(np.quantile(wrong.numpy(), TOLERANCE_QUANTILE)) <= error_px:
            break
    paths = basis.T.reshape(count, frames, 3).clone()
    paths[:, 0] = 0
    return paths, amounts, left
