"""Samplers against fields whose solution is known."""

import pytest
import torch
from safetensors.torch import load_file

from more4d.diffusion.flow_matching import (
    SAMPLERS,
    batched_cfg_velocity,
    cfg_velocity,
    euler,
    guidance_cutoff_sigma,
    heun,
    reference_sampling_sigmas,
    sampling_sigmas,
)


def gaussian_velocity(noisy, sigma):
    """Exact field when the data are N(0, 4): E[eps - z | z_sigma]."""
    level = sigma.view(-1, 1)
    return noisy * (level - 4 * (1 - level)) / (4 * (1 - level) ** 2 + level**2)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_straight_field_is_solved_in_one_step(name):
    noise, clean = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    result = SAMPLERS[name].integrate(lambda z, s: noise - clean, noise, sampling_sigmas(1, shift=5.0))
    assert torch.allclose(result, clean, atol=1e-6)


def test_gaussian_data_are_recovered():
    noise = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
    samples = euler(gaussian_velocity, noise, sampling_sigmas(200, shift=1.0))
    assert abs(float(samples.std()) - 2) < 0.05


def test_heun_is_closer_than_euler():
    noise = torch.ones(1, 1)
    errors = [
        abs(float(s(gaussian_velocity, noise, sampling_sigmas(12, shift=1.0))) - 2) for s in (euler, heun)
    ]
    assert errors[1] < errors[0] / 3


def test_increasing_levels_are_refused():
    with pytest.raises(ValueError, match="decreasing"):
        euler(gaussian_velocity, torch.ones(1, 1), torch.tensor([0.0, 1.0]))


def test_guidance_one_never_calls_the_unconditional_field():
    def forbidden(noisy, sigma):
        raise RuntimeError

    velocity = cfg_velocity(gaussian_velocity, forbidden, 1.0)
    assert torch.equal(
        velocity(torch.ones(1, 1), torch.ones(1)), gaussian_velocity(torch.ones(1, 1), torch.ones(1))
    )


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_field_is_asked_as_often_as_said(name):
    calls = []

    def counted(noisy, sigma):
        calls.append(sigma)
        return gaussian_velocity(noisy, sigma)

    SAMPLERS[name].integrate(counted, torch.ones(1, 1), sampling_sigmas(6, shift=3.0))
    assert len(calls) == SAMPLERS[name].calls(6)


def test_guidance_at_once_is_guidance_one_after_the_other():
    def told(noisy, sigma):
        return noisy * sigma.view(-1, 1) + 1

    def untold(noisy, sigma):
        return noisy - sigma.view(-1, 1)

    def both(noisy, sigma):
        half = len(noisy) // 2
        return torch.cat([untold(noisy[:half], sigma[:half]), told(noisy[half:], sigma[half:])])

    noisy, sigma = (
        torch.randn(3, 2, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0.2, 0.5, 0.9]),
    )
    apart, together = cfg_velocity(told, untold, 6.0), batched_cfg_velocity(both, told, 6.0)
    assert torch.equal(apart(noisy, sigma), together(noisy, sigma))


@pytest.mark.parametrize(("share", "guided_steps"), [(0.0, 10), (0.25, 8), (0.3, 7), (1.0, 0)])
def test_the_last_share_of_the_steps_goes_without_guidance(share, guided_steps):
    levels = sampling_sigmas(10, shift=5.0)
    asked = []

    def untold(noisy, sigma):
        asked.append(sigma)
        return torch.zeros_like(noisy)

    field = cfg_velocity(gaussian_velocity, untold, 2.0, cutoff_sigma=guidance_cutoff_sigma(levels, share))
    euler(field, torch.ones(1, 1), levels)
    assert torch.equal(torch.tensor([float(s) for s in asked]), levels[:guided_steps])


def test_guided_euler_agrees_with_the_reference(shared):
    tensors = load_file(shared / "conformance/flow_matching_a.safetensors")
    steps = int(tensors["inputs.steps"])
    cursor = {"cond": 0, "uncond": 0}

    def replay(which):
        def velocity(noisy, sigma):
            cursor[which] += 1
            return tensors[f"inputs.velocity_{which}"][cursor[which] - 1]

        return velocity

    sigmas = reference_sampling_sigmas(steps, shift=float(tensors["inputs.shift"]))
    result = euler(cfg_velocity(replay("cond"), replay("uncond"), 6.0), tensors["inputs.start"], sigmas)
    assert torch.allclose(result, tensors["outputs.euler_states"][-1], atol=2e-5)
