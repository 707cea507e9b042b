"""The compiled loops of `raster.layers` that turn samples into pixels.

The samples of a pixel that show one place of one surface are shaded once, at their mean place: inside a
surface a pixel is one smooth look-up in the photo, which is as sharp as the photo; only where surfaces meet
are several mixed, each by its share of the samples.
"""

# ruff: noqa: PLR0917 - compiled functions take their arguments by position

import numpy as np

from more4d.raster.interface import GAMMA
from more4d.raster.mesh_kernels import SAME_PLACE_PX, SNAP_PX
from more4d.raster.numba_backend import compiled

CUBIC, LINEAR = 4, 2


@compiled
def _weights(share, taps, weights):
    """Of 2 neighbours (linear) or 4 (Catmull and Rom 1974), for a place `share` beyond the middle one."""
    if taps == LINEAR:
        weights[0], weights[1] = 1 - share, share
        return
    weights[0] = ((1 - 0.5 * share) * share - 0.5) * share
    weights[1] = (1.5 * share - 2.5) * share * share + 1
    weights[2] = ((2 - 1.5 * share) * share + 0.5) * share
    weights[3] = (0.5 * share - 0.5) * share * share


@compiled
def look_up(texture, labels, u, v, value):
    """A texture at a place between pixels, from pixels of one surface only.

    Cubic inside a surface. Beside its outline, where neighbours belong to another surface, linear among those
    that do not: there negative weights would overshoot.
    """
    height, width, channels = texture.shape
    column = min(max(int(np.floor(u + 0.5)), 0), width - 1)
    row = min(max(int(np.floor(v + 0.5)), 0), height - 1)
    value[:channels] = texture[row, column]
    if abs(u - column) < SNAP_PX and abs(v - row) < SNAP_PX:
        return
    left, top = int(np.floor(u)), int(np.floor(v))
    across, along = np.empty(CUBIC), np.empty(CUBIC)
    for taps in (CUBIC, LINEAR):
        _weights(u - left, taps, across)
        _weights(v - top, taps, along)
        total, mean = 0.0, np.zeros(4)
        for j in range(taps):
            y = min(max(top + j + 1 - taps // 2, 0), height - 1)
            for i in range(taps):
                x = min(max(left + i + 1 - taps // 2, 0), width - 1)
                if labels[y, x] == labels[row, column]:
                    weight = across[i] * along[j]
                    total += weight
                    for c in range(channels):
                        mean[c] += weight * texture[y, x, c]
                elif taps == CUBIC:
                    total = -np.inf
        if total > 1e-6:
            value[:channels] = mean[:channels] / total
            return


@compiled
def _group_samples(samples, labels, texture, chosen, group, values):
    """Groups samples by the surface and place they show, -1 for none; shades each; returns their number."""
    height, width = labels.shape
    count, members = 0, np.zeros(len(chosen), np.int64)
    surface, mean = np.empty(len(chosen), np.int64), np.zeros((len(chosen), 2))
    for s in range(len(chosen)):
        group[s] = -1
        depth, u, v = samples[chosen[s]]
        if not depth < np.inf:
            continue
        row = min(max(int(np.floor(v + np.float32(0.5))), 0), height - 1)
        column = min(max(int(np.floor(u + np.float32(0.5))), 0), width - 1)
        for g in range(count):
            near = (
                abs(mean[g, 0] / members[g] - u) < SAME_PLACE_PX
                and abs(mean[g, 1] / members[g] - v) < SAME_PLACE_PX
            )
            if near and surface[g] == labels[row, column]:
                group[s] = g
                break
        if group[s] < 0:
            group[s], surface[count] = count, labels[row, column]
            count += 1
        mean[group[s], 0] += u
        mean[group[s], 1] += v
        members[group[s]] += 1
    for g in range(count):
        look_up(texture, labels, mean[g, 0] / members[g], mean[g, 1] / members[g], values[g])
    return count


@compiled
def _linear(value):
    return min(max(value, 0.0), 1.0) ** GAMMA


@compiled
def shade_pixels(core, back, back_labels, fringe, front, front_labels, side, colour, depth_m, coverage):
    """Colour, depth and coverage of every pixel, from `side` x `side` samples of core and fringe each.

    The fringe has an alpha and is composited over the core that lies behind it (the *over* of Porter and Duff
    1984), in linear light. A pixel of a single surface is its texture, untouched.
    """
    height, width = depth_m.shape
    chosen = np.empty(side * side, np.int64)
    core_group, fringe_group = np.empty_like(chosen), np.empty_like(chosen)
    core_value, fringe_value = np.empty((side * side, 4)), np.empty((side * side, 4))
    for y in range(height):
        for x in range(width):
            for s in range(side * side):
                chosen[s] = (y * side + s // side) * width * side + x * side + s % side
            solid = _group_samples(core, back_labels, back, chosen, core_group, core_value)
            soft = _group_samples(fringe, front_labels, front, chosen, fringe_group, fringe_value)
            total, share, nearest = np.zeros(3), 0.0, np.float32(np.inf)
            for s in range(side * side):
                alpha, behind = 0.0, core[chosen[s], 0]
                if fringe_group[s] >= 0 and fringe[chosen[s], 0] < behind:
                    value = fringe_value[fringe_group[s]]
                    alpha = min(max(value[3], 0.0), 1.0)
                    for c in range(3):
                        total[c] += alpha * _linear(value[c])
                    if alpha > 0.5:
                        nearest = min(nearest, fringe[chosen[s], 0])
                if core_group[s] >= 0:
                    for c in range(3):
                        total[c] += (1 - alpha) * _linear(core_value[core_group[s], c])
                    nearest, alpha = min(nearest, behind), 1.0
                share += alpha
            coverage[y, x], depth_m[y, x] = share / (side * side), nearest
            for c in range(3):
                if solid == 1 and soft == 0:
                    colour[y, x, c] = min(max(core_value[0, c], 0.0), 1.0)
                else:
                    colour[y, x, c] = min(total[c] / share, 1.0) ** (1 / GAMMA) if share > 0 else 0.0
