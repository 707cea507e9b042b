"""Ray casting of unit primitives: every shape fills the box [-1, 1]^3 of its own frame (y points down).

Rays are `origin + t * direction` in the frame of the primitive; `t` survives every affine map, so it is depth
whenever the direction has z = 1 in the camera's frame.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

NO_HIT = np.float32(np.inf)
EPSILON = 1e-9

SPHERE, BOX, FRUSTUM, CAPSULE, SHEET, PLANE = range(6)
CONVEX = frozenset((SPHERE, BOX, FRUSTUM, CAPSULE))

Rays = Float[ndarray, "3 #rays"]
Shape = tuple[float, ...]


def intersect(
    kind: int, shape: Shape, origin: Rays, direction: Rays, after: float
) -> Float[ndarray, " #rays"]:
    """The smallest `t > after` at which each ray meets the surface; infinity where it does not.

    `shape` holds the parameters besides the unit box: the taper of a frustum, the height of a capsule's cap,
    the phase and waves of a sheet. `origin` and `direction` broadcast.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return _SURFACES[kind][0](shape, origin, direction, after)


def normals(kind: int, shape: Shape, points: Rays) -> Rays:
    """Outward directions (not of unit length) at points of the surface, in the primitive's frame."""
    return _SURFACES[kind][1](shape, points)


def _nearest(near: ndarray, far: ndarray, after: float) -> ndarray:
    return np.where(near > after, near, np.where(far > after, far, NO_HIT))


def _not_zero(values: ndarray) -> ndarray:
    return np.where(np.abs(values) < EPSILON, np.float32(EPSILON), values)


def _roots(a: ndarray, b: ndarray, c: ndarray) -> tuple[ndarray, ndarray]:
    """Roots of a t^2 + 2 b t + c, smaller first; NaN where there are none."""
    root = np.sqrt(b * b - a * c)
    low, high = (-b - root) / a, (-b + root) / a
    return np.minimum(low, high), np.maximum(low, high)


def _sphere(shape: Shape, o: Rays, d: Rays, after: float) -> ndarray:
    a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    c = o[0] * o[0] + o[1] * o[1] + o[2] * o[2] - 1
    return _nearest(*_roots(a, b, c), after)


def _box(shape: Shape, o: Rays, d: Rays, after: float) -> ndarray:
    inverse = 1 / _not_zero(d)
    middle, reach = -o * inverse, np.abs(inverse)
    near, far = (middle - reach).max(0), (middle + reach).min(0)
    return np.where(near <= far, _nearest(near, far, after), NO_HIT)


def _frustum(shape: Shape, o: Rays, d: Rays, after: float) -> ndarray:
    """Radius 1 at y = 1, radius `shape[0]` at y = -1, closed by two discs."""
    middle, slope = (1 + shape[0]) / 2, (1 - shape[0]) / 2
    radius, growth = middle + slope * o[1], slope * d[1]
    a = d[0] * d[0] + d[2] * d[2] - growth * growth
    b = o[0] * d[0] + o[2] * d[2] - radius * growth
    c = o[0] * o[0] + o[2] * o[2] - radius * radius
    hit = NO_HIT
    for t in _roots(_not_zero(a), b, c):
        inside = (np.abs(o[1] + t * d[1]) <= 1) & (t > after)
        hit = np.where(inside, np.minimum(hit, t), hit)
    for side, limit in ((1.0, 1.0), (-1.0, shape[0] ** 2)):
        t = (side - o[1]) / _not_zero(d[1])
        x, z = o[0] + t * d[0], o[2] + t * d[2]
        hit = np.where((x * x + z * z <= limit) & (t > after), np.minimum(hit, t), hit)
    return hit


def _capsule(shape: Shape, o: Rays, d: Rays, after: float) -> ndarray:
    """A cylinder between y = -(1 - e) and 1 - e, closed by half ellipsoids of height e = shape[0]."""
    cap = shape[0]
    a = d[0] * d[0] + d[2] * d[2]
    b = o[0] * d[0] + o[2] * d[2]
    c = o[0] * o[0] + o[2] * o[2] - 1
    hit = NO_HIT
    for t in _roots(np.maximum(a, np.float32(EPSILON)), b, c):
        inside = (np.abs(o[1] + t * d[1]) <= 1 - cap) & (t > after)
        hit = np.where(inside, np.minimum(hit, t), hit)
    slope = d[1] / cap
    a = a + slope * slope
    for side in (1.0, -1.0):
        height = (o[1] - side * (1 - cap)) / cap
        for t in _roots(a, b + height * slope, c + 1 + height * height - 1):
            beyond = (side * (o[1] + t * d[1]) >= 1 - cap) & (t > after)
            hit = np.where(beyond, np.minimum(hit, t), hit)
    return hit


def _plane(shape: Shape, o: Rays, d: Rays, after: float) -> ndarray:
    t = -o[1] / _not_zero(d[1])
    x, z = o[0] + t * d[0], o[2] + t * d[2]
    return np.where((t > after) & (np.abs(x) <= 1) & (np.abs(z) <= 1), t, NO_HIT)


def sheet_height(shape: Shape, x: ndarray, y: ndarray) -> ndarray:
    """Displacement of a waving sheet along z: zero at the fixed edge (x = -1), growing toward the free edge.

    `shape` is (amplitude, waves along x, lean along y, phase in radians).
    """
    amplitude, waves, lean, phase = shape
    return amplitude * (x + 1) / 2 * np.sin(waves * np.pi * (x + 1) + lean * y - phase)


def _sheet(shape: Shape, o: Rays, d: Rays, after: float) -> ndarray:
    """First sign change of z - height along the ray inside the unit box, refined by false position."""
    inverse = 1 / _not_zero(d)
    middle, reach = -o * inverse, np.abs(inverse)
    start = np.maximum((middle - reach).max(0), after)
    end = (middle + reach).min(0)
    crosses = start < end
    start, end = np.where(crosses, start, 0), np.where(crosses, end, 0)

    def gap(t: ndarray) -> ndarray:
        return o[2] + t * d[2] - sheet_height(shape, o[0] + t * d[0], o[1] + t * d[1])

    steps = 16
    low, low_gap = start, gap(start)
    found = np.zeros(np.shape(low_gap), bool)
    high, high_gap = low, low_gap
    for step in range(1, steps + 1):
        t = start + (end - start) * (step / steps)
        value = gap(t)
        new = ~found & ((value > 0) != (low_gap > 0))
        high, high_gap = np.where(new, t, high), np.where(new, value, high_gap)
        found = found | new
        low, low_gap = np.where(found, low, t), np.where(found, low_gap, value)
    for _ in range(5):
        span = high_gap - low_gap
        t = low - low_gap * (high - low) / np.where(span == 0, 1, span)
        value = gap(t)
        same = (value > 0) == (low_gap > 0)
        low, low_gap = np.where(same, t, low), np.where(same, value, low_gap)
        high, high_gap = np.where(same, high, t), np.where(same, high_gap, value)
    t = np.where(np.abs(low_gap) < np.abs(high_gap), low, high)
    return np.where(found & crosses & (t > after), t, NO_HIT)


def _box_normals(shape: Shape, p: Rays) -> Rays:
    size = np.abs(p)
    return np.where(size >= size.max(0) - 1e-12, np.sign(p), 0)


def _frustum_normals(shape: Shape, p: Rays) -> Rays:
    middle, slope = (1 + shape[0]) / 2, (1 - shape[0]) / 2
    radius = middle + slope * p[1]
    around = np.abs(np.sqrt(p[0] ** 2 + p[2] ** 2) - radius) < np.abs(np.abs(p[1]) - 1)
    none = np.zeros_like(radius)
    return np.where(around, (p[0], -slope * radius, p[2]), (none, np.sign(p[1]), none))


def _capsule_normals(shape: Shape, p: Rays) -> Rays:
    cap = shape[0]
    over = np.sign(p[1]) * np.maximum(np.abs(p[1]) - (1 - cap), 0)
    return np.stack([p[0], over / cap**2, p[2]])


def _plane_normals(shape: Shape, p: Rays) -> Rays:
    return np.zeros_like(p) - np.array([[0], [1], [0]], p.dtype)


def _sheet_normals(shape: Shape, p: Rays) -> Rays:
    step = np.float32(1e-3)
    along_x = (sheet_height(shape, p[0] + step, p[1]) - sheet_height(shape, p[0] - step, p[1])) / (2 * step)
    along_y = (sheet_height(shape, p[0], p[1] + step) - sheet_height(shape, p[0], p[1] - step)) / (2 * step)
    return np.stack([-along_x, -along_y, np.ones_like(p[0])])


_SURFACES: dict[int, tuple[Callable[[Shape, Rays, Rays, float], ndarray], Callable[[Shape, Rays], Rays]]] = {
    SPHERE: (_sphere, lambda shape, p: p),
    BOX: (_box, _box_normals),
    FRUSTUM: (_frustum, _frustum_normals),
    CAPSULE: (_capsule, _capsule_normals),
    SHEET: (_sheet, _sheet_normals),
    PLANE: (_plane, _plane_normals),
}
"""Intersection and normals of each primitive."""
