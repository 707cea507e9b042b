"""`more4d data cache` as it is called."""

import json

import pytest
import yaml

from more4d.cli.main import main
from more4d.foundation.config import to_mapping
from more4d.weights.load import inspect


@pytest.fixture
def config(tmp_path, random_preset):
    values = {
        "task": "vism",
        "export": str(tmp_path / "weights"),
        "loop": {"steps": 2, "batch_size": 2, "workers": 0, "precision": "no"},
        "options": {
            "codec": str(random_preset / "video_codec.safetensors"),
            "text": str(random_preset / "text.safetensors"),
            "network": to_mapping(inspect(random_preset / "vism.safetensors").config),
            "data": {"shapes": [[32, 48]], "group": 2, "frames": 5, "pairs": 4},
        },
    }
    path = tmp_path / "vism.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_cache_is_made_and_trained_from(config, tmp_path, capsys):
    cache = tmp_path / "cache"
    line = ["data", "cache", "--config", str(config), "options.seed=3", "--output", str(cache)]
    assert main([*line, "--samples", "3"]) == 0
    said = capsys.readouterr().out
    assert "4 samples" in said and f"options.cache={cache}" in said  # whole groups
    assert json.loads((cache / "cache.json").read_text())["settings"]["seed"] == "3"
    run = ["train", "--config", str(config), "--output", str(tmp_path / "run")]
    assert main([*run, f"options.cache={cache}"]) == 0
    assert (tmp_path / "weights" / "vism.safetensors").exists()


def test_another_cache_is_not_written_over(config, tmp_path, capsys):
    line = ["data", "cache", "--config", str(config), "--output", str(tmp_path / "cache"), "--samples", "2"]
    assert main(line) == 0
    capsys.readouterr()
    assert main([*line, "--dtype", "float32"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ") and "another dtype: float16, not float32" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [(["--samples", "0"], "at least 1, got 0"), (["--dtype", "int8"], "int8"), (["--workers", "x"], "got x")],
)
def test_wrong_arguments_are_one_line(config, tmp_path, capsys, wrong, words):
    with pytest.raises(SystemExit) as left:
        main(["data", "cache", "--config", str(config), "--output", str(tmp_path / "cache"), *wrong])
    assert left.value.code == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1


def test_training_from_no_cache_says_how_to_make_one(config, tmp_path, capsys):
    run = ["train", "--config", str(config), "--output", str(tmp_path / "run")]
    assert main([*run, f"options.cache={tmp_path / 'none'}"]) == 1
    assert "more4d data cache" in capsys.readouterr().err
