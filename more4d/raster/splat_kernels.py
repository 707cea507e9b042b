"""Compiled loops of the differentiable splatter (`raster.splatting`): projection, sorting, blending.

One view is drawn by one thread, which needs no locks and adds everything in one fixed order: equal inputs
give equal bits. Several views are drawn by several threads at once: the loops run without the interpreter's
lock.

Projection (Zwicker et al. 2001, "EWA splatting"). With p = R x + t the centre in the camera, L = R(q) diag(s)
and J the Jacobian of the perspective at p,

    mean = (fx X / Z + cx, fy Y / Z + cy)      A = J R L      S = A A' + pad I      Q = S^-1

Blending, from front to back over the splats i that reach a pixel at d pixels from their mean:

    alpha_i = min(o_i exp(-d' Q_i d / 2), MOST_ALPHA), none below LEAST_ALPHA
    T_1 = 1,  T_{i+1} = T_i (1 - alpha_i)      colour = sum_i T_i alpha_i c_i

The backward loop goes front to back, too, with one running number per pixel: `rest`, what is still behind
(g is the gradient of the colour, h that of the final T):

    rest_i = g . sum_{j > i} T_j alpha_j c_j + h T_end
    dloss / dalpha_i = T_i g . c_i - rest_i / (1 - alpha_i)
"""

# ruff: noqa: PLR0917 - compiled functions take their arguments by position

import math

import numpy as np

from more4d.raster.numba_backend import compiled

# Rows of a strip: its colours and transmittances (80 kB at 256 columns) stay in a core's cache.
STRIP = 16
# Columns of the table of projected splats, in the order in which they are drawn.
U, V, QXX, QXY, QYY, OPACITY, RED, DEPTH, REACH = 0, 1, 2, 3, 4, 5, 6, 9, 10
COLUMNS = 11
# Columns of the gradients of the same.
GRADIENTS = 9

# One step of an 8-bit picture.
LEAST_ALPHA = np.float32(1 / 255)
# An opaque splat would leave no gradient for what is behind it.
MOST_ALPHA = np.float32(0.995)
# A pixel of which less than this is open is finished.
LEAST_OPEN = np.float32(1e-3)
# Centres farther outside than this share of the picture are not drawn: the linear projection of a splat
# beside the camera covers the picture.
OUTSIDE = np.float32(0.3)

ZERO, ONE, TWO, HALF = np.float32(0), np.float32(1), np.float32(2), np.float32(0.5)


@compiled
def _rotation(q, rotation):
    """Rotation matrix of a quaternion (w, x, y, z) of any length; returns its length."""
    length = math.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3])
    w, x, y, z = q[0] / length, q[1] / length, q[2] / length, q[3] / length
    # by rows
    rotation[0, 0] = ONE - TWO * (y * y + z * z)
    rotation[0, 1] = TWO * (x * y - w * z)
    rotation[0, 2] = TWO * (x * z + w * y)
    rotation[1, 0] = TWO * (x * y + w * z)
    rotation[1, 1] = ONE - TWO * (x * x + z * z)
    rotation[1, 2] = TWO * (y * z - w * x)
    rotation[2, 0] = TWO * (x * z - w * y)
    rotation[2, 1] = TWO * (y * z + w * x)
    rotation[2, 2] = ONE - TWO * (x * x + y * y)
    return length


@compiled
def _in_camera(x, camera, p):
    for k in range(3):
        p[k] = camera[3 * k] * x[0] + camera[3 * k + 1] * x[1] + camera[3 * k + 2] * x[2] + camera[9 + k]


@compiled
def _factors(p, camera, m):
    """M = J R [2, 3]: how a small step in the world moves the projection, in pixels."""
    inverse = ONE / p[2]
    # J = ((ax, 0, bx), (0, ay, by)): derivatives of fx X / Z and fy Y / Z
    ax, ay = camera[12] * inverse, camera[13] * inverse
    bx, by = -ax * p[0] * inverse, -ay * p[1] * inverse
    for k in range(3):
        m[0, k] = ax * camera[k] + bx * camera[6 + k]
        m[1, k] = ay * camera[3 + k] + by * camera[6 + k]


@compiled
def _spread(m, rotation, scale, a):
    """A = M R(q) diag(s) [2, 3]."""
    for i in range(2):
        for k in range(3):
            along = m[i, 0] * rotation[0, k] + m[i, 1] * rotation[1, k] + m[i, 2] * rotation[2, k]
            a[i, k] = along * scale[k]


@compiled
def project(positions, rotations, scales, opacities, colours, camera, height, width, near, pad):
    """Every splat that is in front of the camera and near the picture, in the order of its depth.

    Returns:
        table: float32 [splats, COLUMNS]; `REACH` is d' Q d at which a splat ends.
        boxes: int32 [splats, 4]: first and one past the last column, then row, of the pixels it may reach.
        which: int32 [splats]: the row of the arguments.
    """
    count = positions.shape[0]
    table = np.empty((count, COLUMNS), np.float32)
    boxes = np.empty((count, 4), np.int32)
    which = np.empty(count, np.int32)
    p, m, a = np.empty(3, np.float32), np.empty((2, 3), np.float32), np.empty((2, 3), np.float32)
    rotation = np.empty((3, 3), np.float32)
    wide, high = np.float32(width), np.float32(height)
    found = 0
    for n in range(count):
        if opacities[n] < LEAST_ALPHA:  # most of what is there for a moment only
            continue
        _in_camera(positions[n], camera, p)
        if not p[2] > near:
            continue
        u, v = camera[12] * p[0] / p[2] + camera[14], camera[13] * p[1] / p[2] + camera[15]
        if not (abs(u / wide - HALF) < HALF + OUTSIDE and abs(v / high - HALF) < HALF + OUTSIDE):
            continue
        _factors(p, camera, m)
        _rotation(rotations[n], rotation)
        _spread(m, rotation, scales[n], a)
        # S = A A' + pad I, and its inverse Q
        sxx = a[0, 0] * a[0, 0] + a[0, 1] * a[0, 1] + a[0, 2] * a[0, 2] + pad
        syy = a[1, 0] * a[1, 0] + a[1, 1] * a[1, 1] + a[1, 2] * a[1, 2] + pad
        sxy = a[0, 0] * a[1, 0] + a[0, 1] * a[1, 1] + a[0, 2] * a[1, 2]
        inverse = ONE / (sxx * syy - sxy * sxy)
        # Where alpha falls below LEAST_ALPHA: o exp(-reach / 2) = LEAST_ALPHA.
        reach = TWO * np.float32(math.log(opacities[n] / LEAST_ALPHA))
        half_x, half_y = math.sqrt(reach * sxx), math.sqrt(reach * syy)
        # A pixel counts if its centre, at + 0.5, is within.
        left, right = max(u - half_x + HALF, ZERO), min(u + half_x + HALF, wide)
        top, bottom = max(v - half_y + HALF, ZERO), min(v + half_y + HALF, high)
        if not (left < right and top < bottom):
            continue
        row = table[found]
        row[U], row[V], row[OPACITY], row[DEPTH], row[REACH] = u, v, opacities[n], p[2], reach
        row[QXX], row[QXY], row[QYY] = syy * inverse, -sxy * inverse, sxx * inverse
        row[RED], row[RED + 1], row[RED + 2] = colours[n, 0], colours[n, 1], colours[n, 2]
        box = boxes[found]
        box[0], box[1], box[2], box[3] = int(left), int(right), int(top), int(bottom)
        which[found] = n
        found += 1
    order = _by_depth(table[:found, DEPTH].copy())
    return table[order], boxes[order], which[order]


@compiled
def _by_depth(depth):
    """Indices by increasing depth, equal ones in their order: a radix sort of the numbers' bits."""
    # The bits of positive float32 sort like the numbers.
    keys, count = depth.view(np.uint32), depth.shape[0]
    order, other = np.arange(count), np.empty(count, np.int64)
    for shift in (0, 11, 22):
        starts = np.zeros(2049, np.int64)
        for n in range(count):
            starts[((keys[n] >> shift) & 2047) + 1] += 1
        for digit in range(2048):
            starts[digit + 1] += starts[digit]
        for n in range(count):
            digit = (keys[order[n]] >> shift) & 2047
            other[starts[digit]] = order[n]
            starts[digit] += 1
        order, other = other, order
    return order


@compiled
def strips(boxes, height):
    """Which splats reach each strip of rows, front to back: (first index of each strip, indices)."""
    count = (height + STRIP - 1) // STRIP
    # Counted first, then filled: one array for all lists.
    starts = np.zeros(count + 1, np.int64)
    for n in range(boxes.shape[0]):
        for strip in range(boxes[n, 2] // STRIP, (boxes[n, 3] - 1) // STRIP + 1):
            starts[strip + 1] += 1
    for strip in range(count):
        starts[strip + 1] += starts[strip]
    place, members = starts[:-1].copy(), np.empty(starts[-1], np.int32)
    for n in range(boxes.shape[0]):
        for strip in range(boxes[n, 2] // STRIP, (boxes[n, 3] - 1) // STRIP + 1):
            members[place[strip]] = n
            place[strip] += 1
    return starts, members


@compiled
def _exp(x):
    """e^x for x in [-12, 0] within 3e-6: a polynomial of x / 32, squared five times; no call, no table."""
    y = x * np.float32(1 / 32)
    power = np.float32(1 / 24) + y * np.float32(1 / 120)
    power = ONE + y * (ONE + y * (HALF + y * (np.float32(1 / 6) + y * power)))
    power = power * power
    power = power * power
    power = power * power
    power = power * power
    return power * power


@compiled
def blend(table, boxes, starts, members, colour, left, depth):
    """Draw the splats into colour [H, W, 3], the share left open [H, W], and the depth [H, W].

    A pixel's depth is that of the splat with which more than half of it is covered; infinite if none is.
    """
    height = left.shape[0]
    colour[:] = ZERO
    left[:] = ONE
    depth[:] = np.inf
    for strip in range(starts.shape[0] - 1):
        top, bottom = strip * STRIP, min(strip * STRIP + STRIP, height)
        for entry in range(starts[strip], starts[strip + 1]):
            splat, box = table[members[entry]], boxes[members[entry]]
            u, v, xx, xy, yy = splat[U], splat[V], splat[QXX], splat[QXY], splat[QYY]
            opacity, reach, z = splat[OPACITY], splat[REACH], splat[DEPTH]
            red, green, blue = splat[RED], splat[RED + 1], splat[RED + 2]
            for y in range(max(top, box[2]), min(bottom, box[3])):
                dy = np.float32(y) + HALF - v
                across, down = TWO * xy * dy, yy * dy * dy
                for x in range(box[0], box[1]):
                    dx = np.float32(x) + HALF - u
                    distance = (xx * dx + across) * dx + down
                    share = left[y, x]
                    if distance > reach or share < LEAST_OPEN:
                        continue
                    alpha = min(opacity * _exp(-HALF * distance), MOST_ALPHA)
                    weight = alpha * share
                    colour[y, x, 0] += weight * red
                    colour[y, x, 1] += weight * green
                    colour[y, x, 2] += weight * blue
                    left[y, x] = share - weight
                    if share > HALF and share - weight <= HALF:
                        depth[y, x] = z


@compiled
def blend_backward(table, boxes, starts, members, colour, left, d_colour, d_left):
    """Gradients [splats, GRADIENTS] of mean, Q (xx, xy, yy), opacity and colour, in the table's order.

    Args:
        colour, left: what `blend` drew.
        d_colour, d_left: gradients of the loss with respect to these.
    """
    height, width = left.shape
    gradients = np.zeros((table.shape[0], GRADIENTS), np.float32)
    share_left = np.ones((height, width), np.float32)  # T in front of the splat that is looked at
    rest = np.empty((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            behind = d_left[y, x] * left[y, x]
            for k in range(3):
                behind += d_colour[y, x, k] * colour[y, x, k]
            rest[y, x] = behind
    for strip in range(starts.shape[0] - 1):
        top, bottom = strip * STRIP, min(strip * STRIP + STRIP, height)
        for entry in range(starts[strip], starts[strip + 1]):
            splat, box, gradient = table[members[entry]], boxes[members[entry]], gradients[members[entry]]
            u, v, xx, xy, yy = splat[U], splat[V], splat[QXX], splat[QXY], splat[QYY]
            opacity, reach = splat[OPACITY], splat[REACH]
            red, green, blue = splat[RED], splat[RED + 1], splat[RED + 2]
            du = dv = dxx = dxy = dyy = d_opacity = d_red = d_green = d_blue = ZERO
            for y in range(max(top, box[2]), min(bottom, box[3])):
                dy = np.float32(y) + HALF - v
                across, down = TWO * xy * dy, yy * dy * dy
                for x in range(box[0], box[1]):
                    dx = np.float32(x) + HALF - u
                    distance = (xx * dx + across) * dx + down
                    share = share_left[y, x]
                    if distance > reach or share < LEAST_OPEN:
                        continue
                    # As it was drawn, so that both agree to the last bit.
                    falloff = _exp(-HALF * distance)
                    alpha = min(opacity * falloff, MOST_ALPHA)
                    weight = alpha * share
                    g0, g1, g2 = d_colour[y, x, 0], d_colour[y, x, 1], d_colour[y, x, 2]
                    shown = g0 * red + g1 * green + g2 * blue
                    behind = rest[y, x] - weight * shown
                    rest[y, x] = behind
                    share_left[y, x] = share - weight
                    d_red += weight * g0
                    d_green += weight * g1
                    d_blue += weight * g2
                    if alpha < MOST_ALPHA:  # where it is clamped nothing changes it
                        d_alpha = share * shown - behind / (ONE - alpha)
                        d_opacity += d_alpha * falloff
                        slope = d_alpha * alpha  # of -distance / 2
                        du += slope * (xx * dx + xy * dy)
                        dv += slope * (xy * dx + yy * dy)
                        dxx -= HALF * slope * dx * dx
                        dxy -= slope * dx * dy
                        dyy -= HALF * slope * dy * dy
            gradient[0] += du
            gradient[1] += dv
            gradient[2] += dxx
            gradient[3] += dxy
            gradient[4] += dyy
            gradient[5] += d_opacity
            gradient[6] += d_red
            gradient[7] += d_green
            gradient[8] += d_blue
    return gradients


@compiled
def _rotation_backward(q, length, d, out):
    """Gradient of a quaternion of any length, of that of its rotation matrix `d`."""
    w, x, y, z = q[0] / length, q[1] / length, q[2] / length, q[3] / length
    dw = TWO * (x * (d[2, 1] - d[1, 2]) + y * (d[0, 2] - d[2, 0]) + z * (d[1, 0] - d[0, 1]))
    dx = TWO * (y * (d[0, 1] + d[1, 0]) + z * (d[0, 2] + d[2, 0]) + w * (d[2, 1] - d[1, 2]))
    dx -= TWO * TWO * x * (d[1, 1] + d[2, 2])
    dy = TWO * (x * (d[0, 1] + d[1, 0]) + z * (d[1, 2] + d[2, 1]) + w * (d[0, 2] - d[2, 0]))
    dy -= TWO * TWO * y * (d[0, 0] + d[2, 2])
    dz = TWO * (x * (d[0, 2] + d[2, 0]) + y * (d[1, 2] + d[2, 1]) + w * (d[1, 0] - d[0, 1]))
    dz -= TWO * TWO * z * (d[0, 0] + d[1, 1])
    # The matrix does not change with the length: what lies along the quaternion falls away.
    along = dw * w + dx * x + dy * y + dz * z
    out[0], out[1] = (dw - along * w) / length, (dx - along * x) / length
    out[2], out[3] = (dy - along * y) / length, (dz - along * z) / length


@compiled
def project_backward(positions, rotations, scales, camera, table, which, gradients):
    """Gradients of positions [n, 3], rotations [n, 4], scales [n, 3], opacities [n] and colours [n, 3]."""
    count = positions.shape[0]
    d_positions, d_rotations = np.zeros((count, 3), np.float32), np.zeros((count, 4), np.float32)
    d_scales, d_colours = np.zeros((count, 3), np.float32), np.zeros((count, 3), np.float32)
    d_opacities = np.zeros(count, np.float32)
    p, m, a = np.empty(3, np.float32), np.empty((2, 3), np.float32), np.empty((2, 3), np.float32)
    rotation, d_rotation = np.empty((3, 3), np.float32), np.empty((3, 3), np.float32)
    da, dm, dp = np.empty((2, 3), np.float32), np.empty((2, 3), np.float32), np.empty(3, np.float32)
    for row in range(which.shape[0]):
        n, g = which[row], gradients[row]
        d_opacities[n], d_colours[n] = g[5], g[6:9]
        _in_camera(positions[n], camera, p)
        _factors(p, camera, m)
        length = _rotation(rotations[n], rotation)
        _spread(m, rotation, scales[n], a)
        # dS = -Q G Q, G the symmetric gradient of Q
        xx, xy, yy = table[row, QXX], table[row, QXY], table[row, QYY]
        gxx, gxy, gyy = g[2], HALF * g[3], g[4]
        left0, left1 = xx * gxx + xy * gxy, xx * gxy + xy * gyy
        right0, right1 = xy * gxx + yy * gxy, xy * gxy + yy * gyy
        sxx, sxy = -(left0 * xx + left1 * xy), -(left0 * xy + left1 * yy)
        syy = -(right0 * xy + right1 * yy)
        for k in range(3):  # S = A A': dA = 2 dS A
            da[0, k] = TWO * (sxx * a[0, k] + sxy * a[1, k])
            da[1, k] = TWO * (sxy * a[0, k] + syy * a[1, k])
        for i in range(3):  # A = M R(q) diag(s)
            for k in range(3):
                d_along = m[0, i] * da[0, k] + m[1, i] * da[1, k]
                d_scales[n, k] += d_along * rotation[i, k]
                d_rotation[i, k] = d_along * scales[n, k]
            for j in range(2):
                total = ZERO
                for k in range(3):
                    total += da[j, k] * rotation[i, k] * scales[n, k]
                dm[j, i] = total
        _rotation_backward(rotations[n], length, d_rotation, d_rotations[n])
        _position_backward(p, camera, dm, g, dp)
        for k in range(3):
            d_positions[n, k] = camera[k] * dp[0] + camera[3 + k] * dp[1] + camera[6 + k] * dp[2]
    return d_positions, d_rotations, d_scales, d_opacities, d_colours


@compiled
def _position_backward(p, camera, dm, g, dp):
    """Gradient of the centre in the camera, by its mean and by the Jacobian: M = J R."""
    inverse = ONE / p[2]
    ax, ay = camera[12] * inverse, camera[13] * inverse
    slope_x, slope_y = p[0] * inverse, p[1] * inverse
    j00 = j02 = j11 = j12 = ZERO
    for k in range(3):  # dJ = dM R'
        j00 += dm[0, k] * camera[k]
        j02 += dm[0, k] * camera[6 + k]
        j11 += dm[1, k] * camera[3 + k]
        j12 += dm[1, k] * camera[6 + k]
    dp[0] = ax * g[0] - ax * inverse * j02
    dp[1] = ay * g[1] - ay * inverse * j12
    dp[2] = -ax * slope_x * g[0] - ay * slope_y * g[1]
    dp[2] += inverse * (ax * (TWO * slope_x * j02 - j00) + ay * (TWO * slope_y * j12 - j11))
