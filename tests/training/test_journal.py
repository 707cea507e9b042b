"""Laws of what is written down of a training."""

import sys
from dataclasses import replace

import pytest

from more4d.foundation.errors import MissingPackageError
from more4d.training.journal import NAME, Journal, read_journal
from tests.training.fit_line import LOOP

CONFIG = replace(LOOP, steps=8, log_every=2)


def write(folder, steps, start=0, show=True):
    journal = Journal(CONFIG, folder, start, samples=6, show=show)
    for step in steps:
        journal.note(step, {"loss": float(step)}, memory_gib=1.5)
    journal.close()


def test_a_line_holds_the_means_of_its_steps(tmp_path):
    write(tmp_path, range(4))
    lines = read_journal(tmp_path)
    assert [(line["step"], line["loss"], line["memory_gib"]) for line in lines] == [
        (2, 0.5, 1.5),
        (4, 2.5, 1.5),
    ]
    assert all(line["samples_per_s"] > 0 for line in lines)


def test_a_run_that_goes_on_writes_no_step_twice(tmp_path):
    write(tmp_path, range(6))
    with (tmp_path / NAME).open("a") as file:
        file.write('{"step": 8, "lo')  # killed here
    write(tmp_path, range(3, 8), start=3)
    assert [line["step"] for line in read_journal(tmp_path)] == [2, 4, 6, 8]


def test_only_one_process_writes(tmp_path):
    write(tmp_path, range(4), show=False)
    assert read_journal(tmp_path) == []


def test_what_is_not_installed_is_named_with_the_way_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingPackageError, match=r"pip install '\.\[wandb\]'"):
        Journal(replace(CONFIG, wandb="project"), tmp_path, 0, samples=1, show=True)
