"""Several photos in one call: named, in folders, by patterns; with one prompt or one for each."""

import shutil

import numpy as np
import pytest

from tests.cli.test_bad_input import SAY, no_output, refuses

BRIEFLY = ("--camera", "static", "--frames", "2")


@pytest.fixture
def folder(photo, tmp_path):
    """Two photos, a damaged one, and files that are none."""
    folder = tmp_path / "many photos [1]"
    (folder / "more").mkdir(parents=True)
    for name in ("a.png", "b.PNG", "more/c.png"):
        shutil.copy(photo, folder / name)
    (folder / "cut.png").write_bytes(photo.read_bytes()[:300])
    (folder / "notes.txt").write_text("no photo")
    (folder / "a.cr2").write_bytes(b"raw")
    (folder / "._a.png").write_bytes(b"of another system")
    return folder


def items(output):
    return sorted(path.name for path in output.iterdir() if path.is_dir())


def test_a_folder_is_an_item_for_each_photo_and_one_that_fails_stops_no_other(command, folder, tmp_path):
    result = command(folder, *SAY)
    refuses(result, "cut.png")
    assert "passed over: a.cr2, notes.txt" in result.err and "2 of 3 items" in result.out + result.err
    assert [(tmp_path / f"out/{name}/sheet.png").exists() for name in ("a", "b", "cut")] == [
        True,
        True,
        False,
    ]


def test_each_photo_takes_its_prompt_and_a_file_that_is_missing_is_one_failure(command, folder, tmp_path):
    result = command(
        *(folder / "a.png", folder / "nowhere.jpg", folder / "more/c.png"),
        *("--prompt", "it rolls", "--prompt", "it jumps", "--prompt", "it sits", *BRIEFLY),
    )
    refuses(result, "there is no file", "nowhere.jpg")
    for name, prompt in (("a", "it rolls"), ("c", "it sits")):
        assert prompt in (tmp_path / f"out/{name}/run.json").read_text()


def test_a_pattern_is_taken_where_no_shell_has_replaced_it(command, folder, tmp_path):
    result = command(f"{tmp_path}/many*/**/[bc].*", f"{tmp_path}/many*/*.PNG", *SAY)
    assert result.code == 0, result.err
    assert items(tmp_path / "out") == ["b", "c"]


def test_photos_of_one_name_have_folders_of_their_own(command, folder, tmp_path):
    shutil.copy(folder / "a.png", folder / "more/a.png")
    result = command(folder / "a.png", folder / "more/a.png", folder / "a.png", *SAY)
    assert result.code == 0, result.err
    assert items(tmp_path / "out") == ["a", "a-2"]


def test_one_camera_took_all_photos_but_depth_is_of_one(command, folder, tmp_path):
    photos = (folder / "a.png", folder / "more/c.png")
    np.save(tmp_path / "d.npy", np.full((60, 80), 3.0, np.float32))
    refuses(command(*photos, *SAY, "--depth", tmp_path / "d.npy"), "--depth is of one photo", "--list")
    assert no_output(tmp_path / "out")
    assert command(*photos, *SAY, "--fov", "90").code == 0
    cameras = [(tmp_path / f"out/{name}/camera.json").read_bytes() for name in ("a", "c")]
    assert cameras[0] == cameras[1] and b"0.5" in cameras[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("{0}/a.png", "{0}/more/c.png", "--prompt", "a", "--prompt", "b", "--prompt", "c"),
            ("3 prompts for 2",),
        ),
        (("{0}/a.png", "--prompt", "a", "--prompt", "b"), ("2 prompts for 1",)),
        (("{0}/*.bmp", "--prompt", "a"), ("nothing is called", "*.bmp")),
        (("{0}/empty", "--prompt", "a"), ("no picture or video", "no files")),
        (("{0}/notes*", "--prompt", "a"), ("no picture or video", "only notes.txt")),
        (("--prompt", "the", "dog", "{0}/a.png"), ("there is no file dog", "quotes")),
    ],
)
def test_what_names_no_photos_is_refused_in_one_line(command, folder, tmp_path, arguments, words):
    (folder / "empty").mkdir()
    refuses(command(*(each.format(folder) for each in arguments)), *words)
    assert no_output(tmp_path / "out")


def test_a_name_with_a_dash_is_explained_and_a_link_to_itself_is_no_file(command, photo, monkeypatch):
    monkeypatch.chdir(photo.parent)
    photo.rename("-ball.png")
    refuses(command("-ball.png", "--prompt", "x"), "./-ball.png", code=2)
    (photo.parent / "loop.png").symlink_to("loop.png")
    refuses(command("loop.png", "--prompt", "x"), "there is no file loop.png")


def test_a_prompt_without_quotes_is_told(command, photo):
    refuses(
        command(photo, "--prompt", "the", "ball", "rolls"),
        "unrecognized arguments: ball rolls",
        "quotes",
        code=2,
    )
