"""Laws of the average along surfaces."""

import numpy as np

from more4d.tracking.lifting import EdgeAwareFilter

FLAT = np.full((20, 30, 3), 0.5, np.float32)


def depth_with_an_edge() -> np.ndarray:
    depth = np.full((20, 30), 5.0, np.float32)
    depth[:, 15:] = 1.0
    return depth


def test_constants_stay_what_they_are() -> None:
    values = np.full((20, 30, 2), 3.0, np.float32)
    assert np.allclose(EdgeAwareFilter(FLAT, depth_with_an_edge())(values), 3.0, atol=1e-5)


def test_nothing_crosses_an_edge_of_depth() -> None:
    values = np.zeros((20, 30, 1), np.float32)
    values[:, 15:] = 1.0
    assert np.allclose(EdgeAwareFilter(FLAT, depth_with_an_edge())(values), values, atol=1e-3)


def test_nothing_crosses_an_edge_of_colour() -> None:
    colours = FLAT.copy()
    colours[:, 15:] = 0.0
    values = np.zeros((20, 30, 1), np.float32)
    values[:, 15:] = 1.0
    held = EdgeAwareFilter(colours, np.ones((20, 30), np.float32))(values)
    free = EdgeAwareFilter(FLAT, np.ones((20, 30), np.float32))(values)
    assert np.abs(held - values).max() < 0.05
    assert np.abs(free - values).max() > 0.3


def test_the_spread_on_a_flat_surface_is_the_asked_one() -> None:
    values = np.zeros((1, 401, 1), np.float32)
    values[0, 200] = 1.0
    spread = EdgeAwareFilter(
        np.full((1, 401, 3), 0.5, np.float32), np.ones((1, 401), np.float32), sigma_px=12.0
    )
    answer = spread(values)[0, :, 0]
    deviation = np.sqrt((answer * (np.arange(401) - 200) ** 2).sum() / answer.sum())
    assert abs(deviation - 12.0) < 1.0


def test_a_gap_is_filled_from_its_own_surface() -> None:
    values = np.where(depth_with_an_edge() > 2, 7.0, -4.0)[..., None].astype(np.float32)
    weight = np.zeros((20, 30), np.float32)
    weight[:, :5] = weight[:, 25:] = 1.0
    assert np.allclose(EdgeAwareFilter(FLAT, depth_with_an_edge()).fill(values, weight), values, atol=0.05)
