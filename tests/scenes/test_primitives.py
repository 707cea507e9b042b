"""Laws of the unit primitives: hits lie on the surface, inside the unit box, and nearest first."""

import numpy as np
import pytest

from more4d.foundation.config import numpy_generator
from more4d.scenes.primitives import (
    BOX,
    CAPSULE,
    FRUSTUM,
    PLANE,
    SHEET,
    SPHERE,
    intersect,
    normals,
    sheet_height,
)

KINDS = {
    SPHERE: (),
    BOX: (),
    FRUSTUM: (0.4,),
    CAPSULE: (0.3,),
    SHEET: (1.0, 1.2, 0.3, 0.7),
    PLANE: (),
}


def off_surface(kind: int, shape: tuple[float, ...], p: np.ndarray) -> np.ndarray:
    """How far points are from fulfilling the surface's equation."""
    if kind == SPHERE:
        return np.abs(np.linalg.norm(p, axis=0) - 1)
    if kind == BOX:
        return np.abs(np.abs(p).max(0) - 1)
    if kind == FRUSTUM:
        radius = (1 + shape[0]) / 2 + (1 - shape[0]) / 2 * p[1]
        return np.minimum(np.abs(np.hypot(p[0], p[2]) - radius), np.abs(np.abs(p[1]) - 1))
    if kind == CAPSULE:
        over = np.maximum(np.abs(p[1]) - (1 - shape[0]), 0) / shape[0]
        return np.abs(np.sqrt(p[0] ** 2 + p[2] ** 2 + over**2) - 1)
    if kind == SHEET:
        return np.abs(p[2] - sheet_height(shape, p[0], p[1]))
    return np.abs(p[1])


def rays_toward(kind: int) -> tuple[np.ndarray, np.ndarray]:
    generator = numpy_generator("rays", kind)
    origin = generator.normal(size=(3, 400))
    origin *= 4 / np.linalg.norm(origin, axis=0)
    return origin, generator.uniform(-0.8, 0.8, (3, 400)) - origin


@pytest.mark.parametrize("kind", KINDS)
def test_hits_lie_on_the_surface(kind: int) -> None:
    origin, direction = rays_toward(kind)
    t = intersect(kind, KINDS[kind], origin, direction, 0.0)
    hit = np.isfinite(t)
    points = (origin + np.where(hit, t, 0) * direction)[:, hit]
    assert hit.mean() > 0.3
    assert off_surface(kind, KINDS[kind], points).max() < 2e-3
    assert np.abs(points).max() < 1 + 1e-6


@pytest.mark.parametrize("kind", [SPHERE, BOX, FRUSTUM, CAPSULE])
def test_normals_point_out_where_rays_come_in(kind: int) -> None:
    origin, direction = rays_toward(kind)
    t = intersect(kind, KINDS[kind], origin, direction, 0.0)
    hit = np.isfinite(t)
    points = (origin + np.where(hit, t, 0) * direction)[:, hit]
    outward = normals(kind, KINDS[kind], points)
    assert ((outward * direction[:, hit]).sum(0) < 1e-6).mean() > 0.995


@pytest.mark.parametrize("kind", [SPHERE, BOX, FRUSTUM, CAPSULE])
def test_no_point_before_the_hit_is_inside(kind: int) -> None:
    origin, direction = rays_toward(kind)
    t = intersect(kind, KINDS[kind], origin, direction, 0.0)
    reach = np.where(np.isfinite(t), t, 3.0)
    for share in np.linspace(0.0, 0.98, 25):
        again = intersect(kind, KINDS[kind], origin + share * reach * direction, direction, 0.0)
        expected = np.where(np.isfinite(t), t - share * reach, np.inf)
        np.testing.assert_allclose(again, expected, rtol=1e-4, atol=1e-3)
