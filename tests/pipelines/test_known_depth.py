"""Own depth beside an estimate: sense, alignment by scale and shift, gaps."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from more4d.files.depth_and_cameras import load_depth
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera, DepthMap
from more4d.pipelines.known_depth import (
    align_depth,
    complete_depth,
    fill_gaps,
    fit_scale_and_shift,
    rank_correlation,
    report_sense,
    spread,
)

CAMERA = Camera(fx=1.0, fy=1.0)
HEIGHT, WIDTH = 48, 64


@pytest.fixture
def truth() -> torch.Tensor:
    """A slope from 2 m at the bottom to 8 m at the top, and a box 1.5 m away."""
    depth = torch.linspace(8, 2, HEIGHT)[:, None].repeat(1, WIDTH)
    depth[20:36, 24:40] = 1.5
    return depth


def estimate_of(depth_m: torch.Tensor, valid: torch.Tensor | None = None) -> DepthMap:
    valid = torch.ones_like(depth_m, dtype=torch.bool) if valid is None else valid
    return DepthMap(depth_m=depth_m, valid=valid, camera=CAMERA)


@pytest.mark.parametrize("outliers", [0.0, 0.2, 0.4])
def test_scale_and_shift_are_found_among_outliers(outliers: float) -> None:
    generator = torch.Generator().manual_seed(3)
    values = torch.rand(4000, generator=generator).double()
    target = 0.7 * values + 0.05
    wrong = torch.rand(4000, generator=generator) < outliers
    target[wrong] = torch.rand(int(wrong.sum()), generator=generator).double() * 3
    scale, shift = fit_scale_and_shift(values, target, torch.ones_like(values))
    assert scale == pytest.approx(0.7, abs=1e-4) and shift == pytest.approx(0.05, abs=1e-4)


def test_noise_moves_scale_and_shift_little() -> None:
    generator = torch.Generator().manual_seed(4)
    values = torch.rand(5000, generator=generator).double()
    target = 0.7 * values + 0.05 + 0.02 * torch.randn(5000, generator=generator).double()
    scale, shift = fit_scale_and_shift(values, target, torch.ones_like(values))
    assert scale == pytest.approx(0.7, abs=0.01) and shift == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("kind", ["inverse", "relative"])
def test_depth_up_to_scale_and_shift_is_brought_to_metres(truth: torch.Tensor, kind: str) -> None:
    exact = 1 / truth if kind == "inverse" else truth
    own = (exact - 0.1) * 37 - 2
    estimate = truth.clone()
    estimate[:, :12] *= 2.5  # the estimate is wrong at a fifth of the pixels
    aligned = align_depth(own, estimate_of(estimate), kind=kind)
    torch.testing.assert_close(aligned, truth, rtol=2e-3, atol=0)
    completed = complete_depth(own, estimate_of(estimate), kind=kind)
    assert torch.equal(completed.depth_m, aligned) and completed.camera == CAMERA


def test_inverse_depth_of_zero_lies_far_but_not_beyond_measure(truth: torch.Tensor) -> None:
    own = 1 / truth - 1 / 7.5  # what is farther than 7.5 m is negative
    aligned = align_depth(own, estimate_of(truth), kind="inverse")
    assert bool((aligned > 0).all()) and float(aligned.max()) <= 16.1


def test_depth_of_the_opposite_sense_is_refused_with_the_kind_that_fits(truth: torch.Tensor) -> None:
    with pytest.raises(InputError, match="--depth-kind relative"):
        align_depth(truth, estimate_of(truth), kind="inverse")
    with pytest.raises(InputError, match="--depth-kind inverse"):
        align_depth(1 / truth, estimate_of(truth), kind="relative")


def test_a_scene_inside_out_and_another_unit_are_reported(
    truth: torch.Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "more4d"):
        kept = complete_depth(10 / truth, estimate_of(truth), name="d.png")
        assert "d.png runs against the estimate" in caplog.text and "--depth-kind inverse" in caplog.text
        assert torch.equal(kept.depth_m, 10 / truth)  # the user's word counts
        caplog.clear()
        complete_depth(truth * 5, estimate_of(truth))
        assert "5 times as deep as the estimate" in caplog.text and "--depth-unit" in caplog.text
        caplog.clear()
        complete_depth(truth * 2, estimate_of(truth))
        assert caplog.text == ""


def test_gaps_take_the_scaled_estimate_and_known_values_stay(truth: torch.Tensor) -> None:
    columns = torch.linspace(1.5, 1.8, WIDTH)  # the estimate is wrong by a factor that changes slowly
    own = truth.clone()
    generator = torch.Generator().manual_seed(0)
    own[torch.rand(truth.shape, generator=generator) > 0.2] = torch.nan
    filled = fill_gaps(own, estimate_of(truth / columns))
    known = own.isfinite()
    assert torch.equal(filled[known], own[known])
    assert float((filled / truth).log().abs().max()) < 0.02


def test_no_step_appears_at_the_border_of_a_gap() -> None:
    truth = torch.full((HEIGHT, WIDTH), 4.0)
    factor = torch.linspace(0.0, 0.4, WIDTH).exp()
    own = truth * factor
    own[12:36, 16:48] = torch.nan
    filled = fill_gaps(own, estimate_of(truth))
    steps = filled.log().diff(dim=1).abs()
    # The factor itself changes by 0.0064 a pixel; without blending the border would be a step of 0.1.
    assert float(steps.max()) < 0.03
    assert float((filled / (truth * factor)).log().abs().max()) < 0.08


def test_one_return_through_a_window_bends_little(truth: torch.Tensor) -> None:
    own = truth.clone()
    own[::2] = torch.nan
    own[10, 10] = 90.0
    filled = fill_gaps(own, estimate_of(truth))
    assert filled[10, 10] == 90.0
    around = filled[[9, 11], 8:13] / truth[[9, 11], 8:13]
    assert float(around.log().abs().max()) < 0.45


def test_only_what_lies_beyond_everything_is_put_far_away(truth: torch.Tensor) -> None:
    own, valid = truth.clone(), torch.ones_like(truth, dtype=torch.bool)
    own[:4] = torch.inf  # only sky
    own[4:8] = torch.nan
    valid[4:6] = False  # the estimate does not know either
    completed = complete_depth(own, estimate_of(truth, valid))
    assert not bool(completed.valid[:6].any()) and bool(completed.valid[6:].all())
    far = completed.depth_m[completed.valid].quantile(0.95)
    assert torch.allclose(completed.depth_m[:6], far)
    torch.testing.assert_close(completed.depth_m[6:8], truth[6:8], rtol=0.02, atol=0)


def test_nothing_known_of_the_film_is_refused(truth: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"d\.npy knows the depth of no pixel"):
        complete_depth(torch.full_like(truth, torch.nan), estimate_of(truth), name="d.npy")


@pytest.mark.parametrize("shape", [(1, 7), (5, 1), (7, 9), (16, 16)])
def test_spread_keeps_constants_and_known_values(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    known = torch.rand(shape, generator=generator) < 0.3
    known[0, 0] = True
    assert torch.allclose(spread(torch.where(known, 2.5, 0.0), known), torch.tensor(2.5))
    values = torch.rand(shape, generator=generator)
    assert torch.equal(spread(values, known)[known], values[known]) or min(shape) == 1


def test_rank_correlation_is_that_of_orders() -> None:
    values = torch.tensor([1.0, 2.0, 5.0, 100.0])
    assert rank_correlation(values, values.log()) == pytest.approx(1)
    assert rank_correlation(values, 1 / values) == pytest.approx(-1)
    assert rank_correlation(values, torch.ones(4)) == 0


def test_a_sparse_scan_of_a_photo_becomes_a_scene_in_one_piece(shared: Path) -> None:
    folder = shared / "data/field-cases"
    truth = torch.from_numpy(np.load(folder / "depth-is-disparity/metres.npy"))
    own = torch.from_numpy(np.load(folder / "depth-with-gaps/lidar_20_percent.npy"))
    own[own <= 0] = torch.nan
    rows = torch.linspace(1.3, 0.8, truth.shape[0])[:, None]
    completed = complete_depth(own, estimate_of(truth * rows))
    assert bool(completed.valid.all())
    assert float((completed.depth_m / truth).log().abs().mean()) < 0.01


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (lambda depth: depth, None),
        (lambda depth: torch.full_like(depth, 3.0), None),
        (lambda depth: depth.flip(0), "upside down"),
        (lambda depth: depth.flip(1), "mirrored"),
        (lambda depth: depth.flip(0, 1), "turned by 180 degrees"),
        (lambda depth: depth.T, "transposed"),
        (lambda depth: 9 - depth, "--depth-kind inverse"),
        (lambda depth: torch.rand(64, 64, generator=torch.Generator().manual_seed(0)) + 1, "hardly agrees"),
    ],
)
def test_depth_that_is_turned_or_of_another_photo_is_reported(turn, words, caplog) -> None:
    rows, columns = torch.meshgrid(torch.linspace(6, 2, 64), torch.linspace(0, 1.8, 64), indexing="ij")
    depth = rows + columns
    depth[30:50, 8:20] = 1.0
    with caplog.at_level(logging.WARNING, "more4d"):
        report_sense(turn(depth), estimate_of(depth), "d.npy")
    assert words in caplog.text if words else not caplog.text


def test_disparity_of_a_photo_is_reported_as_metres_and_right_as_inverse_depth(shared: Path, caplog) -> None:
    folder = shared / "data/field-cases/depth-is-disparity"
    truth = torch.from_numpy(np.load(folder / "metres.npy"))
    height, width = truth.shape
    estimate = estimate_of(truth * torch.linspace(1.3, 0.8, height)[:, None])
    for name in ("da2_disp16.png", "disp.npy"):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "more4d"):
            own = load_depth(folder / name, height=height, width=width)
            complete_depth(own, estimate, name=name)
        assert "--depth-kind inverse" in caplog.text, name
        inverse = load_depth(folder / name, height=height, width=width, kind="inverse")
        depth_m = complete_depth(inverse, estimate, kind="inverse").depth_m
        assert rank_correlation(depth_m.flatten(), truth.flatten()) > 0.99
        assert float((depth_m / truth).log().abs().median()) < 0.25  # the estimate is up to 30 % wrong itself


@pytest.mark.parametrize(("name", "ratio"), [("tum5000.png", "5 times"), ("kitti256.png", "0.256 times")])
def test_depth_in_another_unit_is_reported(shared: Path, caplog, name: str, ratio: str) -> None:
    folder = shared / "data/field-cases"
    truth = torch.from_numpy(np.load(folder / "depth-is-disparity/metres.npy"))
    own = load_depth(folder / "depth-other-units" / name, height=truth.shape[0], width=truth.shape[1])
    with caplog.at_level(logging.WARNING, "more4d"):
        complete_depth(own, estimate_of(truth), name=name)
    assert f"{name} is {ratio} as deep as the estimate" in caplog.text and "--depth-unit" in caplog.text
