"""Laws of bad samples in a training: named, counted, bounded."""

import logging
from dataclasses import replace
from multiprocessing import active_children

import pytest
import torch

from more4d.files.atomic import read_json_lines
from more4d.foundation.errors import ConfigError, More4DError
from more4d.training.batches import BAD_SAMPLES, MAX_NAMED, MIN_SEEN, describe_batch
from more4d.training.checkpoint import CheckpointFolder
from more4d.training.journal import read_journal
from more4d.training.loop import train
from tests.training.fit_line import LOOP, FitLine, Line, Points, trained_parameters

SOME = replace(LOOP, max_bad_fraction=3 / MIN_SEEN)
"""Three bad samples of the first MIN_SEEN are allowed."""


def named(folder):
    return [line["sample"].split(":")[0] for line in read_json_lines(folder / BAD_SAMPLES)]


@pytest.mark.parametrize("workers", [0, 1])
def test_at_first_the_first_bad_sample_stops_the_run_and_is_named(tmp_path, workers):
    with pytest.raises(
        More4DError, match=r"1 of 4 samples are bad.*max_bad_fraction.*point-3\.txt is damaged$"
    ):
        train(FitLine(bad=(3,)), replace(LOOP, workers=workers), tmp_path)
    assert not CheckpointFolder(tmp_path).steps()


class UnequalPoints(Line):
    """Samples that make no batch."""

    def __getitem__(self, index):
        return Points(torch.zeros(1, 1 + index))


class FitUnequal(FitLine):
    def dataset(self):
        return UnequalPoints()


def test_no_worker_outlives_an_error_that_it_raised(tmp_path):
    """They ignore SIGTERM: a process that waits for them at its end would never end."""
    before = active_children()
    with pytest.raises(RuntimeError, match="Sizes of tensors must match") as raised:
        train(FitUnequal(), replace(LOOP, workers=1), tmp_path)
    assert raised.traceback  # which holds the iterator over the batches
    assert [each for each in active_children() if each not in before] == []


def test_some_bad_samples_are_borne_named_once_and_told_in_the_journal(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "more4d")
    assert train(FitLine(bad=(2, 3, 9)), SOME, tmp_path)
    assert named(tmp_path) == ["sample 2", "sample 3", "sample 9"]
    assert [record.message for record in caplog.records] == [
        f"bad sample {index}: point-{index}.txt is damaged" for index in (2, 3, 9)
    ]
    assert [line["bad_samples"] for line in read_journal(tmp_path)] == [2, 2, 3, 3]


def test_one_bad_sample_too_many_stops_the_run_and_the_last_are_named(tmp_path):
    bad = (0, 2, 3, 9)
    with pytest.raises(More4DError, match=r"step 4: 4 of 10 samples.*0\.03") as raised:
        train(FitLine(bad=bad), SOME, tmp_path)
    assert all(f"point-{index}.txt" in str(raised.value) for index in bad)
    with pytest.raises(More4DError) as raised:
        train(FitLine(bad=range(16)), replace(LOOP, max_bad_fraction=7 / MIN_SEEN), tmp_path / "more")
    assert str(raised.value).count("is damaged") == MAX_NAMED


def test_the_more_samples_have_been_seen_the_more_may_be_bad(tmp_path):
    config = replace(LOOP, steps=1, batch_size=MIN_SEEN * 2, max_bad_fraction=3 / MIN_SEEN)
    assert train(FitLine(bad=range(6)), config, tmp_path / "six")
    with pytest.raises(More4DError, match=f"7 of {2 * MIN_SEEN} samples are bad"):
        train(FitLine(bad=range(7)), config, tmp_path / "seven")


def test_bad_samples_count_over_restarts_and_those_of_steps_taken_again_once(tmp_path, monkeypatch):
    bad, forward, calls = (1, 7, 8), FitLine.forward, []

    class Stop(Exception):
        pass

    def stopping(self, batch, generator):
        calls.append(1)
        if len(calls) == 6:
            raise Stop
        return forward(self, batch, generator)

    monkeypatch.setattr(FitLine, "forward", stopping)
    with pytest.raises(Stop):
        train(FitLine(bad=bad), SOME, tmp_path)  # the checkpoint is of step 3: samples 0 to 5
    assert named(tmp_path) == ["sample 1", "sample 7", "sample 8"]
    monkeypatch.setattr(FitLine, "forward", forward)
    assert train(FitLine(bad=bad), SOME, tmp_path)
    assert named(tmp_path) == ["sample 1", "sample 7", "sample 8"]
    assert read_journal(tmp_path)[-1]["bad_samples"] == 3


def test_a_run_with_bad_samples_is_the_same_run_every_time(tmp_path):
    weights = []
    for name in ("one", "other"):
        train(FitLine(bad=(2, 5)), SOME, tmp_path / name)
        weights.append(torch.cat([p.flatten() for p in trained_parameters(tmp_path / name).values()]))
    assert torch.equal(*weights)


def test_a_run_where_nothing_can_be_read_stops_whatever_is_allowed(tmp_path):
    class Everything:
        def __contains__(self, index):
            return True

    with pytest.raises(More4DError, match="no sample could stand in for a bad one"):
        train(FitLine(bad=Everything()), replace(LOOP, max_bad_fraction=0.99), tmp_path)


def test_other_errors_of_a_data_set_are_not_tolerated(tmp_path, monkeypatch):
    def faulty(self, index):
        raise ValueError("a fault of the program")

    monkeypatch.setattr(Line, "__getitem__", faulty)
    with pytest.raises(ValueError, match="a fault of the program"):
        train(FitLine(), replace(LOOP, max_bad_fraction=0.5), tmp_path)


def test_a_batch_size_that_does_not_fit_the_groups_of_the_data_is_refused(tmp_path):
    class Grouped(Line):
        group = 3

    class Task(FitLine):
        def dataset(self):
            return Grouped()

    with pytest.raises(ConfigError, match="batch_size 2 does not divide the 3"):
        train(Task(), LOOP, tmp_path)
    assert train(Task(), replace(LOOP, batch_size=3, steps=2), tmp_path)


def test_a_batch_is_described_by_names_before_captions():
    class Told:
        names, captions = (), ("a dog runs", "")

    assert describe_batch(Told()) == "a dog runs; (no caption)"
    Told.names = ("clip-1", "clip-2")
    assert describe_batch(Told()) == "clip-1; clip-2"
    assert describe_batch(object()) == "object"
