"""UniPC against diffusers' own and against a field whose solution is known."""

import pytest
import torch
from diffusers import UniPCMultistepScheduler

from more4d.diffusion.flow_matching import (
    SAMPLERS,
    euler,
    reference_sampling_sigmas,
    sampling_sigmas,
    shift_sigma,
    unipc,
)
from more4d.foundation.errors import ConfigError
from tests.diffusion.test_sampler import gaussian_velocity


def wavy_velocity(noisy, sigma):
    """A field without symmetry, so that no mistake cancels."""
    level = sigma.view(-1, 1)
    return torch.sin(3 * noisy) + noisy * level - torch.cos(5 * level) + 0.3 * noisy.roll(1, dims=1)


def twin(velocity, noise, steps: int, shift: float):
    """diffusers' UniPC on equal parts of [1, 0], shifted; it begins a millionth below 1."""
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, solver_order=2
    )
    scheduler.set_timesteps(sigmas=torch.linspace(1, 0, steps + 1)[:-1].double().numpy())
    latents = noise
    for index, timestep in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[index].float().expand(len(latents))
        latents = scheduler.step(velocity(latents, sigma), timestep, latents).prev_sample
    return latents


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 20])
@pytest.mark.parametrize("shift", [1.0, 5.0])
@pytest.mark.parametrize("velocity", [gaussian_velocity, wavy_velocity])
def test_the_twin_of_diffusers_comes_out(velocity, shift, steps):
    noise = torch.randn(2, 7, generator=torch.Generator().manual_seed(0))
    ours = unipc(velocity, noise, sampling_sigmas(steps, shift=shift))
    assert torch.allclose(ours, twin(velocity, noise, steps, shift), atol=2e-4)


def test_halving_the_steps_length_quarters_the_error():
    noise = torch.ones(1, 1, dtype=torch.float64)
    errors = []
    for steps in (20, 40, 80):
        levels = shift_sigma(torch.linspace(1, 0, steps + 1, dtype=torch.float64), 2.0)
        errors.append(abs(float(unipc(gaussian_velocity, noise, levels)) - 2))
    assert errors[0] / errors[1] > 3 and errors[1] / errors[2] > 3


def test_unipc_is_closer_than_euler_with_as_many_calls():
    calls = []

    def counted(noisy, sigma):
        calls.append(sigma)
        return gaussian_velocity(noisy, sigma)

    noise, levels = torch.ones(1, 1), sampling_sigmas(12, shift=1.0)
    error = abs(float(unipc(counted, noise, levels)) - 2)
    assert len(calls) == 12 == SAMPLERS["unipc"].calls(12)
    assert error < abs(float(euler(gaussian_velocity, noise, levels)) - 2) / 5


@pytest.mark.parametrize("levels", [sampling_sigmas(6, shift=5.0), reference_sampling_sigmas(6, shift=5.0)])
def test_the_levels_asked_are_the_levels_given(levels):
    asked = []

    def noted(noisy, sigma):
        asked.append(sigma)
        return noisy

    unipc(noted, torch.ones(1, 1), levels)
    assert torch.equal(torch.cat(asked), levels[:-1])


def test_a_walk_may_stop_above_zero():
    noise = torch.ones(1, 1)
    levels = torch.linspace(1, 0.4, 41)
    exact = (4 * 0.6**2 + 0.4**2) ** 0.5
    assert abs(float(unipc(gaussian_velocity, noise, levels)) - exact) < 2e-3


def test_levels_that_cannot_be_told_from_1_are_refused_in_one_line():
    noise = torch.ones(1, 1)
    assert unipc(gaussian_velocity, noise, sampling_sigmas(20, shift=1e4)).isfinite().all()
    with pytest.raises(ConfigError, match="take a smaller shift"):
        unipc(gaussian_velocity, noise, sampling_sigmas(20, shift=1e5))
