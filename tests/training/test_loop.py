"""Laws of the training loop, on a task that takes microseconds."""

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from more4d.foundation.errors import More4DError, WeightsError
from more4d.training.checkpoint import NAME
from more4d.training.config import LoopConfig
from more4d.training.loop import StepSampler, train
from more4d.training.optim import learning_rate
from more4d.training.task import Task

LOOP = LoopConfig(steps=8, batch_size=2, workers=0, save_every=3, log_every=2, precision="no", warmup_steps=2)


@dataclass(frozen=True)
class Points:
    values: torch.Tensor

    def to(self, device):
        return Points(self.values.to(device))


class Line(Dataset):
    def __getitem__(self, index):
        return torch.tensor([float(index % 7) / 7])


class FitLine(Task):
    name = "fit-line"

    def __init__(self, scale=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(1, 1)
        self.scale = scale

    def dataset(self):
        return Line()

    @staticmethod
    def collate(samples):
        return Points(torch.stack(samples))

    def forward(self, batch, generator):
        noise = 0.1 * torch.randn(batch.values.shape, generator=generator)
        return {"loss": self.scale * (self.layer(batch.values) - 2 * batch.values - noise).square().mean()}

    def export(self, folder, notes):
        return []


def trained(folder, config=LOOP):
    task = FitLine()
    train(task, config, folder)
    return torch.cat([p.detach().flatten() for p in task.parameters()])


def test_training_lowers_the_loss(tmp_path):
    task = FitLine()
    before = task(Points(torch.ones(4, 1)), torch.Generator().manual_seed(0))["loss"]
    train(task, replace(LOOP, steps=300, learning_rate=0.05, save_every=300), tmp_path)
    after = task(Points(torch.ones(4, 1)), torch.Generator().manual_seed(0))["loss"]
    assert after < 0.2 * before


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, monkeypatch):
    whole = trained(tmp_path / "whole")

    class Stop(Exception):
        pass

    forward = FitLine.forward
    calls = []

    def stopping(self, batch, generator):
        calls.append(1)
        if len(calls) == 6:
            raise Stop
        return forward(self, batch, generator)

    monkeypatch.setattr(FitLine, "forward", stopping)
    with pytest.raises(Stop):
        trained(tmp_path / "parts")
    monkeypatch.setattr(FitLine, "forward", forward)
    assert torch.equal(trained(tmp_path / "parts"), whole)


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = trained(tmp_path)
    stamp = (tmp_path / NAME).stat().st_mtime_ns
    assert torch.equal(trained(tmp_path), first)
    assert (tmp_path / NAME).stat().st_mtime_ns == stamp


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(More4DError, match="step 0 is nan"):
        train(FitLine(scale=float("nan")), LOOP, tmp_path)


def test_a_broken_checkpoint_is_named(tmp_path):
    trained(tmp_path)
    (tmp_path / NAME).write_bytes((tmp_path / NAME).read_bytes()[:200])
    with pytest.raises(WeightsError, match="cannot read checkpoint"):
        trained(tmp_path)


def test_ranks_share_the_batches_of_a_step_without_overlap():
    batches = [list(StepSampler(LOOP, 2, rank, 3)) for rank in range(3)]
    seen = [index for rank in batches for batch in rank for index in batch]
    assert sorted(seen) == list(range(2 * 3 * 2, 8 * 3 * 2))


def test_the_learning_rate_rises_then_falls():
    config = replace(LOOP, steps=100, warmup_steps=10)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[9] == max(rates) == config.learning_rate
    assert rates[-1] < 0.06 * config.learning_rate
    assert all(a < b for a, b in pairwise(rates[:10]))
    assert all(a > b for a, b in pairwise(rates[10:]))
