import json
import re

import pytest
import torch

from more4d.cli import requests
from more4d.files.image import save_image


def test_a_photo_becomes_a_scene_and_videos(command, photo, tmp_path):
    result = command(
        photo, "--prompt", "the ball rolls", "--camera", "orbit", "--frames", "3", "--export", "ply"
    )
    assert result.code == 0, result.err
    item = tmp_path / "out" / "ball"
    for file in (
        "tracks.safetensors",
        "tracks.mp4",
        "depth.npy",
        "depth.png",
        "sheet.png",
        "scene.ply",
        "run.json",
    ):
        assert (item / file).is_file(), file
    for file in ("render.mp4", "coverage.mkv", "view.mp4", "camera_path.json"):
        assert (item / "orbit" / file).is_file(), file
    assert "1 of 1 items" in result.out and str(item / "sheet.png") in result.out
    assert "ball: tracks (" in result.err  # progress, as lines where there is no terminal


def test_quiet_shows_the_result_only(command, photo):
    result = command(photo, "--prompt", "it rolls", "--camera", "static", "--frames", "2", "--quiet")
    assert result.code == 0 and result.err == "" and "1 of 1 items" in result.out


def test_a_second_run_does_nothing_again(command, photo, tmp_path):
    arguments = (photo, "--prompt", "it rolls", "--camera", "static", "--frames", "2")
    assert re.search(r"ball: tracks \(", command(*arguments).err)
    before = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "out/ball").rglob("*.*")
        if path.name != "run.json"
    }
    again = command(*arguments)
    assert again.code == 0 and "ball: there already" in again.err and " s)" not in again.err
    assert json.loads((tmp_path / "out/run.json").read_text())["items"][0]["stages_run"] == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_scene_in_which_nothing_moves_is_named_also_when_it_is_there_already(
    command, photo, tmp_path, monkeypatch
):
    def still(components, scene, *arguments, **settings):
        return torch.zeros(3, components.preset.frames, *scene.depth_m.shape)

    monkeypatch.setattr("more4d.pipelines.tracks.generate_motion", still)
    arguments = (photo, "--prompt", "it rolls", "--camera", "static", "--frames", "2")
    for quiet in (["--quiet"], [], []):
        result = command(*arguments, *quiet)
        assert result.code == 0 and "sheet.png; nothing moves in it" in result.out
        assert ("note: nothing moves" in result.err) == (not quiet)
    note = json.loads((tmp_path / "out/ball/run.json").read_text())["notes"][0]
    assert "another --seed" in note and "--move 'x,y > x,y'" in note
    for more in (["--motion", "0"], ["--frames", "1"]):
        assert "nothing moves" not in "".join(command(*arguments, *more).out)


def test_formats_are_of_all_items_of_a_list(command, photo, tmp_path):
    (tmp_path / "jobs.txt").write_text(f"{photo} | it rolls\n{photo} | it jumps\n")
    formats = ("--video-codec", "png", "--alpha", "--animation", "webp")
    result = command("--list", tmp_path / "jobs.txt", "--camera", "static", "--frames", "2", *formats)
    assert result.code == 0, result.err
    for item in ("ball", "ball-2"):
        assert (tmp_path / "out" / item / "static/view.mov").is_file()
        assert (tmp_path / "out" / item / "static.webp").is_file()
    assert (tmp_path / "out/sheet.png").is_file()


def test_views_can_be_made_independently(command, photo, tmp_path):
    cameras = ("--camera", "surrounding", "--camera", "x_moving")
    arguments = (photo, "--prompt", "it rolls", *cameras, "--frames", "3")
    assert command(*arguments).code == 0
    views = [tmp_path / "out/ball" / name / "view.mp4" for name in ("surrounding", "x_moving")]
    first, second = (path.read_bytes() for path in views)
    assert command(*arguments, "--independent-views").code == 0
    assert views[0].read_bytes() == first and views[1].read_bytes() != second


def test_without_arguments_the_samples_are_made(command, tmp_path, monkeypatch):
    save_image(tmp_path / "sample.png", torch.rand(32, 48, 3, generator=torch.Generator().manual_seed(0)))
    line = {"image": "sample.png", "prompt": "it rolls", "camera": "static", "frames": 2}
    (tmp_path / "samples.jsonl").write_text(json.dumps(line) + "\n")
    monkeypatch.setattr(requests, "SAMPLES", tmp_path / "samples.jsonl")
    assert command().code == 0
    assert (tmp_path / "out/sample/sheet.png").is_file()


def test_own_tracks_need_no_photo(command, photo, tmp_path):
    command(photo, "--prompt", "it rolls", "--camera", "static", "--frames", "2")
    tracks = tmp_path / "out/ball/tracks.safetensors"
    result = command("--tracks", tracks, "--camera", "zoom-in", output=tmp_path / "again")
    assert result.code == 0, result.err
    assert (tmp_path / "again/ball/zoom-in/view.mp4").is_file()


@pytest.mark.parametrize(
    "option",
    [("--prompt", "x"), ("--depth", "d.npy"), ("--intrinsics", "1,1,0.5,0.5"), ("--mask", "m.png")],
)
def test_what_belongs_to_a_photo_needs_one(command, option):
    result = command(*option)
    assert result.code == 2 and f"{option[0]} needs a photo" in result.err


def test_the_camera_paths_are_described(command):
    result = command("--list-cameras")
    assert result.code == 0 and "orbit" in result.out and "anti-surrounding" in result.out


def test_an_interrupt_leaves_whole_files_and_130(command, photo, tmp_path, monkeypatch):
    from more4d import pipeline

    def interrupt(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "image_to_tracks", interrupt)
    arguments = (photo, "--prompt", "it rolls", "--camera", "static", "--frames", "2")
    result = command(*arguments)
    assert result.code == 130 and result.err.splitlines()[-1].startswith("interrupted")
    names = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert names == {"photo.png", "depth.npy", "depth.png", "camera.json", "run.json"}
    monkeypatch.undo()
    assert command(*arguments).code == 0


def test_a_folder_belongs_to_one_photo_prompt_and_seed(command, photo, tmp_path):
    """What another one made is not replaced; the same one goes on where it was."""
    roll = (photo, "--prompt", "it rolls", "--frames", "2", "--camera")
    assert command(*roll, "static").code == 0
    film = (tmp_path / "out/ball/static/view.mp4").read_bytes()
    other_prompt = command(photo, "--prompt", "it stops", "--camera", "static", "--frames", "2")
    assert other_prompt.code == 0
    assert (
        other_prompt.err.count("another photo, prompt, seed or motion") == 1 and "ball-2" in other_prompt.err
    )
    assert command(*roll, "static", "--seed", "5").code == 0
    assert (tmp_path / "out/ball/static/view.mp4").read_bytes() == film
    assert sorted(path.name for path in (tmp_path / "out").glob("ball*")) == ["ball", "ball-2", "ball-3"]
    # A camera more of the same scene, and then the second prompt again: each in its folder.
    assert command(*roll, "zoom-in").code == 0
    assert (tmp_path / "out/ball/static/view.mp4").read_bytes() == film
    assert (tmp_path / "out/ball/zoom-in/view.mp4").is_file()
    assert command(photo, "--prompt", "it stops", "--camera", "static", "--frames", "2").code == 0
    assert len(list((tmp_path / "out").glob("ball*"))) == 3
    assert "ball-4" in command(*roll, "static", "--motion", "0").err
    assert (tmp_path / "out/ball/zoom-in/view.mp4").is_file()
    save_image(photo, torch.zeros(60, 80, 3))
    assert command(*roll, "static").code == 0
    assert (tmp_path / "out/ball-5/static/view.mp4").is_file()


def test_what_an_earlier_run_made_from_other_tracks_is_removed_and_reported(command, photo, tmp_path):
    roll = (photo, "--prompt", "it rolls", "--camera")
    assert command(*roll, "zoom-in", "--frames", "3", "--export", "ply").code == 0
    assert len(list((tmp_path / "out/ball/scene_frames").iterdir())) == 3
    (tmp_path / "out/ball/zoom-in/notes.txt").write_text("mine")
    result = command(*roll, "static", "--frames", "2")
    assert result.code == 0 and result.err.count("made from other tracks by an earlier run") == 1
    assert [path.name for path in (tmp_path / "out/ball/zoom-in").iterdir()] == ["notes.txt"]
    assert (
        not (tmp_path / "out/ball/scene_frames").exists() and not (tmp_path / "out/ball/scene.ply").exists()
    )
    assert "zoom-in" not in (tmp_path / "out/ball/run.json").read_text()
    again = command(*roll, "static", "--frames", "2")
    assert again.code == 0 and "earlier run" not in again.err
