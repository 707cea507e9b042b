"""Tables as spreadsheets of any country write them; what does not fit is named by its line."""

import logging
import os
import shutil
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pytest

from more4d.cli.job_lists import read_list
from more4d.datasets.from_video import sources
from more4d.datasets.from_video.sources import find_sources, read_captions
from more4d.files import tables
from more4d.files.tables import portable_path, read_lines, read_table, split_lines
from more4d.foundation.errors import InputError
from more4d.pipelines.cameras import parse_cameras
from more4d.runs.job import Job

JOB = Job(name="item", image=None, prompt="", cameras=parse_cameras(["orbit"]))


def rows(folder: Path, text: str) -> list[tuple[int, dict[str, str]]]:
    path = folder / "t.csv"
    path.write_bytes(text.encode())
    return list(read_table(path, "a list", ("image", "prompt")))


def test_lines_end_where_files_end_them() -> None:
    assert split_lines("a\nb\r\nc\rd\u2028e\x85f\x0bg") == ["a", "b", "c", "d\u2028e\x85f\x0bg"]
    assert split_lines("a\n\n") == ["a", ""] and split_lines("") == []


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_every_dialect_gives_the_same_rows(tmp_path, caplog, end, mark, separator) -> None:
    lines = [
        f"image{separator}prompt",
        f'a.png{separator}"it, runs; and\tturns"',
        f"b.png{separator} it sits ",
    ]
    with caplog.at_level(logging.WARNING):
        found = rows(tmp_path, mark + end.join(lines) + end)
    assert found == [
        (2, {"image": "a.png", "prompt": "it, runs; and\tturns"}),
        (3, {"image": "b.png", "prompt": "it sits"}),
    ]
    assert ("separated by" in caplog.text) == (separator != ",")


def test_breaks_in_a_cell_are_spaces_and_rows_keep_their_line(tmp_path) -> None:
    text = 'image,prompt\na.png,"it runs\r\n\r\nfar"\n\nb.png,"say ""go"""\n,\n'
    assert rows(tmp_path, text) == [
        (2, {"image": "a.png", "prompt": "it runs far"}),
        (6, {"image": "b.png", "prompt": 'say "go"'}),
    ]
    assert rows(tmp_path, "image,prompt\na.png,x,,\n") == [(2, {"image": "a.png", "prompt": "x"})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,prompt\na.png,x,y\n", "line 2 has 3 values for 2 columns; put a value that holds a comma"),
        (
            "image;prompt\na.png;x;y\n",
            "line 2 has 3 values for 2 columns; put a value that holds a semicolon",
        ),
        ('image,prompt\n"a\n\nb",x\na.png\n', "line 5 has 1 values for 2 columns"),
        ("image,image\na,b\n", "line 1 has the column 'image' twice"),
        ("image,promt\na,b\n", "line 1: unknown column 'promt'; did you mean 'prompt'"),
        ('image,prompt\na,"b\n', "line 2 is not CSV"),
        ("image\0,prompt\n", "NUL"),
    ],
)
def test_what_does_not_fit_is_named_by_its_line(tmp_path, text, message) -> None:
    with pytest.raises(InputError, match=message):
        rows(tmp_path, text)


def test_separators_at_the_end_of_all_rows_are_no_columns(tmp_path) -> None:
    assert rows(tmp_path, "image,prompt,,\na.png,x,,\n") == [(2, {"image": "a.png", "prompt": "x"})]


def test_prompts_may_hold_what_other_programs_take_for_line_ends(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("a.png | it runs\u2028far\x85away\n")
    assert read_lines(tmp_path / "a.txt", "a list") == ["a.png | it runs\u2028far\x85away"]
    assert [job.prompt for job in read_list(tmp_path / "a.txt", None, JOB)] == ["it runs\u2028far\x85away"]


def test_paths_with_backslashes_and_suffixes_in_capitals_are_found(tmp_path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.png").touch()
    (tmp_path / "LIST.CSV").write_text("image,prompt\nsub\\a.png,it runs\n")
    (job,) = read_list(tmp_path / "LIST.CSV", None, JOB)
    assert job.image == tmp_path / "sub/a.png"


def test_names_are_settled_before_any_work(tmp_path) -> None:
    names = ["run.json", "Sheet.PNG", "\U00020000" * 80, "\U00020000" * 80, "a" * 80]
    (tmp_path / "l.csv").write_text("image,prompt,name\n" + "".join(f"a.png,x,{name}\n" for name in names))
    found = [job.name for job in read_list(tmp_path / "l.csv", None, JOB)]
    assert found[:2] == ["run_json", "Sheet_PNG"] and found[4] == "a" * 80
    assert len(set(found)) == 5 and all(len(name.encode()) <= 255 for name in found)


@pytest.mark.parametrize("name", ["semicolon.csv", "tab.csv"])
def test_lists_of_other_separators_are_read(shared, name) -> None:
    (job,) = read_list(shared / "data/field-cases/csv-other-separators" / name, None, JOB)
    assert (job.image.name, job.prompt) == ("goat.jpg", "the goat walks")


def test_titles_may_be_in_capitals_below_a_line_that_spreadsheets_write(tmp_path) -> None:
    (tmp_path / "p.png").touch()
    (tmp_path / "l.csv").write_text("sep=;\nImage;Prompt\np.png;the goat walks\n")
    (job,) = read_list(tmp_path / "l.csv", None, JOB)
    assert (job.image.name, job.prompt) == ("p.png", "the goat walks")


def test_a_row_with_too_few_values_is_given_the_right_remedy(tmp_path) -> None:
    (tmp_path / "l.csv").write_text("image,prompt\np.png\n")
    with pytest.raises(
        InputError, match=r"line 2 has 1 values for 2 columns; write one for each of image, prompt"
    ):
        read_list(tmp_path / "l.csv", None, JOB)


def test_a_caption_with_bare_commas_is_refused(shared) -> None:
    with pytest.raises(InputError, match=r"captions\.csv line 2 has 4 values for 2 columns; put"):
        find_sources(shared / "data/field-cases/captions-csv-commas/videos")


def test_captions_of_no_video_are_named(shared, tmp_path, caplog) -> None:
    shutil.copytree(shared / "data/field-cases/captions-of-no-video/videos", tmp_path / "videos")
    with caplog.at_level(logging.WARNING):
        captions = {source.name: source.caption for source in find_sources(tmp_path / "videos")}
    assert captions["ok.mp4"] == "the red square moves right"
    for name, caption in captions.items():
        assert caption or "RUN.mp4" in caplog.text, name
    if "sub/walk.mp4" in captions:
        assert captions["sub/walk.mp4"] == "the red square moves right"


def test_a_video_captioned_twice_is_reported(tmp_path, caplog) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "captions.csv").write_text("file,text\na.mp4,one\na.MP4,two\nb.mp4,three\n")
    with caplog.at_level(logging.WARNING):
        (source,) = find_sources(tmp_path)
    assert source.caption == "two"
    assert "line 3 captions a.mp4 again" in caplog.text and "line 4 names 'b.mp4'" in caplog.text


def test_files_that_are_elsewhere_are_looked_for_in_one_listing(tmp_path, monkeypatch) -> None:
    (tmp_path / "a.MP4").touch()
    rows = "".join(f"{number}.mp4,one\n" for number in range(100))
    (tmp_path / "captions.csv").write_text(f"file,text\na.mp4,two\n{rows}")
    listings, searches = [], []
    monkeypatch.setattr(tables.os, "listdir", counted(os.listdir, listings))
    monkeypatch.setattr(sources.difflib, "get_close_matches", counted(get_close_matches, searches))
    assert read_captions(tmp_path, ["a.MP4"]) == {"a.MP4": "two"}
    # One listing finds the lists, the other one the names; five lines are shown.
    assert len(listings) <= 2 and len(searches) == 5


def counted(function, calls: list) -> Any:
    def call(*given, **named):
        calls.append(given)
        return function(*given, **named)

    return call


def test_a_name_of_several_files_is_refused(tmp_path) -> None:
    for name in ("a.JPG", "a.jpg"):
        (tmp_path / name).touch()
    assert portable_path(tmp_path, "a.jpg") == tmp_path / "a.jpg"
    with pytest.raises(InputError, match=r"a\.JPG and a\.jpg; write one"):
        portable_path(tmp_path, "a.Jpg")


def test_a_name_too_long_for_any_file_names_none(tmp_path: Path) -> None:
    for name in ("x" * 300 + ".jpg", "x" * 300 + "/a.jpg"):
        assert portable_path(tmp_path, name) == tmp_path / name
