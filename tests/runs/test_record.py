import json
import logging
from pathlib import Path

import pytest

from more4d.foundation.errors import InputError
from more4d.runs.record import RunRecord, peak_memory_mib


def run_stage(folder: Path, inputs, text: str = "content", name: str = "depth") -> bool:
    record = RunRecord(folder, {})
    return record.stage(name, inputs, ["a.txt"], lambda: (folder / "a.txt").write_text(text))[1]


def test_a_finished_stage_is_not_run_again(tmp_path):
    assert run_stage(tmp_path, {"seed": 1})
    assert not run_stage(tmp_path, {"seed": 1})


def test_other_settings_run_it_again(tmp_path):
    run_stage(tmp_path, {"seed": 1})
    assert run_stage(tmp_path, {"seed": 2}, "new")
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.parametrize("damage", ["shorter", "other content of the same length", "gone"])
def test_a_damaged_output_runs_it_again(tmp_path, damage):
    run_stage(tmp_path, 1)
    path = tmp_path / "a.txt"
    if damage == "gone":
        path.unlink()
    else:
        path.write_text("c" if damage == "shorter" else "Content")
    assert run_stage(tmp_path, 1)
    assert path.read_text() == "content"


def test_a_stage_cut_off_is_run_again_and_its_files_are_still_ours(tmp_path):
    def cut_off():
        (tmp_path / "a.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RunRecord(tmp_path, {}).stage("depth", 1, ["a.txt"], cut_off)
    assert json.loads((tmp_path / "run.json").read_text())["stages"]["depth"]["state"] == "started"
    assert run_stage(tmp_path, 1)


def write(folder: Path, *names: str, stage: str = "depth", failing: bool = False) -> None:
    def make():
        for name in names:
            (folder / name).write_text("content")
        if failing:
            raise KeyboardInterrupt

    RunRecord(folder, {}).stage(stage, names, names, make)


def test_what_a_stage_no_longer_writes_is_removed(tmp_path):
    write(tmp_path, "a.mp4", "a.txt")
    write(tmp_path, "b.txt", stage="other")
    (tmp_path / "mine.mp4").write_text("precious")
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, "a.mov", "a.txt", failing=True)
    assert {path.suffix for path in tmp_path.glob("a.*")} == {
        ".mp4",
        ".mov",
        ".txt",
    }  # still those of the run
    write(tmp_path, "a.mov", "a.txt")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"a.mov", "a.txt", "b.txt", "mine.mp4", "run.json"}
    write(tmp_path, "c.txt", stage="moved")
    write(tmp_path, "b.txt", "d.txt", stage="depth")  # b.txt is of two stages now
    write(tmp_path, "d.txt", stage="depth")
    assert {path.name for path in tmp_path.glob("?.*")} == {"b.txt", "c.txt", "d.txt"}


def test_folders_that_are_empty_then_are_removed_too(tmp_path):
    for name in ("old/sparse/0", "mine/sparse/0", "new"):
        (tmp_path / "cameras" / name).mkdir(parents=True)
    write(tmp_path, "cameras/old/sparse/0/a.txt", "cameras/mine/sparse/0/a.txt")
    (tmp_path / "cameras/mine/film.mp4").write_text("precious")
    write(tmp_path, "cameras/new/a.txt")
    left = {path.relative_to(tmp_path / "cameras").as_posix() for path in tmp_path.rglob("cameras/**/*")}
    assert left == {"mine", "mine/film.mp4", "new", "new/a.txt"}


def test_a_foreign_file_is_never_overwritten(tmp_path):
    (tmp_path / "a.txt").write_text("precious")
    with pytest.raises(InputError, match=r"a\.txt is in the way"):
        run_stage(tmp_path, 1)
    assert (tmp_path / "a.txt").read_text() == "precious"


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"format": "another program"}'])
def test_a_record_that_is_not_ours_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json"):
        run_stage(tmp_path, 1)
    assert (tmp_path / "run.json").read_text() == text


def test_the_record_says_what_happened(tmp_path):
    record = RunRecord(tmp_path, {"prompt": "a dog runs"})
    record.stage("depth", 1, ["a.txt"], lambda: (tmp_path / "a.txt").write_text("x"))
    document = json.loads((tmp_path / "run.json").read_text())
    assert document["state"] == "finished" and document["prompt"] == "a dog runs"
    assert document["stages"]["depth"]["files"]["a.txt"]["bytes"] == 1
    assert document["stages"]["depth"]["seconds"] >= 0
    record.fail("the disk is full")
    document = json.loads((tmp_path / "run.json").read_text())
    assert (document["state"], document["failure"]) == ("failed", "the disk is full")


def test_warnings_of_a_stage_are_kept_and_repeated_when_it_is_not_made_again(tmp_path, caplog):
    def make():
        logging.getLogger("more4d.pipelines").warning("understood: %s", "it runs")
        (tmp_path / "a.txt").write_text("x")

    for _ in range(2):
        caplog.clear()
        RunRecord(tmp_path, {}).stage("tracks", 1, ["a.txt"], make)
        assert caplog.messages == ["understood: it runs"]
    record = RunRecord.reopened(tmp_path)
    record.note("and more")
    record.save()
    notes = json.loads((tmp_path / "run.json").read_text())["notes"]
    assert notes == ["understood: it runs", f"{tmp_path}: and more"]


def test_peak_memory_is_that_of_a_python_process():
    assert 10 < peak_memory_mib() < 100_000


def test_a_file_that_two_stages_write_is_one_film_and_stays(tmp_path):
    """A path that the viewer filmed, filmed again by `infer`, and once more with other tracks."""

    def film(stage: str, base: str) -> RunRecord:
        record = RunRecord(tmp_path, {})
        record.base = base
        record.stage(stage, base, ["a.txt"], lambda: (tmp_path / "a.txt").write_text(base))
        return record

    film("film path", "tracks")
    assert not film("view path", "tracks").earlier_films()  # one film, not two
    film("view path", "others").remove_outdated()
    assert (tmp_path / "a.txt").read_text() == "others"
