"""Outlines of estimated depth: against slow twins, on made-up pictures, and on procedural scenes."""

import pytest
import torch
from torch.nn.functional import interpolate, max_pool2d

from more4d.evaluation.data import unseen_scene
from more4d.pipelines.depth import (
    MEDIAN_SIDE,
    SAME_SURFACE,
    pick_and_smooth,
    sharpen_depth,
    weighted_median,
    weighted_median_filter,
)
from more4d.scenes.render import render_clip
from tests.pipelines.sharpening_twins import slow_pick_and_smooth, slow_weighted_median


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("radius", [1, 2, 5])
@pytest.mark.parametrize("size", [(9, 7), (70, 12), (1, 3)])
def test_the_median_is_that_of_its_twin(radius: int, size: tuple[int, int]) -> None:
    values, image = random(*size), 0.3 * random(*size, 3, seed=1)
    fast = weighted_median(values, image, radius=radius)
    assert torch.isin(fast, values).all()
    # Weights are summed in another order: where half of them is met to the last bit, the next value is taken.
    same = fast == slow_weighted_median(values, image, radius=radius)
    assert float(same.float().mean()) > 0.99


@pytest.mark.parametrize(("small", "large"), [((20, 30), (61, 90)), ((7, 5), (7, 17)), ((3, 3), (50, 40))])
def test_the_pick_is_that_of_its_twin(small: tuple[int, int], large: tuple[int, int]) -> None:
    depth, colours, image = 1 + 3 * random(*small), random(*small, 3, seed=1), random(*large, 3, seed=2)
    fast, slow = pick_and_smooth(depth, colours, image), slow_pick_and_smooth(depth, colours, image)
    assert torch.allclose(fast, slow, rtol=1e-5)


def test_a_ramp_at_a_colour_edge_becomes_a_step() -> None:
    image = torch.full((96, 96, 3), 0.2)
    image[:, 48:] = 0.8
    depth = torch.full((96, 96), 2.0)
    depth[:, 48:] = 6.0
    blurred = torch.nn.functional.avg_pool1d(depth[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
    assert int(((blurred > 2.1) & (blurred < 5.9)).sum()) == 2 * 96
    assert torch.allclose(weighted_median_filter(blurred, image), depth)


def test_a_slope_of_one_colour_stays_a_slope() -> None:
    depth = torch.linspace(1, 9, 96)[:, None].expand(96, 96).contiguous()
    sharpened = weighted_median_filter(depth, torch.full((96, 96, 3), 0.4))
    assert torch.allclose(sharpened[4:-4], depth[4:-4])


def test_the_median_invents_no_depth() -> None:
    depth, image = 1 + random(24, 24), random(24, 24, 3, seed=1)
    assert torch.isin(weighted_median_filter(depth, image), depth).all()


def test_a_slope_at_full_size_has_no_stairs() -> None:
    """A plane is linear in 1 / z; its second difference is far below that of a staircase of small pixels."""
    inverse = torch.linspace(0.2, 0.5, 3 * MEDIAN_SIDE)[:, None].expand(3 * MEDIAN_SIDE, 400)
    sharpened = sharpen_depth(1 / inverse.contiguous(), torch.full((3 * MEDIAN_SIDE, 400, 3), 0.4))
    inner = slice(30, -30)
    bend = (1 / sharpened)[inner].diff(2, dim=0).abs().max()
    stair = 3 * (inverse[1, 0] - inverse[0, 0])
    assert float(bend) < 0.1 * float(stair)


def test_two_surfaces_are_never_mixed() -> None:
    near, far = 2.0, 2.0 * (1 + 2 * SAME_SURFACE)
    depth = torch.where(random(30, 40) > 0.5, near, far)
    large = pick_and_smooth(depth, random(30, 40, 3, seed=1), random(90, 120, 3, seed=2))
    assert bool((((large - near).abs() < 1e-4) | ((large - far).abs() < 1e-4)).all())


@pytest.mark.slow
def test_outlines_of_procedural_scenes_are_better_than_blurred_ones() -> None:
    """True depth, blurred to 144 rows as a network would: within 6 pixels of a step the error in log depth
    becomes less than 0.11 and less than 0.75 times that of plain interpolation.
    """
    errors, blurred_errors = [], []
    for index in range(4):
        scene = unseen_scene(index, split="validation").scene
        clip = render_clip(scene, height=576, width=768, frames=1, visibility="none")
        truth = clip.depth.depth_m.clamp(max=100.0).log()
        small = interpolate(truth[None, None], (144, 192), mode="bilinear", antialias=True)
        blurred = interpolate(small, (576, 768), mode="bilinear")[0, 0]
        step = torch.zeros(576, 768)
        step[:, 1:] = (truth.diff(dim=1).abs() > 0.1).float()
        near = max_pool2d(step[None, None], 13, 1, 6)[0, 0] > 0
        sharp = sharpen_depth(blurred.exp(), clip.tracks.colours).log()
        errors.append(float((sharp - truth).abs()[near].mean()))
        blurred_errors.append(float((blurred - truth).abs()[near].mean()))
    assert sum(errors) / 4 < 0.11
    assert sum(errors) < 0.75 * sum(blurred_errors)
