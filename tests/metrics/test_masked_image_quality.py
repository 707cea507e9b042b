"""Laws of PSNR and SSIM of a part of a picture."""

import math

import pytest
import torch

from more4d.metrics.image_quality import masked_psnr_db, masked_ssim, psnr_db, ssim


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_mask_of_everything_changes_nothing():
    first, second = noise(2, 20, 24, 3) * 0.5, noise(2, 20, 24, 3, seed=1)
    whole = torch.ones(2, 20, 24, dtype=torch.bool)
    torch.testing.assert_close(masked_psnr_db(first, second, whole), psnr_db(first, second))
    torch.testing.assert_close(masked_ssim(first, second, whole), ssim(first, second), rtol=1e-4, atol=1e-5)


def test_what_is_masked_out_does_not_count():
    first = noise(24, 24, 3)
    second, mask = first.clone(), torch.ones(24, 24, dtype=torch.bool)
    second[:, 12:], mask[:, 12:] = 1 - second[:, 12:], False
    assert float(masked_psnr_db(first, second, mask)) == math.inf
    wrong = first.clone()
    wrong[:, :12] += 0.1
    wrong[:, 12:] = 0
    assert float(masked_psnr_db(first, wrong, mask)) == pytest.approx(20, abs=1e-3)


def test_the_similarity_of_the_kept_part_does_not_see_the_rest():
    first, other = noise(24, 24, 3), noise(24, 24, 3, seed=1)
    mask = torch.ones(24, 24, dtype=torch.bool)
    mask[:, 12:] = False
    changed = torch.where(mask[..., None], other, 1 - other)
    assert torch.equal(masked_ssim(first, other, mask), masked_ssim(first, changed, mask))


def test_a_flat_picture_is_like_itself_whatever_is_masked():
    flat = torch.full((16, 16, 3), 0.4)
    mask = noise(16, 16) > 0.3
    assert 0.5 < float(masked_ssim(flat, flat, mask)) <= 1 + 1e-5


def test_without_any_pixel_there_is_no_number():
    picture = noise(12, 12, 3)
    assert math.isnan(float(masked_psnr_db(picture, picture, torch.zeros(12, 12, dtype=torch.bool))))


def test_pictures_that_are_too_small_are_refused():
    with pytest.raises(ValueError, match="at least 11 x 11"):
        masked_ssim(noise(10, 40, 3), noise(10, 40, 3), torch.ones(10, 40, dtype=torch.bool))
