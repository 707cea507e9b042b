"""Laws of `more4d evaluate`."""

import json

import pytest

from more4d.cli.main import main


def test_results_are_json_on_standard_output(capsys, tmp_path, random_preset):
    output = tmp_path / "out"
    arguments = ["evaluate", "--weights", str(random_preset), "--only", "depth", "--scenes", "1"]
    assert main([*arguments, "--data", str(tmp_path), "--output", str(output), "--quiet"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["depth"]["procedural"]["frames"] == 1
    assert (output / "index.html").is_file() and (output / "table.md").is_file()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--scenes", "0"], "at least 1, got 0"),
        (["--only", "sound"], "invalid choice: 'sound'"),
        (["--part", "strag"], "PART=FILE"),
    ],
)
def test_wrong_arguments_are_one_line(capsys, arguments, line):
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", *arguments])
    err = capsys.readouterr().err
    assert caught.value.code == 2 and line in err and err.count("\n") == 1


def test_a_folder_of_data_that_is_not_there_is_one_line(capsys):
    assert main(["evaluate", "--data", "nowhere"]) == 1
    err = capsys.readouterr().err
    assert "there is no folder nowhere" in err and err.count("\n") == 1


def test_a_folder_that_is_no_clip_is_one_line(capsys, tmp_path, random_preset):
    given = ["evaluate", "--weights", str(random_preset), "--only", "views", "--clip", str(tmp_path)]
    assert main([*given, "--output", str(tmp_path / "out"), "--quiet"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: cannot load a CLIP model") and err.count("\n") == 1


def test_vbench_without_videos_says_how_to_get_some(capsys, tmp_path, random_preset):
    given = ["evaluate", "--weights", str(random_preset), "--only", "vbench"]
    assert main([*given, "--output", str(tmp_path / "out"), "--quiet"]) == 1
    assert "measure photos first" in capsys.readouterr().err
