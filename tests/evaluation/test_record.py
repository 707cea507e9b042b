"""Laws of what is kept of a measurement."""

import math

from more4d.evaluation.record import Record, mean, median, plain, ratio


def test_what_was_measured_is_there_after_a_stop(tmp_path):
    path = tmp_path / "tracks.jsonl"
    Record(path, ["weights"]).add(3, {"errors": {"near": 1.5, "far": math.nan}})
    again = Record(path, ["weights"])
    assert again.get(3) == {"item": 3, "errors": {"near": 1.5, "far": None}}
    assert again.get(4) is None


def test_other_weights_begin_anew(tmp_path):
    path = tmp_path / "tracks.jsonl"
    Record(path, ["weights"]).add(0, {"value": 1})
    assert Record(path, ["other weights"]).get(0) is None
    assert Record(path, ["weights"]).get(0) is None


def test_a_line_that_a_kill_cut_short_is_measured_again(tmp_path):
    path = tmp_path / "tracks.jsonl"
    record = Record(path, 1)
    record.add(0, {"value": 1})
    record.add(1, {"value": 2})
    path.write_text(path.read_text()[:-8])
    assert Record(path, 1).get(0) and Record(path, 1).get(1) is None


def test_numbers_that_are_none_are_left_out_of_means():
    assert mean([1.0, None, math.nan, 3.0]) == 2 and mean([None]) is None and mean([True, False]) == 0.5
    assert median([5, None, 1, 3]) == 3 and median([1, 2]) == 1.5 and median([]) is None
    assert ratio(1.0, None) is None and ratio(1.0, 0.0) is None and ratio(1.0, 4.0) == 0.25


def test_what_json_cannot_say_becomes_none():
    assert plain({1: (math.inf, {"near": 1.0, "far": 2.0}), "a": [True]}) == {
        "1": [None, {"near": 1.0, "far": 2.0}],
        "a": [True],
    }
