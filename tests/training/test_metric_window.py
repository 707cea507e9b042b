"""Laws of what is measured between two lines of the journal."""

import math

import pytest
import torch

from more4d.training.task import (
    BINS,
    NOISE_LEVELS,
    MetricWindow,
    StepMetrics,
    mean_per_sample,
    noise_levels,
    step_metrics,
)

NONE = torch.zeros(0, 2)


def window(*steps, levels=NONE, memory=1.0):
    whole = MetricWindow()
    for metrics in steps:
        whole.add(StepMetrics(metrics=metrics, noise_levels=levels), memory)
    return whole


def test_a_step_is_the_mean_of_its_parts_and_keeps_every_noise_level():
    parts = [
        {"loss": torch.tensor(1.0), NOISE_LEVELS: noise_levels(torch.tensor([0.1]), torch.tensor([5.0]))},
        {"loss": torch.tensor(3.0), NOISE_LEVELS: noise_levels(torch.tensor([0.9]), torch.tensor([7.0]))},
    ]
    step = step_metrics(parts)
    assert step.metrics == {"loss": 2.0}
    assert torch.equal(step.noise_levels, torch.tensor([[0.1, 5.0], [0.9, 7.0]]))
    assert step_metrics([{"loss": torch.tensor(1.0)}]).noise_levels.shape == (0, 2)


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_in_no_mean_and_is_counted(odd):
    whole = window({"loss": 1.0, "gate": odd}, {"loss": odd, "gate": odd}, {"loss": 3.0, "gate": odd})
    assert whole.means() == {"loss": 2.0}
    assert whole.not_finite() == {"loss": 1, "gate": 3}


def test_processes_count_alike_and_need_not_have_the_same_metrics():
    one = window({"loss": 1.0}, {"loss": 2.0}, memory=1.0)
    other = window({"loss": 3.0, "rare": 8.0}, {"loss": 6.0}, memory=2.5)
    whole = MetricWindow.merge([one, other])
    assert whole.means() == {"loss": 3.0, "rare": 8.0}
    assert whole.steps == 2 and whole.memory_gib == 2.5


def test_the_loss_of_a_noise_level_is_the_mean_over_its_bin():
    levels = torch.tensor([[0.0, 1.0], [0.05, 3.0], [0.55, 4.0], [1.0, 6.0], [0.95, 8.0], [0.3, math.nan]])
    one = window({"loss": 1.0}, levels=levels)
    whole = MetricWindow.merge([one, window({"loss": 1.0}, levels=torch.tensor([[0.51, 8.0]]))])
    expected = [None] * BINS
    expected[0], expected[5], expected[9] = 2.0, 6.0, 7.0
    assert whole.loss_per_noise_level() == expected
    assert sum(whole.samples_per_noise_level()) == 6


def test_means_per_sample_agree_with_the_loss_of_each_sample_alone():
    draw = torch.Generator().manual_seed(0)
    values = torch.rand(3, 4, 2, 5, 5, generator=draw)
    weight = torch.rand(3, 1, 2, 5, 5, generator=draw)
    alone = [(weight[i] * values[i]).sum() / (weight[i].sum() * 4) for i in range(3)]
    assert torch.allclose(mean_per_sample(values, weight), torch.stack(alone))
    one = torch.ones(1, 1, 1, 1, 1)
    assert torch.allclose(mean_per_sample(values, one), values.flatten(1).mean(1))
    assert torch.equal(mean_per_sample(values, 0 * one), torch.zeros(3))
