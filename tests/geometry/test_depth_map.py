"""Laws of depth maps."""

import math

import pytest
import torch

from more4d.geometry.camera import Camera, DepthMap, robust_quantile

CAMERA = Camera(fx=1.0, fy=1.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 0.0, -1.0])
def test_impossible_depth_becomes_invalid_and_far(bad: float) -> None:
    raw = torch.linspace(1, 4, 12).reshape(3, 4)
    raw[1, 2] = bad
    depth_map = DepthMap.from_raw(raw, CAMERA)
    assert not depth_map.valid[1, 2]
    assert int(depth_map.valid.sum()) == 11
    assert float(depth_map.depth_m[1, 2]) > 3.5
    assert torch.equal(depth_map.depth_m[depth_map.valid], raw[depth_map.valid])


def test_depth_known_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="no pixel"):
        DepthMap.from_raw(torch.full((2, 2), math.nan), CAMERA)


def test_the_constructor_refuses_gaps_and_other_shapes() -> None:
    with pytest.raises(ValueError, match="from_raw"):
        DepthMap(depth_m=torch.zeros(2, 2), valid=torch.ones(2, 2, dtype=torch.bool), camera=CAMERA)


def test_points_have_the_depth() -> None:
    depth_map = DepthMap.from_raw(torch.rand(4, 5) + 1, CAMERA)
    assert torch.equal(depth_map.points[..., 2], depth_map.depth_m)


def test_scene_depth_ignores_the_sky_and_what_is_unknown() -> None:
    raw = torch.full((10, 10), 2.0)
    raw[:4] = 1e5
    raw[9] = math.nan
    assert DepthMap.from_raw(raw, CAMERA).scene_depth_m == pytest.approx(2)


def test_scene_depth_scales_with_the_scene() -> None:
    raw = torch.rand(20, 20, generator=torch.Generator().manual_seed(0)) + 1
    small, large = DepthMap.from_raw(raw, CAMERA), DepthMap.from_raw(1000 * raw, CAMERA)
    assert large.scene_depth_m == pytest.approx(1000 * small.scene_depth_m)


def test_robust_quantile_agrees_with_torch_and_takes_many_values() -> None:
    values = torch.rand(5000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(robust_quantile(values, 0.3), torch.quantile(values, 0.3))
    many = torch.linspace(0, 1, 20_000_000)
    assert float(robust_quantile(many, 0.95)) == pytest.approx(0.95, abs=1e-4)
