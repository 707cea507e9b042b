"""The distance between two sets of features, as FID and FVD take it."""

import torch
from jaxtyping import Float
from torch import Tensor


def frechet_distance(first: Float[Tensor, "n dim"], second: Float[Tensor, "m dim"]) -> float:
    """|mu1 - mu2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)): the Frechet distance of the normal distributions that
    have the means and covariances of both sets (Dowson and Landau 1982).

    It is biased for few samples: compare only sets of equal size.

    Raises:
        ValueError: a set has fewer than 2 samples.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError(f"a covariance needs at least 2 samples, got {len(first)} and {len(second)}")
    first, second = first.double(), second.double()
    means = (first.mean(0) - second.mean(0)).square().sum()
    one, two = (torch.cov(each.T).reshape(each.shape[1], each.shape[1]) for each in (first, second))
    # tr((C1 C2)^(1/2)) is the sum of the singular values of A^T B for C1 = A A^T and C2 = B B^T
    roots = [_root(covariance) for covariance in (one, two)]
    cross = torch.linalg.svdvals(roots[0].T @ roots[1]).sum()
    return float(means + one.trace() + two.trace() - 2 * cross)


def _root(covariance: Float[Tensor, "dim dim"]) -> Float[Tensor, "dim dim"]:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt()
