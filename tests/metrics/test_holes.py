"""Laws of the measures of filled holes."""

import math

import pytest
import torch

from more4d.metrics.image_quality import hole_flicker, hole_psnr_db

TRUTH = torch.full((4, 6, 8, 3), 0.5)
HOLES = torch.zeros(4, 6, 8, dtype=torch.bool)
HOLES[:, 2:4, 3:6] = True


def test_only_the_holes_are_compared():
    video = TRUTH.clone()
    video[HOLES] += 0.1
    video[~HOLES] = 0
    assert hole_psnr_db(video, TRUTH, HOLES) == pytest.approx(20, abs=1e-3)
    assert math.isnan(hole_psnr_db(video, TRUTH, torch.zeros_like(HOLES)))


def test_only_changes_inside_holes_count():
    video = TRUTH + 0.05 * torch.arange(4).view(4, 1, 1, 1)
    video[:, 0, 0] = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
    assert hole_flicker(video, HOLES) == pytest.approx(0.05)
    assert hole_flicker(TRUTH, HOLES) == 0


def test_a_pixel_that_is_a_hole_once_only_cannot_flicker():
    once = torch.zeros_like(HOLES)
    once[1, 0, 0] = True
    assert math.isnan(hole_flicker(TRUTH, once))
