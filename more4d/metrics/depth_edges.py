"""Whether a depth map jumps where the truth jumps: boundary F1, right up to a scale of the depth.

The measure of Depth Pro (Bochkovskii et al., arXiv 2410.02073): two neighbouring pixels have an edge
between them if the farther is more than a factor farther than the nearer. Precision and recall of these
edges, each with its side, make an F1 score per factor; larger factors weigh more in the mean.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

FACTORS = tuple(1.05 + 0.2 * index / 9 for index in range(10))


def edge_f1(
    depth: Float[Tensor, "height width"],
    truth: Float[Tensor, "height width"],
    valid: Bool[Tensor, "height width"] | None = None,
) -> float:
    """Weighted mean of the F1 scores over `FACTORS`; NaN where the truth has no edge at all.

    Args:
        depth: positive, any unit.
        truth: positive.
        valid: where the truth is known; edges beside an unknown pixel do not count.

    Raises:
        ValueError: the sizes differ.
    """
    if depth.shape != truth.shape:
        raise ValueError(f"sizes differ: {tuple(depth.shape)} and {tuple(truth.shape)}; resize first")
    known = torch.ones_like(truth, dtype=torch.bool) if valid is None else valid
    estimate, true = _steps(depth, known), _steps(truth, known)
    scores, weights = [], []
    for factor in FACTORS:
        predicted, true_edges = estimate > factor, true > factor
        if bool(true_edges.any()):
            hits = (predicted & true_edges).sum()
            precision = hits / predicted.sum().clamp(min=1)
            recall = hits / true_edges.sum()
            scores.append(float(2 * precision * recall / (precision + recall).clamp(min=1e-9)))
            weights.append(factor)
    if not scores:
        return float("nan")
    return sum(s * w for s, w in zip(scores, weights, strict=True)) / sum(weights)


def _steps(depth: Tensor, known: Tensor) -> Tensor:
    """How much farther each of four neighbours is, as a factor; 0 where one of the two is unknown."""
    steps = []
    for axis in (0, 1):
        length = depth.shape[axis]
        first, second = depth.narrow(axis, 0, length - 1), depth.narrow(axis, 1, length - 1)
        both = known.narrow(axis, 0, length - 1) & known.narrow(axis, 1, length - 1)
        steps += [torch.where(both, ratio, 0).flatten() for ratio in (second / first, first / second)]
    return torch.cat(steps)
