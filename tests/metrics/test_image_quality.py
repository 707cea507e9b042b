import math

import pytest
import torch
from jaxtyping import TypeCheckError

from more4d.files.image import load_image
from more4d.metrics.image_quality import psnr_db, ssim


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def halved(picture: torch.Tensor) -> torch.Tensor:
    height, width, channels = picture.shape
    return picture.reshape(height // 2, 2, width // 2, 2, channels).mean((1, 3))


@pytest.mark.parametrize(
    ("names", "plain", "after_halving", "tolerance"),
    [
        (("goldhill.gif", "goldhill_jpeg.gif"), 0.68237, 0.8202, 1e-4),
        (("I01.BMP", "i01_01_5.bmp"), 0.52707, 0.7820, 1e-4),
    ],
)
def test_ssim_is_that_of_the_reference_program(shared, names, plain, after_halving, tolerance):
    first, second = (load_image(shared / "data" / "ssim-reference" / name) for name in names)
    assert float(ssim(first, second)) == pytest.approx(plain, abs=tolerance)
    assert float(ssim(halved(first), halved(second))) == pytest.approx(after_halving, abs=tolerance)


def test_psnr_is_that_of_the_reference(shared):
    first, second = (
        load_image(shared / "data" / "ssim-reference" / name) for name in ("I01.BMP", "i01_01_5.bmp")
    )
    assert float(psnr_db(first, second)) == pytest.approx(21.0157, abs=1e-3)


def test_a_picture_is_like_itself():
    picture = noise(24, 30, 3)
    assert float(ssim(picture, picture)) == pytest.approx(1, abs=1e-5)
    assert float(psnr_db(picture, picture)) == math.inf


def test_likeness_is_mutual():
    first, second = noise(20, 20, 3), noise(20, 20, 3, seed=1)
    assert torch.equal(ssim(first, second), ssim(second, first))
    assert torch.equal(psnr_db(first, second), psnr_db(second, first))


def test_more_noise_is_less_alike():
    picture, change = noise(32, 32, 3) * 0.5 + 0.25, noise(32, 32, 3, seed=1) - 0.5
    values = [float(ssim(picture, (picture + strength * change))) for strength in (0.0, 0.1, 0.2, 0.4)]
    assert values == sorted(values, reverse=True) and values[-1] < 0.9 < values[1]


def test_unrelated_pictures_are_not_alike_and_negatives_are_opposite():
    picture = noise(40, 40, 3)
    assert abs(float(ssim(picture, noise(40, 40, 3, seed=1)))) < 0.1
    assert float(ssim(picture, 1 - picture)) < -0.5


def test_halving_the_error_adds_six_decibels():
    picture = torch.full((12, 12, 3), 0.5)
    far, near = psnr_db(picture, picture + 0.2), psnr_db(picture, picture + 0.1)
    assert float(near - far) == pytest.approx(20 * math.log10(2), abs=1e-4)
    assert float(near) == pytest.approx(20, abs=1e-4)


def test_a_batch_is_its_pictures_one_by_one():
    first, second = noise(2, 3, 16, 18, 3), noise(2, 3, 16, 18, 3, seed=1)
    for measure in (ssim, psnr_db):
        singly = torch.stack(
            [
                torch.stack([measure(a, b) for a, b in zip(x, y, strict=True)])
                for x, y in zip(first, second, strict=True)
            ]
        )
        torch.testing.assert_close(measure(first, second), singly)


def test_pictures_that_cannot_be_compared_are_refused():
    with pytest.raises((ValueError, TypeCheckError)):  # the second, where shapes are checked at run time
        psnr_db(noise(12, 12, 3), noise(1, 12, 3))
    with pytest.raises(ValueError, match="at least 11 x 11"):
        ssim(noise(10, 40, 3), noise(10, 40, 3))
