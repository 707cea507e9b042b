"""Compiled functions work where nothing may be written, and several threads may draw at once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from more4d.geometry.camera import Camera
from more4d.raster.numba_backend import compiled
from more4d.raster.registry import open_rasteriser
from tests.raster.scenes import still_path


def twice(numbers: np.ndarray) -> float:
    return 2 * numbers[0]


def test_an_installation_that_cannot_be_written_only_loses_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [])
    assert compiled(twice)(np.array([1.5])) == 3.0


def test_calls_from_several_threads_do_not_disturb_each_other() -> None:
    rasteriser = open_rasteriser("numba")
    path = still_path(Camera(fx=1.0, fy=1.0))

    def depth_at(depth_m: float) -> float:
        positions = torch.tensor([[[0.0, 0.0, depth_m]]])
        drawn = rasteriser.render(positions, torch.ones(1, 3), torch.zeros(1), path, 33, 31)
        return float(drawn.depth_m[0, 16, 15])

    wanted = [float(depth) for depth in range(1, 40)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(depth_at, wanted)) == wanted
