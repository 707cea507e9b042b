"""Every video is found once, with the caption somebody wrote for it."""

from pathlib import Path

import pytest

from more4d.datasets.from_video.sources import find_sources
from more4d.foundation.errors import InputError
from tests.files.odd_videos import stripes, write


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_videos_are_found_in_all_folders_but_hidden_ones(tmp_path):
    touch(tmp_path, "b.MP4", "a.mkv", "deep/er/c.webm", "notes.txt", "photo.png", ".trash/d.mp4", ".e.mp4")
    assert [source.name for source in find_sources(tmp_path)] == ["a.mkv", "b.MP4", "deep/er/c.webm"]


def test_of_two_captions_of_one_video_the_one_taken_is_named(tmp_path, caplog):
    (tmp_path / "a.mp4").touch()
    for name in ("a.TXT", "a.txt"):
        (tmp_path / name).write_text(f"it is {name}")
    (source,) = find_sources(tmp_path)
    assert source.caption == "it is a.txt"
    assert "a.mp4 has 2 captions; a.txt is taken" in caplog.text


def test_identifiers_are_plain_and_differ(tmp_path):
    touch(tmp_path, "a/walk.mp4", "b/walk.mp4", "walk.mp4", "ein Bär läuft!.mp4", "??.mp4")
    names = [source.identifier for source in find_sources(tmp_path)]
    assert len(set(names)) == 5
    assert all(
        set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") for name in names
    )


def test_captions_come_from_beside_or_from_a_list(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4", "deep/c.mp4", "d.mp4", "E.MOV")
    (tmp_path / "E.Txt").write_text("a cat")
    (tmp_path / "a.txt").write_text("\ufeffa sheep\n  walks ", encoding="utf-8")
    (tmp_path / "captions.jsonl").write_text(
        '{"file": "a.mp4", "text": "not this"}\n\n{"file": "b.mp4", "text": "a  dog, \\"Bär\\""}\n'
    )
    (tmp_path / "captions.csv").write_text('file, text\ndeep/c.mp4, "one, two"\n')
    captions = {source.name: source.caption for source in find_sources(tmp_path)}
    assert captions == {
        "a.mp4": "a sheep walks",
        "b.mp4": 'a dog, "Bär"',
        "deep/c.mp4": "one, two",
        "d.mp4": "",
        "E.MOV": "a cat",
    }


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("captions.jsonl", '{"file": "a.mp4", "text": "x"}\n{"file"', "line 2 is not JSON"),
        ("captions.jsonl", "[1]", "line 1 is not a JSON object"),
        ("captions.jsonl", '{"file": "a.mp4", "text": 3}', "line 1 has no 'file' and 'text'"),
        ("captions.jsonl", '{"file": "other.mp4", "text": "x"}', "name no video in it.*other.mp4"),
        ("captions.csv", "name,caption\na.mp4,x\n", "must name the columns file and text"),
        ("captions.csv", "file,text\na.mp4\n", "line 2 has 1 values for 2 columns"),
        ("captions.csv", f"file,text\na.mp4,x\na.mp4,{'x' * 140_000}\n", r"captions\.csv line 3 is not CSV"),
        ("captions.csv", f"file,{'x' * 140_000}\n", r"captions\.csv line 1 is not CSV"),
        ("captions.jsonl", "[" * 100_000, r"captions\.jsonl line 1 is nested deeper than"),
        ("captions.jsonl", "1" * 5000, r"captions\.jsonl line 1 has a number of thousands of digits"),
    ],
)
def test_bad_caption_lists_are_refused_by_line(tmp_path, file, text, message):
    touch(tmp_path, "a.mp4")
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=message):
        find_sources(tmp_path)


def test_a_caption_that_is_no_text_is_refused(tmp_path):
    touch(tmp_path, "a.mp4")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a text file in UTF-8"):
        find_sources(tmp_path)


def test_a_folder_without_videos_is_refused(tmp_path):
    touch(tmp_path, "a.png")
    with pytest.raises(InputError, match="holds no video"):
        find_sources(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        find_sources(tmp_path / "a.png")


def test_every_container_is_a_video_in_any_case_and_the_rest_is_logged(tmp_path, caplog):
    videos = ("a.M2TS", "b.Wmv", "c.3GP", "d.ogv", "e.gif", "f.MXF", "g.flv")
    touch(tmp_path, *videos, "photo.png", "moving.webp", "talk.mp3", "a.txt", "notes.txt")
    with caplog.at_level("WARNING"):
        assert [source.name for source in find_sources(tmp_path)] == sorted(videos)
    assert "4 files" in caplog.text and "moving.webp, notes.txt, photo.png, talk.mp3" in caplog.text


def test_a_video_without_a_suffix_is_known_by_its_contents(tmp_path):
    write(tmp_path / "a.mkv", stripes()).rename(tmp_path / "walk")
    (tmp_path / "captions.csv").write_text("file,text\nwalk,a bar moves\n")
    assert [(source.name, source.caption) for source in find_sources(tmp_path)] == [("walk", "a bar moves")]
