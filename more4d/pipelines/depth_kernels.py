"""The compiled loops of `pipelines.depth`, which says what they compute."""

# ruff: noqa: PLR0917 - compiled functions take their arguments by position

import numpy as np

from more4d.raster.numba_backend import compiled

ZERO, ONE, HALF = np.float32(0), np.float32(1), np.float32(0.5)


@compiled
def weighted_median(values, image, radius, sharpness, out):
    """`pipelines.depth.weighted_median`; `sharpness` is 1 / (2 sigma^2) of the colour weights.

    A weighted quickselect of every window: partition around a pivot, go on in the part that holds half of the
    weight. Sorting whole windows costs several times as much.
    """
    height, width = values.shape
    size = (2 * radius + 1) ** 2
    window, weight = np.empty(size, np.float32), np.empty(size, np.float32)
    for y in range(height):
        for x in range(width):
            count, total = 0, ZERO
            for row in range(max(0, y - radius), min(height, y + radius + 1)):
                for column in range(max(0, x - radius), min(width, x + radius + 1)):
                    unlike = ZERO
                    for k in range(3):
                        step = image[row, column, k] - image[y, x, k]
                        unlike += step * step
                    window[count] = values[row, column]
                    weight[count] = np.exp(-unlike * sharpness)
                    total += weight[count]
                    count += 1
            out[y, x] = _select(window, weight, count, HALF * total)


@compiled
def _select(window, weight, count, wanted):
    """The first value, in ascending order, at which the cumulated weight reaches `wanted`."""
    low, high, below = 0, count, ZERO  # candidates are [low, high); `below` is the weight of what is smaller
    while high - low > 1:
        pivot = window[(low + high) >> 1]
        # three parts: smaller than the pivot, equal to it, larger
        smaller, larger, n = low, high, low
        weight_smaller, weight_equal = ZERO, ZERO
        while n < larger:
            if window[n] < pivot:
                weight_smaller += weight[n]
                window[n], window[smaller] = window[smaller], window[n]
                weight[n], weight[smaller] = weight[smaller], weight[n]
                smaller += 1
                n += 1
            elif window[n] > pivot:
                larger -= 1
                window[n], window[larger] = window[larger], window[n]
                weight[n], weight[larger] = weight[larger], weight[n]
            else:
                weight_equal += weight[n]
                n += 1
        if below + weight_smaller >= wanted and smaller > low:
            high = smaller
        elif below + weight_smaller + weight_equal >= wanted or larger == high:
            return pivot
        else:
            below += weight_smaller + weight_equal
            low = larger
    return window[low]


@compiled
def upsample(log_depth, small, image, taps, space, sharpness, smooth_space, tolerance, out):
    """`pipelines.depth.pick_and_smooth`.

    Args:
        log_depth, small: log depth and colours at the small size.
        image: colours at the large size.
        taps: radius of the window in small pixels.
        space: 1 / (2 sigma^2) of the pick's distance in small pixels.
        sharpness: 1 / (2 sigma^2) of its distance in colour.
        smooth_space: 1 / (2 sigma^2) of the mean's distance in small pixels.
        tolerance: difference of log depth beyond which another surface begins.
        out: metres, at the large size.
    """
    small_height, small_width = log_depth.shape
    height, width = image.shape[:2]
    down, across = np.float32(small_height) / height, np.float32(small_width) / width
    for y in range(height):
        v = (np.float32(y) + HALF) * down - HALF
        row = np.int64(np.floor(v + HALF))
        for x in range(width):
            u = (np.float32(x) + HALF) * across - HALF
            column = np.int64(np.floor(u + HALF))
            top, bottom = max(0, row - taps), min(small_height, row + taps + 1)
            left, right = max(0, column - taps), min(small_width, column + taps + 1)
            # the most similar of the pixels around: least distance in space and colour
            least, picked = np.float32(np.inf), ZERO
            for r in range(top, bottom):
                for c in range(left, right):
                    unlike = ZERO
                    for k in range(3):
                        step = small[r, c, k] - image[y, x, k]
                        unlike += step * step
                    away = (np.float32(r) - v) * (np.float32(r) - v) + (np.float32(c) - u) * (
                        np.float32(c) - u
                    )
                    distance = away * space + unlike * sharpness
                    if distance < least:
                        least, picked = distance, log_depth[r, c]
            # the mean over those on its surface, in inverse depth: planes are linear in it
            total, weights = ZERO, ZERO
            for r in range(top, bottom):
                for c in range(left, right):
                    off = (log_depth[r, c] - picked) / tolerance
                    if abs(off) < ONE:
                        away = (np.float32(r) - v) * (np.float32(r) - v) + (np.float32(c) - u) * (
                            np.float32(c) - u
                        )
                        similar = ONE - off * off
                        weight = np.exp(-away * smooth_space) * similar * similar
                        total += weight * np.exp(-log_depth[r, c])
                        weights += weight
            out[y, x] = weights / total
