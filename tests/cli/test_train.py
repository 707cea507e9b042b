import os
import signal

import pytest

from more4d.cli.main import main
from more4d.cli.options import settings_last
from more4d.training.tasks.tiny_encoders import TextTask

TEXT = """
task: text
export: {export}
loop: {{steps: 3, batch_size: 2, workers: 0, precision: "no", save_every: 1}}
options: {{network: {{dim: 16, layers: 1, heads: 2, head_dim: 8, ff: 16}}, heads: 2}}
"""


@pytest.fixture
def text_config(tmp_path, monkeypatch):
    """A configuration that trains in no time."""
    monkeypatch.setattr("more4d.datasets.procedural.VOCABULARY_SCENES", 40)
    path = tmp_path / "text.yaml"
    path.write_text(TEXT.format(export=tmp_path / "weights"))
    return path


def test_a_configuration_that_is_not_there_is_refused(tmp_path, capsys):
    assert main(["train", "--config", str(tmp_path / "nowhere.yaml")]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ") and "nowhere.yaml" in err and err.count("\n") == 1


def test_an_unknown_option_of_a_task_is_refused(tmp_path, capsys):
    config = tmp_path / "text.yaml"
    config.write_text("task: text\nexport: x\nloop: {steps: 1, batch_size: 1, learning_rat: 1}\n")
    assert main(["train", "--config", str(config), "--output", str(tmp_path / "run")]) == 1
    assert "did you mean 'learning_rate'" in capsys.readouterr().err


def test_an_impossible_value_is_refused(text_config, capsys):
    assert main(["train", "--config", str(text_config), "loop.batch_size=0"]) == 1
    assert "batch_size must be at least 1, got 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("loop.learning_rate=-1", "learning_rate must be positive, got -1"),
        ("loop.workers=-1", "workers must not be negative"),
        ("loop.lr_multipliers={a", "'loop.lr_multipliers={a'"),
        ("options=5", "options must hold keys, got 5"),
    ],
)
def test_a_wrong_setting_is_one_line(text_config, capsys, setting, words):
    assert main(["train", "--config", str(text_config), setting]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ") and words in err and err.count("\n") == 1


def test_weights_in_place_of_a_configuration_are_refused(tmp_path, capsys):
    (tmp_path / "x.safetensors").write_bytes(bytes(range(128, 256)))
    assert main(["train", "--config", str(tmp_path / "x.safetensors")]) == 1
    assert "is not a text file" in capsys.readouterr().err


def test_settings_may_stand_anywhere_among_the_options():
    given = [
        "train",
        "loop.steps=2",
        "--config",
        "a=b.yaml",
        "export=x",
        "--dry-run",
        "--output",
        "c=d",
        "e.f=1",
    ]
    assert settings_last(given) == [
        *("train", "--config", "a=b.yaml", "--dry-run", "--output", "c=d"),
        *("loop.steps=2", "export=x", "e.f=1"),
    ]
    assert settings_last(["infer", "a=b.jpg", "--quiet"]) == ["infer", "a=b.jpg", "--quiet"]


def test_a_dry_run_tells_the_plan_and_keeps_nothing(text_config, tmp_path, capsys):
    output = tmp_path / "run"
    assert main(["train", "--config", str(text_config), "--output", str(output), "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "text_encoder" in told and "3 steps of 2 samples" in told and "one step: loss" in told
    assert "the optimiser's state takes about 0.1 MiB of memory per process" in told  # 2 x 4 x 7992 bytes
    assert not output.exists() and not (tmp_path / "weights").exists()


def test_the_share_of_bad_samples_is_a_setting_of_the_loop(text_config, capsys):
    assert main(["train", "--config", str(text_config), "--max_bad_fraction", "1.5", "--dry-run"]) == 1
    assert "loop: max_bad_fraction must lie in [0, 1), got 1.5" in capsys.readouterr().err


def test_a_run_that_is_stopped_says_so_and_the_same_command_goes_on(
    text_config, tmp_path, monkeypatch, capsys
):
    command = ["train", "--config", str(text_config), "--output", str(tmp_path / "run")]
    forward = TextTask.forward

    def stopping(self, batch, generator):
        os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, batch, generator)

    monkeypatch.setattr(TextTask, "forward", stopping)
    assert main(command) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "weights").exists()
    monkeypatch.setattr(TextTask, "forward", forward)
    assert main(command) == 0
    assert (tmp_path / "weights" / "text_encoder.safetensors").is_file()
