"""Samplers against fields whose solution is known."""

import pytest
import torch
from safetensors.torch import load_file

from more4d.diffusion.guidance import guided
from more4d.diffusion.sampler import SAMPLERS, euler, heun
from more4d.diffusion.timesteps import published_sampling_sigmas, sampling_sigmas


def gaussian_velocity(noisy, sigma):
    """Exact field when the data are N(0, 4): E[eps - z | z_sigma]."""
    level = sigma.view(-1, 1)
    return noisy * (level - 4 * (1 - level)) / (4 * (1 - level) ** 2 + level**2)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_straight_field_is_solved_in_one_step(name):
    noise, clean = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    result = SAMPLERS[name](lambda z, s: noise - clean, noise, sampling_sigmas(1, shift=5.0))
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

    velocity = guided(gaussian_velocity, forbidden, 1.0)
    assert torch.equal(
        velocity(torch.ones(1, 1), torch.ones(1)), gaussian_velocity(torch.ones(1, 1), torch.ones(1))
    )


def test_guided_euler_agrees_with_the_reference(shared):
    tensors = load_file(shared / "conformance/flow_matching_a.safetensors")
    steps = int(tensors["inputs.steps"])
    cursor = {"cond": 0, "uncond": 0}

    def replay(which):
        def velocity(noisy, sigma):
            cursor[which] += 1
            return tensors[f"inputs.velocity_{which}"][cursor[which] - 1]

        return velocity

    sigmas = published_sampling_sigmas(steps, shift=float(tensors["inputs.shift"]))
    result = euler(guided(replay("cond"), replay("uncond"), 6.0), tensors["inputs.start"], sigmas)
    assert torch.allclose(result, tensors["outputs.euler_states"][-1], atol=2e-5)
