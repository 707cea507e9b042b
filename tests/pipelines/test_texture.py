"""Texture synthesis: compiled loops against slow twins, and what may be copied from where."""

import numpy as np
import pytest
import torch

from more4d.pipelines import texture_kernels as kernels
from more4d.pipelines.texture import LOG_DEPTH_TOLERANCE, RADIUS, find_sources, transfer_texture

HEIGHT, WIDTH = 96, 128
HOLE = (slice(36, 60), slice(48, 80))


def pattern(period: int = 8) -> torch.Tensor:
    """A picture that repeats itself in both directions."""
    tile = torch.rand(period, period, 3, generator=torch.Generator().manual_seed(1)) - 0.5
    return tile.repeat(HEIGHT // period, WIDTH // period, 1)


def with_hole(hole: tuple[slice, slice] = HOLE) -> torch.Tensor:
    known = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    known[hole] = False
    return known


def flat(depth_m: float = 4.0) -> torch.Tensor:
    return torch.full((HEIGHT, WIDTH), depth_m)


def sources(known: torch.Tensor, depth_m: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return find_sources(pattern(), torch.zeros(HEIGHT, WIDTH, 1), depth_m, known, ~known, seed=seed)


def small_problem() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    target = np.zeros((20, 26), bool)
    target[8:13, 0:9] = True
    source = np.zeros((20, 26), bool)
    source[3:17, 13:23] = True
    return {
        "detail": random.random((20, 26, 3), np.float32),
        "confidence": random.random((20, 26), np.float32) + np.float32(0.1),
        "features": random.random((20, 26, 2), np.float32),
        "target": target,
        "source": source,
        "log_depth": np.linspace(0, 1, 26, dtype=np.float32)[None].repeat(20, 0),
    }


def slow_cost(problem: dict[str, np.ndarray], pixel: tuple[int, int], place: tuple[int, int]) -> float:
    offsets = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)]
    height, width = problem["target"].shape
    inside = [(dy, dx) for dy, dx in offsets if 0 <= pixel[0] + dy < height and 0 <= pixel[1] + dx < width]
    total = weights = 0.0
    for dy, dx in inside:
        weight = float(problem["confidence"][pixel[0] + dy, pixel[1] + dx])
        here = problem["detail"][pixel[0] + dy, pixel[1] + dx].astype(float)
        there = problem["detail"][place[0] + dy, place[1] + dx].astype(float)
        total += weight * float(np.square(here - there).sum())
        weights += weight
    features = problem["features"].astype(float)
    return float(np.square(features[pixel] - features[place]).sum()) + total / weights


def started(problem: dict[str, np.ndarray], tolerance: float) -> np.ndarray:
    field = np.full((*problem["target"].shape, 2), kernels.NONE, np.int32)
    nearest = np.zeros((2, *problem["target"].shape), np.int32)
    nearest[0], nearest[1] = np.arange(20)[:, None].clip(3, 16), 13
    arrays = (problem["target"], problem["source"], problem["log_depth"], nearest)
    kernels.start(*arrays, np.float32(tolerance), 5, field)
    return field


def test_the_cost_of_a_patch_is_that_of_its_slow_twin_also_at_the_border():
    problem = small_problem()
    for pixel, place in (((10, 5), (9, 15)), ((8, 0), (3, 20)), ((12, 1), (16, 13))):
        cost = kernels.patch_cost(
            *(problem["detail"], problem["confidence"], problem["features"], 2, *pixel, *place),
            np.float32(np.inf),
        )
        assert float(cost) == pytest.approx(slow_cost(problem, pixel, place), rel=1e-5)


def test_the_start_is_the_mirrored_place_where_it_is_allowed():
    problem = small_problem()
    field = started(problem, tolerance=10.0)
    rows, columns = np.nonzero(problem["target"])
    mirrored = 2 * 13 - columns
    allowed = problem["source"][rows, mirrored.clip(max=25)] & (mirrored < 26)
    assert allowed.any() and (field[rows, columns, 1][allowed] == mirrored[allowed]).all()
    assert problem["source"][field[rows, columns, 0], field[rows, columns, 1]].all()


def test_a_sweep_makes_no_place_worse_and_uses_allowed_ones_only():
    problem = small_problem()
    tolerance = 0.6
    field = started(problem, tolerance)
    rows, columns = np.nonzero(problem["target"])
    for backward in (False, True):
        before = field.copy()
        kernels.improve(
            *(problem["detail"], problem["confidence"], problem["features"], problem["target"]),
            *(problem["source"], problem["log_depth"], np.float32(tolerance), 2, backward, 7, field),
        )
        improved = 0
        for pixel in zip(rows, columns, strict=True):
            place, old = tuple(field[pixel]), tuple(before[pixel])
            if place[0] == kernels.NONE:
                assert old[0] == kernels.NONE
                continue
            assert problem["source"][place]
            assert abs(problem["log_depth"][place] - problem["log_depth"][pixel]) <= tolerance
            if old[0] != kernels.NONE:
                assert slow_cost(problem, pixel, place) <= slow_cost(problem, pixel, old) + 1e-5
                improved += place != old
        assert backward or improved > len(rows) // 2


def test_a_hole_in_a_regular_pattern_is_filled_with_the_pattern():
    known = with_hole()
    made = transfer_texture(pattern(), torch.zeros(HEIGHT, WIDTH, 3), flat(), known, ~known, seed=0)
    assert bool((made[known] == 0).all())
    right = ((made - pattern()).abs().amax(-1) < 1e-6)[HOLE]
    assert float(right.float().mean()) > 0.95


def test_equal_seeds_give_equal_results():
    known = with_hole()
    assert torch.equal(sources(known, flat()), sources(known, flat()))


def test_nothing_is_copied_from_another_depth():
    known, depth_m = with_hole((slice(36, 72), slice(48, 80))), flat()
    depth_m[:60] = 40.0  # sky above ground
    places = sources(known, depth_m)
    rows, columns = (~known).nonzero().unbind(1)
    there = depth_m[places[rows, columns, 0].long(), places[rows, columns, 1].long()]
    assert torch.equal(there, depth_m[rows, columns])
    patch = 2 * RADIUS + 1
    assert bool((places[rows, columns] >= RADIUS).all()) and min(HEIGHT, WIDTH) > patch


def test_where_no_place_has_the_depth_there_is_no_texture():
    known, depth_m = with_hole(), flat()
    depth_m[HOLE] *= float(np.exp(2 * LOG_DEPTH_TOLERANCE))
    assert bool((sources(known, depth_m)[HOLE] == -1).all())
    low = torch.zeros(HEIGHT, WIDTH, 3)
    assert bool((transfer_texture(pattern(), low, depth_m, known, ~known, seed=0) == 0).all())


def test_what_is_wanted_must_not_be_known():
    with pytest.raises(ValueError, match="must not be known"):
        find_sources(
            *(pattern(), torch.zeros(HEIGHT, WIDTH, 1), flat(), with_hole()),
            torch.ones(HEIGHT, WIDTH, dtype=torch.bool),
            seed=0,
        )
