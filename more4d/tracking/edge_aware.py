"""Averages that stay on one surface: a recursive filter that edges of colour and depth hold back.

It is the recursive form of the domain transform (Gastal and Oliveira 2011, section 4): each pass replaces a
value by a share of its neighbour's, and the share falls with the step of colour and log depth between them.
Unlike a window it reaches along a whole surface, so that a panel without texture hears of its rim.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

COLOUR_STEP = 0.08
LOG_DEPTH_STEP = 0.1


class EdgeAwareFilter:
    """Averages over the surfaces of one picture."""

    def __init__(
        self,
        colours: Float[ndarray, "height width 3"],
        depth_m: Float[ndarray, "height width"],
        *,
        sigma_px: float = 20.0,
        iterations: int = 2,
    ) -> None:
        """`sigma_px` is the standard deviation of the average on a surface without edges."""
        log_depth = np.log(depth_m)
        steps = [
            np.abs(np.diff(log_depth, axis=axis)) / LOG_DEPTH_STEP
            + np.abs(np.diff(colours, axis=axis)).mean(-1) / COLOUR_STEP
            for axis in (1, 0)
        ]
        self._shares = []
        for index in range(iterations):
            # Halved from pass to pass and normalised so that the variances add up to sigma_px squared.
            sigma = sigma_px * np.sqrt(3) * 2 ** (iterations - index - 1) / np.sqrt(4**iterations - 1)
            feedback = np.exp(-np.sqrt(2) / sigma)
            self._shares.append([(feedback * np.exp(-step)).astype(np.float32) for step in steps])

    def __call__(
        self, values: Float[ndarray, "height width channels"]
    ) -> Float[ndarray, "height width channels"]:
        """The averages; constants stay what they are."""
        values = values.astype(np.float32, copy=True)
        for across, down in self._shares:
            _smooth(values.swapaxes(0, 1), across.T)
            _smooth(values, down)
        return values

    def fill(
        self, values: Float[ndarray, "height width channels"], weight: Float[ndarray, "height width"]
    ) -> Float[ndarray, "height width channels"]:
        """Weighted averages; where no weight reaches, zero."""
        total = self(np.concatenate([values * weight[..., None], weight[..., None]], -1))
        return total[..., :-1] / np.maximum(total[..., -1:], 1e-12)


def _smooth(values: ndarray, share: ndarray) -> None:
    """Forth and back along the first axis, in place."""
    count = len(values)
    for row in range(1, count):
        values[row] += share[row - 1, :, None] * (values[row - 1] - values[row])
    for row in range(count - 2, -1, -1):
        values[row] += share[row, :, None] * (values[row + 1] - values[row])
