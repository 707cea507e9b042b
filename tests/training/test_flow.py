"""Laws of what flow-matching tasks do with latents before and after the network."""

import pytest
import torch

from more4d.foundation.errors import ConfigError
from more4d.training.generator import FlowOptions, add_noise, flow_losses, random_mask, zero_where


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_noised_latents_lie_on_the_line_from_clean_to_noise():
    clean = torch.randn(3, 2, 2, 2, 2, generator=generator())
    start = add_noise(clean, FlowOptions(), generator(1))
    # z_sigma = z + sigma (eps - z), and the target is eps - z
    expected = clean + start.sigma.view(-1, 1, 1, 1, 1) * start.target
    torch.testing.assert_close(start.noisy, expected)
    assert start.sigma.dtype == torch.float32


def test_the_same_generator_draws_the_same_noise():
    clean = torch.zeros(2, 1, 1, 1, 1)
    first, second = (add_noise(clean, FlowOptions(), generator(3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_things_happen_at_their_rate_and_never_at_none():
    assert 200 < int(random_mask(1000, 0.25, generator()).sum()) < 300
    assert not random_mask(1000, 0.0, generator()).any()
    assert random_mask(1000, 1.0, generator()).all()


def test_what_is_hit_becomes_zero_and_the_rest_stays():
    values = torch.ones(3, 2, 2)
    dropped = zero_where(values, torch.tensor([True, False, True]))
    assert dropped.flatten(1).sum(1).tolist() == [0, 4, 0]


def test_the_mean_over_samples_is_the_weighted_mean_over_the_batch():
    velocity, target = (torch.randn(3, 4, 2, 3, 3, generator=generator(s)) for s in (0, 1))
    weight = torch.rand(3, 1, 2, 3, 3, generator=generator(2))
    expected = (weight * (velocity - target).square()).sum() / (weight.sum() * 4)
    torch.testing.assert_close(flow_losses(velocity, target, weight, 0.0).mean(), expected)


def test_cells_of_no_weight_do_not_count():
    target = torch.zeros(1, 2, 3, 2, 2)
    velocity = target.clone()
    velocity[:, :, 2] = 1e3  # a frame that only pads
    weight = torch.ones(1, 1, 3, 2, 2)
    weight[:, :, 2] = 0
    for difference in (0.0, 0.5):
        assert float(flow_losses(velocity, target, weight, difference).mean()) == 0


def test_differences_are_those_of_neighbouring_frames():
    target = torch.zeros(1, 2, 3, 1, 1)
    constant = torch.ones_like(target)  # wrong everywhere, and equally so: all frames' differences are right
    channels = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1, 1).expand_as(target)
    weight = torch.ones(1, 1, 3, 1, 1)
    assert float(flow_losses(constant, target, weight, 1.0).mean()) == 0
    assert float(flow_losses(channels, target, weight, 1.0).mean()) == 0
    rising = torch.arange(3.0).view(1, 1, 3, 1, 1).expand_as(target)
    assert float(flow_losses(rising, target, weight, 1.0).mean()) == 1


@pytest.mark.parametrize(
    "wrong", [{"shift": 0.0}, {"density": "beta"}, {"text_dropout": 1.5}, {"difference": -0.1}]
)
def test_impossible_options_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        FlowOptions(**wrong)
