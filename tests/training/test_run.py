"""Laws of whole runs, from a configuration to exported weights."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from more4d.foundation.errors import ConfigError
from more4d.training.journal import read_journal
from more4d.training.run import build_task, run
from more4d.training.runtime import check_zero_settings
from more4d.weights.state import read_tensors
from tests.training.fit_line import FitLine

TEXT = {
    "task": "text",
    "export": "to be set",
    "loop": {
        "steps": 3,
        "batch_size": 2,
        "workers": 0,
        "precision": "no",
        "save_every": 1,
        "log_every": 1,
        "warmup_steps": 1,
    },
    "options": {"network": {"dim": 16, "layers": 1, "heads": 2, "head_dim": 8, "ff": 16}, "heads": 2},
}


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A function that trains the text encoder in a folder; returns all losses and the exported weights."""
    monkeypatch.setattr("more4d.datasets.procedural.VOCABULARY_SCENES", 40)
    path = tmp_path / "text.yaml"
    path.write_text(yaml.safe_dump(TEXT))

    def train(name, *settings):
        (exported,) = run(path, tmp_path / name, [f"export={tmp_path / name / 'weights'}", *settings])
        tensors = read_tensors(exported)
        return [line["loss"] for line in read_journal(tmp_path / name)], tensors

    return train


def equal(one, other):
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_a_run_is_a_function_of_its_seed(trained):
    torch.manual_seed(1)
    losses, weights = trained("one")
    torch.manual_seed(2)  # whatever was drawn before
    again, same = trained("again")
    assert losses == again and equal(weights, same)
    others, differ = trained("other", "loop.seed=1")
    assert losses[0] != others[0] and not equal(weights, differ)


def test_one_process_trains_in_one_precision_after_the_other(trained):
    plain, _ = trained("plain")
    lowered, _ = trained("lowered", "loop.precision=bf16")
    assert plain != lowered
    assert trained("plain again")[0] == plain


def test_a_run_does_not_go_on_with_another_seed_but_with_another_tolerance(trained):
    trained("run", "loop.steps=2")
    with pytest.raises(ConfigError, match=r"begun with loop\.seed=0, not 4"):
        trained("run", "loop.seed=4")
    losses, _ = trained("run", "loop.max_bad_fraction=0.1")
    assert len(losses) == 3


@dataclass(frozen=True)
class NoOptions:
    pass


class RandomLine(FitLine):
    """Weights as torch draws them, some of them frozen."""

    def __init__(self, options):
        super().__init__()
        self.layer, self.frozen = nn.Linear(1, 6), nn.Linear(1, 6).requires_grad_(False)


def test_frozen_weights_are_a_function_of_the_seed_too():
    first, second, other = (build_task(RandomLine, NoOptions(), seed).state_dict() for seed in (0, 0, 1))
    assert equal(first, second)
    assert not torch.equal(first["frozen.weight"], other["frozen.weight"])
    assert not torch.equal(first["layer.weight"], other["layer.weight"])


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"optimizer": {"type": "AdamW"}, "zero_optimization": {"stage": 2}}, "optimizer"),
        ({"scheduler": {"type": "WarmupLR"}}, "scheduler"),
        ({"fp16": {"enabled": True}}, "fp16"),
    ],
)
def test_a_deepspeed_file_of_another_project_is_refused_by_the_key_to_remove(tmp_path, settings, key):
    (tmp_path / "ds.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match=rf"ds\.json: remove the key '{key}'"):
        check_zero_settings(str(tmp_path / "ds.json"))


def test_deepspeed_files_that_leave_it_to_the_run_are_taken(tmp_path):
    for file in Path("config").glob("zero_stage*.json"):
        check_zero_settings(str(file))
    (tmp_path / "ds.json").write_text('{"fp16": {"enabled": "auto"}, "train_batch_size": 8}')
    check_zero_settings(str(tmp_path / "ds.json"))
    check_zero_settings(None)
    with pytest.raises(ConfigError, match="cannot read"):
        check_zero_settings(str(tmp_path / "none.json"))
