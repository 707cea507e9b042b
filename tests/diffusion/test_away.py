"""Guidance away from a known sample."""

import pytest
import torch

from more4d.diffusion.flow_matching import AWAY_BELOW, AWAY_FROM, FARTHEST, away_from, denoise, euler


def field(noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """The exact velocity of data that are nothing but 1.5."""
    return (noisy - 1.5) / sigma[:, None]


ONE_STEP = torch.tensor([0.6, 0.0])
STILL = torch.full((1, 8), 0.5)
NOISY = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("weight", [-1.0, -0.5, 0.5, 1.0])
def test_the_clean_estimate_is_extrapolated(weight: float) -> None:
    sigma = torch.tensor([0.6])
    clean = denoise(NOISY, away_from(field, STILL, weight, ONE_STEP)(NOISY, sigma), sigma)
    assert torch.allclose(clean, torch.full_like(clean, 0.5 + (1 + weight) * 1.0), atol=1e-5)


def test_it_is_equation_three_with_the_closed_form_of_the_still_field() -> None:
    sigma, weight = torch.tensor([0.6]), 0.7
    plain = field(NOISY, sigma)
    still = (NOISY - STILL) / sigma
    guided = away_from(field, STILL, weight, ONE_STEP)(NOISY, sigma)
    assert torch.allclose(guided, plain + weight * (plain - still), atol=1e-5)


@pytest.mark.parametrize("sigma", [AWAY_FROM - 0.01, AWAY_BELOW + 0.01])
def test_the_first_and_last_steps_are_plain(sigma: float) -> None:
    level = torch.tensor([sigma])
    levels = torch.tensor([1.0, AWAY_BELOW + 0.01, 0.6, AWAY_FROM - 0.01, 0.0])
    assert torch.equal(away_from(field, STILL, 1.0, levels)(NOISY, level), field(NOISY, level))


def test_no_weight_is_the_field_itself() -> None:
    assert away_from(field, STILL, 0.0, ONE_STEP) is field


def test_it_is_bounded() -> None:
    sigma = torch.tensor([0.6])
    clean = denoise(NOISY, away_from(field, STILL, 30.0, ONE_STEP)(NOISY, sigma), sigma)
    assert float((clean - STILL).abs().max()) <= FARTHEST + 1e-5


@pytest.mark.parametrize("weight", [-1.0, -0.5, 0.5, 1.0])
@pytest.mark.parametrize("steps", [2, 8, 40])
def test_the_effect_does_not_depend_on_the_number_of_steps(weight: float, steps: int) -> None:
    # Data of a wide normal distribution about the still sample: the network follows what it sees.
    deviation = 100.0

    def wide(noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        share = (1 - sigma) * deviation**2 / (((1 - sigma) * deviation) ** 2 + sigma**2)
        clean = STILL + share[:, None] * (noisy - (1 - sigma)[:, None] * STILL)
        return (noisy - clean) / sigma[:, None]

    even = torch.linspace(1, 0, steps + 1)
    sigmas = 4 * even / (1 + 3 * even)
    start = 0.01 * NOISY  # so little that the bound is not met
    plain = euler(wide, start, sigmas) - STILL
    guided = euler(away_from(wide, STILL, weight, sigmas), start, sigmas) - STILL
    assert torch.allclose(guided, (1 + weight) * plain, atol=0.05 * float(plain.abs().max()))


def test_a_single_step_is_guided_too() -> None:
    sigmas = torch.tensor([1.0, 0.0])
    clean = euler(away_from(field, STILL, 1.0, sigmas), NOISY, sigmas)
    assert torch.allclose(clean, torch.full_like(clean, 0.5 + 2.0), atol=1e-5)
