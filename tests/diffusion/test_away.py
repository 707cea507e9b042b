"""Guidance away from a known sample."""

import pytest
import torch

from more4d.diffusion.flow_matching import AWAY_BELOW, AWAY_FROM, FARTHEST, away_from, denoise


def field(noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """The exact velocity of data that are nothing but 1.5."""
    return (noisy - 1.5) / sigma[:, None]


STILL = torch.full((1, 8), 0.5)
NOISY = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("weight", [-1.0, -0.5, 0.5, 1.0])
def test_the_clean_estimate_is_extrapolated(weight: float) -> None:
    sigma = torch.tensor([0.6])
    clean = denoise(NOISY, away_from(field, STILL, weight)(NOISY, sigma), sigma)
    assert torch.allclose(clean, torch.full_like(clean, 0.5 + (1 + weight) * 1.0), atol=1e-5)


def test_it_is_equation_three_with_the_closed_form_of_the_still_field() -> None:
    sigma, weight = torch.tensor([0.6]), 0.7
    plain = field(NOISY, sigma)
    still = (NOISY - STILL) / sigma
    guided = away_from(field, STILL, weight)(NOISY, sigma)
    assert torch.allclose(guided, plain + weight * (plain - still), atol=1e-5)


@pytest.mark.parametrize("sigma", [AWAY_FROM - 0.01, AWAY_BELOW + 0.01])
def test_the_first_and_last_steps_are_plain(sigma: float) -> None:
    level = torch.tensor([sigma])
    assert torch.equal(away_from(field, STILL, 1.0)(NOISY, level), field(NOISY, level))


def test_no_weight_is_the_field_itself() -> None:
    assert away_from(field, STILL, 0.0) is field


def test_it_is_bounded() -> None:
    sigma = torch.tensor([0.6])
    clean = denoise(NOISY, away_from(field, STILL, 30.0)(NOISY, sigma), sigma)
    assert float((clean - STILL).abs().max()) <= FARTHEST + 1e-5
