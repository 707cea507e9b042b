import json

import pytest

from more4d.cli.main import main
from more4d.files.video import read_video


def run(preset, output, *arguments) -> int:
    return main(
        ["vae", *map(str, arguments), "--weights", str(preset), "--output", str(output), "--device", "cpu"]
    )


def test_a_scene_goes_through_the_codec(random_preset, tmp_path, capsys):
    assert run(random_preset, tmp_path / "out", "scene:3") == 0
    out = capsys.readouterr().out
    assert "px" in out and " m" in out
    numbers = json.loads((tmp_path / "out/metrics.json").read_text())
    assert numbers["source"] == "scene:3" and numbers["motion_px"] > 0 and numbers["moving_error_px"] >= 0
    video = read_video(tmp_path / "out/side_by_side.mp4")
    assert video.shape[0] == 5 and video.shape[2] == 3 * (video.shape[1] * 48 // 32)
    assert (tmp_path / "out/sheet.png").is_file()
    assert run(random_preset, tmp_path / "out", "scene:4") == 0  # other input, same folder


def test_what_is_no_file_is_refused(random_preset, tmp_path, capsys):
    assert run(random_preset, tmp_path / "out", "nowhere.npz") == 1
    assert "no file nowhere.npz" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("source", ["scene:x", "scene:", "scene:-1"])
def test_what_is_no_scene_is_a_wrong_argument(random_preset, tmp_path, capsys, source):
    with pytest.raises(SystemExit) as ended:
        run(random_preset, tmp_path / "out", source)
    assert ended.value.code == 2 and "whole number" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
