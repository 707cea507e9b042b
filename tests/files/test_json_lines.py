"""Laws of records that grow by a line at a time."""

import pytest

from more4d.files.atomic import append_json_line, filter_json_lines, read_json_lines


def test_lines_come_back_in_order(tmp_path):
    path = tmp_path / "folder" / "record.jsonl"
    lines = [{"step": 1, "loss": 0.5}, {"step": 2, "bins": [None, 1.0]}]
    for line in lines:
        append_json_line(path, line)
    assert read_json_lines(path) == lines


def test_a_line_that_a_kill_cut_short_is_left_out_and_the_rest_stays(tmp_path, caplog):
    path = tmp_path / "record.jsonl"
    append_json_line(path, {"step": 1})
    with path.open("a") as file:
        file.write('{"step": 2, "lo')
    assert read_json_lines(path) == [{"step": 1}]
    assert "cut short" in caplog.text


def test_only_wanted_lines_are_kept_and_an_unchanged_file_is_not_touched(tmp_path):
    path = tmp_path / "record.jsonl"
    for step in range(4):
        append_json_line(path, {"step": step})
    filter_json_lines(path, lambda line: line["step"] < 2)
    assert [line["step"] for line in read_json_lines(path)] == [0, 1]
    before = path.stat()
    filter_json_lines(path, lambda line: line["step"] < 2)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_no_file_has_no_lines_and_none_is_made(tmp_path):
    path = tmp_path / "record.jsonl"
    filter_json_lines(path, lambda line: True)
    assert read_json_lines(path) == [] and not path.exists()


def test_what_json_cannot_say_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Out of range float"):
        append_json_line(tmp_path / "record.jsonl", {"loss": float("nan")})
    assert not (tmp_path / "record.jsonl").exists()
