import pytest
import torch
from torch import nn

from more4d.diffusion.timesteps import published_sampling_sigmas, sampling_sigmas
from more4d.networks.interface import ViSMConditions
from more4d.pipelines.preset import Sampling
from more4d.pipelines.sampling import draw, sigmas_of, standard_noise


class Toward(nn.Module):
    """The velocity that leads to a constant, which the text decides."""

    def forward(self, noisy, sigma, conditions):
        target = conditions.text.mean()
        return (noisy - target) / sigma.view(-1, 1, 1, 1, 1)


def conditions(value: float) -> ViSMConditions:
    latents = torch.zeros(1, 16, 2, 3, 4)
    return ViSMConditions(known_latents=latents, known_mask=latents[:, :4], text=torch.full((1, 2, 3), value))


@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_draws_what_the_network_leads_to(sampler):
    noise = standard_noise(1, 16, 2, 3, 4, generator=torch.Generator().manual_seed(0), like=torch.zeros(1))

    def never():
        raise AssertionError

    steps = []
    drawn = draw(
        Toward(),
        Sampling(steps=4, sampler=sampler),
        noise,
        conditional=conditions(2.0),
        unconditional=never,
        on_step=lambda: steps.append(1),
    )
    assert torch.allclose(drawn, torch.full_like(drawn, 2.0), atol=1e-5)
    assert len(steps) == 4


def test_guidance_goes_beyond_the_condition():
    noise = torch.zeros(1, 16, 2, 3, 4)
    drawn = draw(
        Toward(),
        Sampling(steps=1, guidance=3.0),
        noise,
        conditional=conditions(2.0),
        unconditional=lambda: conditions(1.0),
    )
    assert torch.allclose(drawn, torch.full_like(drawn, 4.0))


def test_the_schedule_is_the_one_named():
    assert torch.equal(sigmas_of(Sampling(steps=5, shift=3.0)), sampling_sigmas(5, shift=3.0))
    published = sigmas_of(Sampling(steps=5, shift=3.0, schedule="published"))
    assert torch.equal(published, published_sampling_sigmas(5, shift=3.0))
