"""The compiled loops of `pipelines.texture`, which says what they compute."""

# ruff: noqa: PLR0917 - compiled functions take their arguments by position

import numpy as np

from more4d.raster.numba_backend import compiled

ZERO, ONE = np.float32(0), np.float32(1)
NONE = -1
# The minimal standard generator (Park and Miller 1988): the same numbers in compiled code and in Python.
MULTIPLIER, MODULUS = 48271, 2147483647
TRIES = 48  # random places for a pixel whose mirrored place is no source


@compiled
def _draw(state, limit):
    """A number in [0, limit) and the next state of the generator."""
    state = state * MULTIPLIER % MODULUS
    return state * limit // MODULUS, state


@compiled
def _allowed(source, log_depth, tolerance, y, x, row, column):
    """Whether the patch around (row, column) may be shown at (y, x)."""
    if row < 0 or column < 0 or row >= source.shape[0] or column >= source.shape[1]:
        return False
    return source[row, column] and abs(log_depth[row, column] - log_depth[y, x]) <= tolerance


@compiled
def patch_cost(detail, confidence, features, radius, y, x, row, column, most):
    """How unlike two patches are: squared distance of the features in the middle, plus the mean squared
    difference of detail, weighted by confidence. Once it exceeds `most` it may stop there.
    """
    cost = ZERO
    for k in range(features.shape[2]):
        step = features[y, x, k] - features[row, column, k]
        cost += step * step
    if cost >= most:
        return cost
    # of the patch that lies inside of the picture
    top, bottom = max(-radius, -y), min(radius, detail.shape[0] - 1 - y)
    left, right = max(-radius, -x), min(radius, detail.shape[1] - 1 - x)
    weights = ZERO
    for dy in range(top, bottom + 1):
        for dx in range(left, right + 1):
            weights += confidence[y + dy, x + dx]
    total = ZERO
    for dy in range(top, bottom + 1):
        for dx in range(left, right + 1):
            unlike = ZERO
            for k in range(3):
                step = detail[y + dy, x + dx, k] - detail[row + dy, column + dx, k]
                unlike += step * step
            total += unlike * confidence[y + dy, x + dx]
        if cost + total / weights >= most:
            return cost + total / weights
    return cost + total / weights


@compiled
def start(target, source, log_depth, nearest, tolerance, seed, field):
    """Fill `field` where it holds no allowed place: with the place mirrored at the nearest source, else with
    one of `TRIES` random places, farther and farther away, else with `NONE`.
    """
    height, width = source.shape
    state = np.int64(seed)
    for y in range(height):
        for x in range(width):
            if not target[y, x]:
                continue
            row, column = field[y, x]
            if _allowed(source, log_depth, tolerance, y, x, row, column):
                continue
            row, column = 2 * nearest[0, y, x] - y, 2 * nearest[1, y, x] - x
            if not _allowed(source, log_depth, tolerance, y, x, row, column):
                row, column = nearest[0, y, x], nearest[1, y, x]
            for n in range(TRIES):
                if _allowed(source, log_depth, tolerance, y, x, row, column):
                    break
                reach = max(height, width) * (n + 1) // TRIES
                row, state = _draw(state, 2 * reach + 1)
                column, state = _draw(state, 2 * reach + 1)
                row, column = y - reach + row, x - reach + column
            if not _allowed(source, log_depth, tolerance, y, x, row, column):
                row, column = NONE, NONE
            field[y, x, 0], field[y, x, 1] = row, column


@compiled
def improve(
    detail, confidence, features, target, source, log_depth, tolerance, radius, backward, seed, field
):
    """One sweep of PatchMatch over all targets, forward or backward; `field` is changed in place."""
    height, width = source.shape
    state = np.int64(seed)
    step = -1 if backward else 1
    for i in range(height):
        y = height - 1 - i if backward else i
        for j in range(width):
            x = width - 1 - j if backward else j
            if not target[y, x]:
                continue
            best_row, best_column = field[y, x]
            best = np.float32(np.inf)
            if best_row != NONE:
                best = patch_cost(detail, confidence, features, radius, y, x, best_row, best_column, best)
            # propagation: what suits the neighbour suits here, one step on
            for down in range(2):
                dy, dx = (step, 0) if down else (0, step)
                if not (0 <= y - dy < height and 0 <= x - dx < width) or not target[y - dy, x - dx]:
                    continue
                row, column = field[y - dy, x - dx]
                if row == NONE:
                    continue
                row, column = row + dy, column + dx
                if _allowed(source, log_depth, tolerance, y, x, row, column):
                    cost = patch_cost(detail, confidence, features, radius, y, x, row, column, best)
                    if cost < best:
                        best, best_row, best_column = cost, row, column
            # random search around the best place, closer and closer
            reach = max(height, width) // 2
            while reach >= 1 and best_row != NONE:
                row, state = _draw(state, 2 * reach + 1)
                column, state = _draw(state, 2 * reach + 1)
                row, column = best_row - reach + row, best_column - reach + column
                if _allowed(source, log_depth, tolerance, y, x, row, column):
                    cost = patch_cost(detail, confidence, features, radius, y, x, row, column, best)
                    if cost < best:
                        best, best_row, best_column = cost, row, column
                reach //= 2
            field[y, x, 0], field[y, x, 1] = best_row, best_column
