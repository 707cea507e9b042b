"""The compiled loops of `raster.layers`: cells of a photo as a textured mesh, drawn and shaded.

A cell is the quadrilateral of surface that one pixel of the photo shows. Cells of one surface share corners,
so a surface has no cracks however it is seen; cells of different surfaces share none, so it tears there.
Positions are [height, width, 3]; a sample is (depth, u, v): the pixel of the photo, from centre to centre,
that it shows.
"""

# ruff: noqa: PLR0917 - compiled functions take their arguments by position

import numpy as np

from more4d.raster.interface import NEAR_M
from more4d.raster.numba_backend import compiled

# Corners of a cell, clockwise from the top left one, in pixels from its centre.
CORNER_U = np.array([-0.5, 0.5, 0.5, -0.5], np.float32)
CORNER_V = np.array([-0.5, -0.5, 0.5, 0.5], np.float32)
# A sample on the edge of two triangles must belong to one of them whatever the rounding.
EDGE_TOLERANCE = 1e-5
# A cell seen larger than this share of the image is almost at the camera and must not hide the scene.
MAX_CELL = 1 / 4
# Samples of one surface whose places in the photo differ by more than this are different parts of it.
SAME_PLACE_PX = 3.0
# A place this near to the centre of a pixel of the photo shows that pixel, bit for bit.
SNAP_PX = 2e-3


@compiled
def join_neighbours(positions, start, fx_px, fy_px, max_edge_px, max_depth_step, max_stretch, right, down):
    """Whether each pixel and the next one in its row (column) show one surface, which has not torn since."""
    height, width = right.shape
    for y in range(height):
        for x in range(width):
            right[y, x] = down[y, x] = False
            for k in range(2):
                row, column = y + k, x + 1 - k
                if row >= height or column >= width:
                    continue
                now, then = 0.0, 0.0
                for c in range(3):
                    now += (positions[row, column, c] - positions[y, x, c]) ** 2
                    then += (start[row, column, c] - start[y, x, c]) ** 2
                near, far = positions[y, x, 2], positions[row, column, 2]
                longest = max_edge_px * min(start[y, x, 2], start[row, column, 2]) / (fy_px if k else fx_px)
                whole = now <= min(max_stretch * max_stretch * then, longest * longest) and abs(
                    near - far
                ) <= max_depth_step * min(abs(near), abs(far))
                if k:
                    down[y, x] = whole
                else:
                    right[y, x] = whole


@compiled
def label_surfaces(right, down, labels):
    """The lowest pixel index of each connected surface."""
    height, width = right.shape
    parent = np.arange(height * width)
    for y in range(height):
        for x in range(width):
            for k in range(2):
                if not (down[y, x] if k else right[y, x]):
                    continue
                one, other = _root(parent, y * width + x), _root(parent, (y + k) * width + x + 1 - k)
                parent[max(one, other)] = min(one, other)
    for pixel in range(height * width):
        labels[pixel // width, pixel % width] = _root(parent, pixel)


@compiled
def _root(parent, pixel):
    while parent[pixel] != pixel:
        parent[pixel] = parent[parent[pixel]]  # shortens the way for the next search
        pixel = parent[pixel]
    return pixel


@compiled
def _add_half_step(positions, start, y, x, along_row, sign, joined, pixel_m, corner):
    """Adds half the step toward a neighbour; where it is torn off, that away from the opposite neighbour, and
    without either a pixel that faces the photo. `corner` is homogeneous, see `place_corners`.
    """
    height, width = positions.shape[:2]
    own = 1 / start[y, x, 2]
    for direction in (sign, -sign):
        row, column = (y, x + direction) if along_row else (y + direction, x)
        if row < 0 or column < 0 or row >= height or column >= width:
            continue
        if joined[min(y, row), min(x, column)]:
            share, other = 0.5 * sign * direction, 1 / start[row, column, 2]
            for c in range(3):
                corner[c] += share * (other * positions[row, column, c] - own * positions[y, x, c])
            corner[3] += share * (other - own)
            return
    corner[0 if along_row else 1] += 0.5 * sign * own * pixel_m


@compiled
def place_corners(positions, start, right, down, fx_px, fy_px, corners, shared):
    """Corners of every cell and their depth in the photo, [height, width, 4, 4]; how many cells share each.

    Around a corner lie up to four pixels. Those of one surface take one place for it: the mean of all four,
    or, where there are fewer, the mean of what each of them extrapolates to. Means are over the image and not
    over space, that is weighted by 1 / z in the photo: then the photo's own camera sees every corner exactly
    between its pixels, whatever the depth, and a plane stays a plane.
    """
    height, width = positions.shape[:2]
    group, own = np.empty(4, np.int64), np.empty((4, 4))
    rows, columns, mean = np.empty(4, np.int64), np.empty(4, np.int64), np.empty(4)
    for top in range(-1, height):
        for left in range(-1, width):
            for k in range(4):  # clockwise from the top left pixel
                y, x = top + (k >= 2), left + (k in (1, 2))
                rows[k], columns[k] = y, x
                group[k] = k if 0 <= y < height and 0 <= x < width else -1
            _group_four(rows, columns, right, down, group)
            whole = group.max() == 0 and group.min() == 0
            for k in range(4):
                if group[k] < 0:
                    continue
                y, x, z = rows[k], columns[k], start[rows[k], columns[k], 2]
                own[k, :3], own[k, 3] = positions[y, x] / z, 1 / z
                if not whole:
                    across, along = (1 if k in (0, 3) else -1), (1 if k < 2 else -1)
                    _add_half_step(positions, start, y, x, True, across, right, z / fx_px, own[k])
                    _add_half_step(positions, start, y, x, False, along, down, z / fy_px, own[k])
            for k in range(4):
                if group[k] < 0:
                    continue
                count = 0
                mean[:] = 0
                for j in range(4):
                    if group[j] == group[k]:
                        mean += own[j]
                        count += 1
                corners[rows[k], columns[k], (k + 2) % 4, :3] = mean[:3] / mean[3]
                corners[rows[k], columns[k], (k + 2) % 4, 3] = count / mean[3]
                shared[rows[k], columns[k], (k + 2) % 4] = count


@compiled
def _group_four(rows, columns, right, down, group):
    """Of four pixels around a corner, those that are joined get the lowest of their numbers."""
    for _ in range(2):  # a chain of three joints takes two rounds
        for k in range(4):
            j = (k + 1) % 4
            if group[k] < 0 or group[j] < 0:
                continue
            joined = right if k in (0, 2) else down
            if joined[min(rows[k], rows[j]), min(columns[k], columns[j])]:
                group[k] = group[j] = min(group[k], group[j])


@compiled
def draw_cells(corners, mask, camera, height, width, grow_px, farther, samples):
    """The nearest surface of every sample of an image, [height * width, 3]; `samples` may hold others.

    Args:
        corners: of `place_corners`.
        camera: of `pack_cameras`, for the image of samples.
        grow_px: cells are drawn larger by so many samples, and
        farther: as if they lay so much farther away, as a share, and beyond their own depths: to close the
            gaps beside narrow cells without hiding any part of the surface.
    """
    x, y, inverse, ratio = np.empty(4), np.empty(4), np.empty(4), np.empty(4)
    for row in range(mask.shape[0]):
        for column in range(mask.shape[1]):
            if not mask[row, column] or not _project(corners[row, column], camera, x, y, inverse):
                continue
            behind = 0.0
            if grow_px > 0:
                behind = (1 + farther) * inverse.max() / inverse.min() - 1
                middle_x, middle_y = x.mean(), y.mean()
                for k in range(4):
                    away_x, away_y = x[k] - middle_x, y[k] - middle_y
                    length = np.sqrt(away_x * away_x + away_y * away_y) + 1e-9
                    x[k] += away_x / length * grow_px
                    y[k] += away_y / length * grow_px
            for k in range(4):
                ratio[k] = inverse[k] * corners[row, column, k, 3]
            for k in range(1, 3):  # two triangles from the first corner
                _draw_triangle(x, y, inverse, ratio, k, row, column, height, width, behind, samples)


@compiled
def _project(corners, camera, x, y, inverse):
    """Coordinates, 0 at the centre of the first sample, and 1 / z; whether all lie before the camera."""
    for k in range(4):
        px, py, pz = corners[k, 0], corners[k, 1], corners[k, 2]
        z = camera[6] * px + camera[7] * py + camera[8] * pz + camera[11]
        if not z > NEAR_M:
            return False
        inverse[k] = 1 / z
        x[k] = (
            (camera[0] * px + camera[1] * py + camera[2] * pz + camera[9]) / z * camera[12] + camera[14] - 0.5
        )
        y[k] = (
            (camera[3] * px + camera[4] * py + camera[5] * pz + camera[10]) / z * camera[13]
            + camera[15]
            - 0.5
        )
    return True


@compiled
def _draw_triangle(x, y, inverse, ratio, k, row, column, height, width, behind, samples):
    ax, ay, bx, by = x[k] - x[0], y[k] - y[0], x[k + 1] - x[0], y[k + 1] - y[0]
    area = ax * by - bx * ay
    if area == 0:
        return
    lowest, highest = min(x[0], x[k], x[k + 1]), max(x[0], x[k], x[k + 1])
    top, bottom = min(y[0], y[k], y[k + 1]), max(y[0], y[k], y[k + 1])
    # wholly outside, or too large; NaN fails the comparisons as well
    if not (highest >= 0 and lowest < width and bottom >= 0 and top < height):
        return
    if not (highest - lowest <= MAX_CELL * width + 1 and bottom - top <= MAX_CELL * height + 1):
        return
    for line in range(max(0, int(np.ceil(top - 1e-4))), min(height - 1, int(np.floor(bottom + 1e-4))) + 1):
        for place in range(
            max(0, int(np.ceil(lowest - 1e-4))), min(width - 1, int(np.floor(highest + 1e-4))) + 1
        ):
            # barycentric coordinates
            b = ((place - x[0]) * by - bx * (line - y[0])) / area
            c = (ax * (line - y[0]) - (place - x[0]) * ay) / area
            a = 1 - b - c
            if a < -EDGE_TOLERANCE or b < -EDGE_TOLERANCE or c < -EDGE_TOLERANCE:
                continue
            # 1 / z is linear over the image, and so are z_0 / z and z_0 u / z with z_0 the depth in the
            # photo: projective texture mapping
            total = a * inverse[0] + b * inverse[k] + c * inverse[k + 1]
            depth, at = np.float32((1 + behind) / total), line * width + place
            if depth < samples[at, 0]:
                a, b, c = a * ratio[0], b * ratio[k], c * ratio[k + 1]
                total = a + b + c
                u = (a * CORNER_U[0] + b * CORNER_U[k] + c * CORNER_U[k + 1]) / total
                v = (a * CORNER_V[0] + b * CORNER_V[k] + c * CORNER_V[k + 1]) / total
                samples[at, 0] = depth
                samples[at, 1], samples[at, 2] = column + u, row + v
