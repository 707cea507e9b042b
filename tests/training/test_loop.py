"""Laws of the training loop, on a task that takes microseconds."""

import os
import signal
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from more4d.files.image import load_image
from more4d.foundation.errors import ConfigError, More4DError, WeightsError
from more4d.training.batches import step_indices
from more4d.training.checkpoint import CheckpointFolder, load_trained
from more4d.training.loop import train
from more4d.training.optim import build_optimiser, learning_rate, set_learning_rate
from tests.training.fit_line import LOOP, FitLine, Points, trained_parameters


def trained(folder, config=LOOP):
    assert train(FitLine(), config, folder)
    return torch.cat([p.flatten() for p in trained_parameters(folder).values()])


def test_training_lowers_the_loss(tmp_path):
    task = FitLine().eval()
    batch, seed = Points(torch.linspace(0, 1, 8)[:, None]), torch.Generator()
    before = task(batch, seed.manual_seed(0))["loss"]
    train(FitLine(), replace(LOOP, steps=300, learning_rate=0.05, save_every=300), tmp_path)
    load_trained(CheckpointFolder(tmp_path), task)
    assert task(batch, seed.manual_seed(0))["loss"] < 0.2 * before


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_stop_saves_that_step_and_goes_on_from_it(tmp_path, monkeypatch, number):
    whole = trained(tmp_path / "whole")
    forward = FitLine.forward
    calls = []

    def asked(self, batch, generator):
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), number)
        return forward(self, batch, generator)

    monkeypatch.setattr(FitLine, "forward", asked)
    before = signal.getsignal(number)
    assert not train(FitLine(), LOOP, tmp_path / "parts")
    assert signal.getsignal(number) == before
    assert CheckpointFolder(tmp_path / "parts").steps() == [3, 5]
    monkeypatch.setattr(FitLine, "forward", forward)
    assert torch.equal(trained(tmp_path / "parts"), whole)


@pytest.mark.parametrize("known", [False, True])
def test_bfloat16_on_a_processor_without_it_is_said(tmp_path, monkeypatch, caplog, known):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bw": known})
    trained(tmp_path / "float32", replace(LOOP, precision="no"))
    assert not caplog.text
    trained(tmp_path / "bfloat16", replace(LOOP, precision="bf16"))
    assert caplog.text.count("loop.precision=no") == (not known)


def test_a_run_leaves_its_curves_beside_its_checkpoints(tmp_path):
    trained(tmp_path)
    for name in ("loss.png", "loss_per_noise_level.png"):
        assert float(load_image(tmp_path / name).min()) < 0.3


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = trained(tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert torch.equal(trained(tmp_path), first)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == stamps


def test_a_loss_that_is_not_finite_stops_the_run_before_the_update(tmp_path):
    task = FitLine(scale=float("nan"))
    before = [p.clone() for p in task.parameters()]
    with pytest.raises(More4DError, match="step 0 is nan"):
        train(task, LOOP, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(before, task.parameters(), strict=True))
    assert not CheckpointFolder(tmp_path).steps()


def test_a_broken_newest_checkpoint_costs_only_its_steps(tmp_path):
    whole = trained(tmp_path)
    newest = max(tmp_path.glob("step-*"))
    (part,) = newest.glob("part-*")
    part.write_bytes(part.read_bytes()[:200])
    assert torch.equal(trained(tmp_path), whole)


def test_a_run_never_starts_over_because_all_its_checkpoints_are_broken(tmp_path):
    trained(tmp_path)
    for facts in tmp_path.glob("step-*/state.json"):
        facts.unlink()
    with pytest.raises(WeightsError, match="none of the 2 checkpoints"):
        trained(tmp_path)


def test_a_checkpoint_without_an_average_is_not_gone_on_from_with_one(tmp_path):
    trained(tmp_path)
    with pytest.raises(WeightsError, match="another output folder"):
        trained(tmp_path, replace(LOOP, ema_decay=0.0))


def test_a_checkpoint_of_other_sizes_is_refused(tmp_path):
    trained(tmp_path)
    task = FitLine()
    task.layer[3] = torch.nn.Linear(6, 2)
    with pytest.raises(WeightsError, match=r"shape \(1, 6\), not \(2, 6\)"):
        train(task, LOOP, tmp_path)


def test_changed_settings_are_noticed(tmp_path):
    train(FitLine(), LOOP, tmp_path, settings={"loop.seed": "0"})
    with pytest.raises(ConfigError, match=r"begun with loop\.seed=0, not 9"):
        train(FitLine(), LOOP, tmp_path, settings={"loop.seed": "9"})


def test_fewer_steps_than_were_taken_are_refused(tmp_path):
    trained(tmp_path)
    with pytest.raises(ConfigError, match=r"step 8 already, beyond loop\.steps=5"):
        trained(tmp_path, replace(LOOP, steps=5))


def test_a_gradient_that_is_not_finite_never_reaches_a_checkpoint(tmp_path):
    class Steep(FitLine):
        def forward(self, batch, generator):
            loss = super().forward(batch, generator)["loss"]
            return {"loss": loss + torch.sqrt(0 * self.layer[0].weight).sum()}  # 0, with an infinite slope

    with pytest.raises(More4DError, match="gradient at step 0 is"):
        train(Steep(), LOOP, tmp_path)
    assert not CheckpointFolder(tmp_path).steps()


def test_without_an_average_the_weights_themselves_are_kept(tmp_path):
    with_average = trained(tmp_path / "with")
    without = trained(tmp_path / "without", replace(LOOP, ema_decay=0.0))
    assert not torch.equal(with_average, without)


def test_parts_of_a_step_give_the_gradient_of_the_whole(tmp_path):
    """Two parts of one sample take the step that one part of two samples takes, noise and dropout aside."""

    class Plain(FitLine):
        def forward(self, batch, generator):
            self.layer.eval()
            return {"loss": (self.layer(batch.values) - 2 * batch.values).square().mean()}

    weights = []
    for parts in (1, 2):
        folder = tmp_path / str(parts)
        train(Plain(), replace(LOOP, steps=3, batch_size=2 // parts, accumulate=parts), folder)
        weights.append(torch.cat([p.flatten() for p in trained_parameters(folder).values()]))
    assert torch.allclose(*weights, atol=1e-6)


def test_ranks_share_the_batches_of_a_step_without_overlap():
    config = replace(LOOP, accumulate=2)
    batches = [list(step_indices(config, 2, rank, 3)) for rank in range(3)]
    assert {len(rank) for rank in batches} == {(8 - 2) * 2}
    seen = [index for rank in batches for batch in rank for index in batch]
    per_step = 2 * 3 * config.batch_size
    assert sorted(seen) == list(range(2 * per_step, 8 * per_step))


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_learning_rate_rises_then_falls(schedule):
    config = replace(LOOP, steps=100, warmup_steps=10, schedule=schedule)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[9] == max(rates) == config.learning_rate
    assert rates[-1] < 0.07 * config.learning_rate
    assert all(a < b for a, b in pairwise(rates[:10]))
    assert all(a > b for a, b in pairwise(rates[10:]))


def test_modules_learn_at_their_own_rates_and_biases_are_not_decayed():
    config = replace(
        LOOP, lr_multipliers={"layer": 0.5, "layer.3": 0.1}, schedule="constant", weight_decay=0.3
    )
    task = FitLine()
    optimiser = build_optimiser(task, config)
    set_learning_rate(optimiser, 5, config)
    found = {
        p: (group["lr"], group["weight_decay"]) for group in optimiser.param_groups for p in group["params"]
    }
    assert found[task.layer[0].weight] == (pytest.approx(5e-4), 0.3)
    assert found[task.layer[3].bias] == (pytest.approx(1e-4), 0.0)
    assert task.frozen.weight not in found


def test_a_rate_for_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"begins with 'decoder'; there are layer"):
        build_optimiser(FitLine(), replace(LOOP, lr_multipliers={"decoder": 2.0}))
