"""Inputs of people who do this job, as they came, each given to the whole command."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from more4d.cli.main import main
from tests.cli.test_bad_input import refuses

X = ("--prompt", "x moves left", "--camera", "static", "--frames", "2")


@pytest.fixture
def cases(shared):
    return shared / "data/field-cases"


@pytest.fixture
def said(capfd):
    """Runs `more4d WORDS`; its exit code, and what it wrote to the terminal."""

    def run(*words):
        capfd.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as error:
            code = int(error.code or 0)
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.mark.parametrize(("name", "separator"), [("semicolon.csv", "semicolons"), ("tab.csv", "tabs")])
def test_a_list_of_any_dialect_is_read_and_the_dialect_said(command, cases, tmp_path, name, separator):
    shutil.copy(cases / "csv-other-separators" / name, tmp_path / name)
    shutil.copy(cases / "depth-other-units/goat.png", tmp_path / "goat.jpg")
    result = command("--list", tmp_path / name, "--camera", "static", "--frames", "2")
    assert result.code == 0 and f"{name} is read as separated by {separator}" in result.err
    assert (tmp_path / "out/goat/static/view.mp4").is_file()


def test_a_caption_with_a_comma_is_refused_not_cut(said, cases, tmp_path):
    code, _, err = said("data", "from-video", cases / "captions-csv-commas/videos", "--output", tmp_path)
    assert code == 1 and "line 2 has 4 values for 2 columns" in err and "double quotes" in err


def test_captions_of_no_video_are_told_and_backslashes_are_paths(said, cases, tmp_path):
    videos = cases / "captions-of-no-video/videos"
    options = ("--frames", "13", "--workers", "0", "--device", "cpu")
    code, out, err = said("data", "from-video", videos, "--output", tmp_path / "out", *options)
    assert code == 0 and "line 3 names 'RUN.mp4'" in err and "no such video" in err
    assert "sub/walk.mp4 (3 of 3): 1 of 1 clips kept" in out + err


@pytest.mark.parametrize("name", ["m32.tiff", "midas.pfm", "mm.tiff", "nerfcapture_rgba.png"])
def test_depth_of_other_programs(command, cases, tmp_path, name):
    folder = cases / "depth-other-formats"
    metres = np.load(cases / "depth-is-disparity/metres.npy")
    options = ("--depth-unit", "mm") if name == "mm.tiff" else ()
    result = command(folder / "goat.png", *X, "--depth", folder / name, *options)
    assert result.code == 0, result.err
    assert np.load(tmp_path / "out/goat/depth.npy") == pytest.approx(metres, rel=0.01)


@pytest.mark.parametrize(
    ("name", "unit"), [("mm_u16.npy", "mm"), ("tum5000.png", "1/5000"), ("kitti256.png", "1/256")]
)
def test_depth_in_other_units_is_in_metres_when_the_unit_is_said(command, cases, tmp_path, name, unit):
    folder = cases / "depth-other-units"
    metres = np.load(cases / "depth-is-disparity/metres.npy")
    assert command(folder / "goat.png", *X, "--depth", folder / name, "--depth-unit", unit).code == 0
    read = np.load(tmp_path / "out/goat/depth.npy")
    assert np.median(np.abs(read / metres - 1)) < 0.01


def test_whole_numbers_in_an_array_are_not_metres_unsaid(command, cases):
    folder = cases / "depth-other-units"
    refuses(
        command(folder / "goat.png", *X, "--depth", folder / "mm_u16.npy"), "whole numbers", "--depth-unit"
    )


def test_near_and_far_exchanged_is_told(said, cases, tmp_path):
    folder = cases / "depth-is-disparity"
    known = ("--depth", folder / "da2_disp16.png", "--output", tmp_path / "out", "--device", "cpu")
    code, _, err = said("infer", folder / "goat.png", *X, *known)
    assert code == 0 and "--depth-kind inverse" in err


def test_a_lidar_frame_gives_a_scene_in_one_piece(command, cases, tmp_path):
    folder = cases / "depth-with-gaps"
    metres = np.load(cases / "depth-is-disparity/metres.npy")
    result = command(folder / "goat.png", *X, "--depth", folder / "lidar_20_percent.npy")
    assert result.code == 0 and "is unknown and is filled" in result.err
    read = np.load(tmp_path / "out/goat/depth.npy")
    assert np.isfinite(read).all() and np.median(np.abs(read / metres - 1)) < 0.1


def test_a_long_prompt_does_not_widen_the_sheet(command, cases, tmp_path):
    folder = cases / "long-prompt-sheet"
    say = ("--prompt", (folder / "prompt.txt").read_text(), *X[2:])
    result = command(folder / "goat.png", *say)
    assert result.code == 0 and "English" not in result.err
    with Image.open(tmp_path / "out/goat/sheet.png") as sheet:
        assert sheet.width < 2500


def test_a_prompt_that_is_not_english_is_told_once(said, cases, tmp_path):
    photo = cases / "prompt-not-english/goat.png"
    say = ("infer", photo, "--prompt", "黑色的山羊向左走", *X[2:], "--output", tmp_path / "out")
    code, _, err = said(*say, "--device", "cpu")
    assert code == 0 and err.count("English") == 1


def test_an_earlier_run_leaves_nothing_in_the_results_of_another(command, cases, tmp_path):
    folder, scene = cases / "stale-results", tmp_path / "out/goat"
    say = ("--prompt", "the black goat walks to the left", "--camera", "static", "--export", "ply")
    assert command(folder / "goat.png", *say, "--frames", "3").code == 0
    assert command(folder / "goat.png", *say, "--frames", "2").code == 0
    assert len(list((scene / "scene_frames").iterdir())) == 2
    first = (scene / "photo.png").read_bytes()
    assert command(folder / "other/goat.png", "--prompt", "the robot walks", *X[2:]).code == 0
    assert (scene / "photo.png").read_bytes() == first
    others = [path for path in (tmp_path / "out").iterdir() if path.is_dir() and path != scene]
    assert len(others) == 1 and others[0].name.startswith("goat")


@pytest.mark.parametrize("name", ["tracks-pixel-intrinsics/pix4.npz", "tracks-pixel-intrinsics/K33.npz"])
def test_tracks_with_a_lens_in_pixels_are_seen(command, cases, name):
    result = command("--tracks", cases / name, "--camera", "orbit")
    assert result.code == 0 and "sees nothing" not in result.err


def test_tracks_of_a_tracker_are_filmed(command, cases, tmp_path):
    result = command("--tracks", cases / "tracks-of-trackers/spatrackv2.npz", "--camera", "static")
    assert result.code == 0, result.err
    assert (tmp_path / "out/spatrackv2/static/view.mp4").is_file()


def test_camera_raw_in_the_container_of_films_is_no_film(command, tmp_path):
    (tmp_path / "IMG_1.CR3").write_bytes(b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(1000))
    refuses(command(tmp_path / "IMG_1.CR3", *X), "camera raw", "export it as jpg")


def test_a_pipe_for_a_photo_is_called_one(command, tmp_path):
    os.mkfifo(tmp_path / "p.jpg")
    refuses(command(tmp_path / "p.jpg", *X), "p.jpg", "a pipe or a device")


def test_a_note_is_told_once(command, cases):
    result = command(cases / "warnings-repeated/gif.gif", *X)
    assert result.code == 0 and result.err.count("holds 40") == 1


def test_check_says_of_files_of_comfyui_what_loading_does(said, cases):
    files = sorted(path for path in (cases / "weights-comfyui").iterdir() if path.name != "README")
    code, out, _ = said("weights", "check", *files)
    assert code == 1
    for file in files:
        (line,) = [line for line in out.splitlines() if file.name in line]
        assert ("GGUF" in line) == (file.suffix == ".gguf") and "broken" not in line, line


def test_check_calls_no_lora_ok_that_cannot_be_merged(said, cases):
    names = ("dora", "kohya_noalpha", "with_te", "vace", "fp8_lora")
    code, out, _ = said(
        "weights", "check", *(cases / f"lora-check-says-ok/{name}.safetensors" for name in names)
    )
    states = dict(zip(names, (line.split()[0] for line in out.splitlines()), strict=True))
    refused = dict.fromkeys(("dora", "with_te", "vace"), "refused")
    assert code == 1 and states == refused | {"kohya_noalpha": "broken", "fp8_lora": "ok"}
