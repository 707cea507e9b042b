"""Laws of what is written down of a training."""

import logging
import math
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from more4d.foundation.errors import MissingPackageError
from more4d.training import journal as journal_module
from more4d.training.journal import NAME, Journal, read_journal
from more4d.training.task import BINS, StepMetrics
from tests.training.fit_line import LOOP

CONFIG = replace(LOOP, steps=8, log_every=2)


def alone(window):
    return [window]


def write(folder, steps, *, start=0, show=True, value=float, config=CONFIG, gather=alone, levels=()):
    journal = Journal(config, folder, start, samples=6, show=show, gather=gather)
    noise = torch.tensor(levels).reshape(-1, 2)
    for step in steps:
        seen = StepMetrics(metrics={"loss": value(step)}, noise_levels=noise)
        journal.record(step, seen, memory_gib=1.5, bad=3)
    journal.close()


def test_a_line_holds_the_means_of_its_steps(tmp_path):
    write(tmp_path, range(4))
    lines = read_journal(tmp_path)
    assert [(line["step"], line["loss"], line["memory_gib"], line["bad_samples"]) for line in lines] == [
        (2, 0.5, 1.5, 3),
        (4, 2.5, 1.5, 3),
    ]
    assert all(line["samples_per_s"] > 0 for line in lines)


def test_a_line_holds_the_learning_rate_of_its_last_step(tmp_path):
    write(tmp_path, range(4), config=replace(CONFIG, warmup_steps=4, learning_rate=1.0))
    assert [line["learning_rate"] for line in read_journal(tmp_path)] == [0.5, 1.0]


def test_the_last_steps_are_told_however_many_they_are(tmp_path):
    write(tmp_path, range(8), config=replace(CONFIG, log_every=5))
    assert [(line["step"], line["loss"]) for line in read_journal(tmp_path)] == [(5, 2.0), (8, 6.0)]


def test_what_is_not_finite_is_counted_and_not_taken_for_nothing(tmp_path):
    write(tmp_path, range(4), value=lambda step: math.nan if step in (1, 2, 3) else 5.0)
    first, second = read_journal(tmp_path)
    assert first["loss"] == 5.0 and first["loss_not_finite"] == 1
    assert "loss" not in second and second["loss_not_finite"] == 2


def test_means_are_over_all_processes(tmp_path):
    def gather(window):
        other = replace(
            window, sums={"loss": 100.0}, counts={"loss": 2}, non_finite={"loss": 0}, memory_gib=9.0
        )
        return [window, other]

    write(tmp_path, range(2), gather=gather)
    (line,) = read_journal(tmp_path)
    assert line["loss"] == (0 + 1 + 100) / 4 and line["memory_gib"] == 9.0


def test_the_loss_per_noise_level_is_written_where_a_task_tells_it(tmp_path):
    write(tmp_path, range(2), levels=[[0.05, 2.0], [0.95, 4.0]])
    (line,) = read_journal(tmp_path)
    assert line["loss_per_noise_level"] == [2.0, *[None] * (BINS - 2), 4.0]
    assert line["samples_per_noise_level"] == [2, *[0] * (BINS - 2), 2]
    write(tmp_path / "other", range(2))
    assert "loss_per_noise_level" not in read_journal(tmp_path / "other")[0]


def test_a_run_that_goes_on_writes_no_step_twice(tmp_path):
    write(tmp_path, range(6))
    with (tmp_path / NAME).open("a") as file:
        file.write('{"step": 8, "lo')  # killed here
    write(tmp_path, range(3, 8), start=3)
    assert [line["step"] for line in read_journal(tmp_path)] == [2, 4, 6, 8]


def test_only_one_process_writes_but_all_are_asked(tmp_path):
    asked = []
    write(tmp_path, range(4), show=False, gather=lambda window: asked.append(1) or [window])
    assert read_journal(tmp_path) == [] and len(asked) == 2


def test_without_a_terminal_every_mean_is_a_line_with_the_time_left(tmp_path, caplog):
    caplog.set_level(logging.INFO, "more4d")
    write(tmp_path, range(8))
    lines = [record.message for record in caplog.records]
    assert len(lines) == 4
    for words in (
        "step 4 of 8",
        "loss 2.5",
        "learning rate",
        "samples/s",
        "1.50 GiB",
        "3 bad samples",
        "left",
    ):
        assert words in lines[1]


def test_on_a_terminal_there_is_a_bar_in_place_of_lines(tmp_path, caplog, monkeypatch, capsys):
    caplog.set_level(logging.INFO, "more4d")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    write(tmp_path, range(8))
    assert not caplog.records
    bar = capsys.readouterr().err
    assert "8/8" in bar and "loss 6.5" in bar and "samples/s" in bar and "left" in bar


def test_the_time_left_is_that_of_the_steps_to_come(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "more4d")
    now = [0.0]
    monkeypatch.setattr(journal_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    journal = Journal(CONFIG, tmp_path, 4, samples=6, show=True, gather=alone)
    for step in (4, 5):
        now[0] += 45.0
        seen = StepMetrics(metrics={"loss": 1.0}, noise_levels=torch.zeros(0, 2))
        journal.record(step, seen, memory_gib=1.0, bad=0)
    journal.close()
    assert "01:30 left" in caplog.records[0].message  # two more steps
    assert read_journal(tmp_path)[0]["samples_per_s"] == 6 / 45


def test_curves_are_drawn_at_the_end_and_now_and_then_before(tmp_path, monkeypatch):
    now, path = [0.0], tmp_path / "loss.png"
    monkeypatch.setattr(journal_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    journal = Journal(CONFIG, tmp_path, 0, samples=6, show=True, gather=alone)
    for seconds, last, drawn in ((10, False, False), (61, False, True), (70, False, False), (71, True, True)):
        now[0] = seconds
        for step in (0, 1):
            now[0] += 0.1
            seen = StepMetrics(metrics={"loss": 1.0}, noise_levels=torch.zeros(0, 2))
            journal.record(step, seen, memory_gib=1.0, bad=0)
        path.unlink(missing_ok=True)
        journal.draw(last=last)
        assert path.exists() == drawn
    journal.close()


def test_what_is_not_installed_is_named_with_the_way_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingPackageError, match=r"pip install '\.\[wandb\]'"):
        Journal(replace(CONFIG, wandb="project"), tmp_path, 0, samples=1, show=True, gather=alone)
