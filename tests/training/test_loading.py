"""Laws of training from published files: a shipped configuration starts from what its preset holds."""

import shutil
from pathlib import Path

import pytest
import torch

from more4d.foundation.config import from_mapping, load_config
from more4d.foundation.errors import ConfigError, WeightsError
from more4d.pipelines.components import Components
from more4d.training.config import TrainConfig
from more4d.training.loading import fingerprint_of, path_of
from more4d.training.run import task_type
from more4d.training.task import Task
from more4d.weights.load import inspect, load
from tests import published_presets as published

CONFIGS = Path(__file__).resolve().parents[2] / "config" / "wan"


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """Published layouts in small, as for `tests/pipelines/test_published_presets.py`."""
    folder = tmp_path_factory.mktemp("published")
    published.write_everything(folder)
    return folder


def task_of(tree: Path, config: str, preset: str = "fun-1.3b", *overrides: str) -> Task:
    """The task of a shipped configuration, on procedural clips of a few pixels."""
    small = [
        f"options.preset={tree}/{preset}.yaml",
        f"options.weights={tree}/models",
        "options.clips=null",
        "options.data={shapes: [[32, 48]], frames: 5, group: 1}",
        "options.gradient_checkpointing=false",
        *overrides,
    ]
    if config.startswith("strag"):
        small.append("options.codec=null")  # the shipped one names what another training exports
    loaded = load_config(TrainConfig, CONFIGS / f"{config}.yaml", small)
    kind = task_type(loaded.task)
    torch.manual_seed(0)
    return kind(from_mapping(kind.options_type, loaded.options))


def loss_of(task: Task) -> torch.Tensor:
    batch = task.collate([task.dataset()[0]])
    return task(batch, torch.Generator().manual_seed(1))["loss"]


def test_strag_starts_from_the_control_transformer_of_its_preset(tree):
    task = task_of(tree, "strag_1.3b")
    before = Components.from_pretrained(tree / "models", preset=str(tree / "fun-1.3b.yaml")).network("strag")
    assert task.options.network == before.config and task.options.clip_image == "photo"
    for name, parameter in task.strag.named_parameters():
        assert torch.equal(parameter, before.get_parameter(name)), name
    loss = loss_of(task)
    loss.backward()
    assert loss.isfinite()
    assert task.strag.transformer.blocks[0].guide_ffn.gate.grad.abs().sum() > 0
    encoders = (task.codec, task.text_encoder, task.clip, task.motion_features)
    assert not any(parameter.requires_grad for network in encoders for parameter in network.parameters())


def test_a_lora_of_vism_is_trained_on_the_preset_with_its_own_lora(tree):
    task = task_of(tree, "vism_1.3b_lora", "moge4d", "options.start.lora.rank=2")
    before = Components.from_pretrained(tree / "models", preset=str(tree / "moge4d.yaml")).network("vism")
    trained = task.vism.transformer.blocks[0].attn1.to_q
    assert torch.equal(trained.base_layer.weight, before.transformer.blocks[0].attn1.to_q.weight)
    loss_of(task).backward()
    assert trained.lora_B["default"].weight.grad.abs().sum() > 0 and trained.base_layer.weight.grad is None


def test_a_fine_tuned_release_is_told_what_the_release_is(tree):
    """Grey for CLIP, its own units of motion and picture of depth: as when the preset is run."""
    task = task_of(tree, "strag_1.3b", "moge4d")
    assert task.options.clip_image == "grey"
    assert task.codec.config.depth_style == "linear"
    assert task.codec.config.motion_units == (0.9583333, 1.3913043, 1.0)
    assert task.options.network.wan.motion_token_alignment == "moge4d"
    assert loss_of(task).isfinite()


def test_a_file_that_is_named_wins_over_the_preset(tree):
    vae = tree / "models" / published.LARGE_FUN[0] / published.VAE_FILE
    task = task_of(tree, "vism_1.3b_lora", "fun-1.3b", f"options.codec={vae}", "options.start.lora.rank=2")
    assert path_of(task.options.codec) == vae
    assert path_of(task.options.text).parent.name == published.FUN[0]


def test_what_is_said_about_reading_a_file_belongs_to_its_content(tree):
    plain = tree / "models" / published.FUN[0] / published.VAE_FILE
    task = task_of(tree, "strag_1.3b", "moge4d")
    assert fingerprint_of(task.options.codec) != fingerprint_of(Path(task.options.codec.file))
    copies = [tree / name / plain.name for name in ("here", "there")]
    for copy in copies:
        copy.parent.mkdir()
        shutil.copy(plain, copy)
    assert fingerprint_of(copies[0]) == fingerprint_of(copies[1])


def test_networks_that_nobody_names_are_one_line(tree):
    kind = task_type("strag")
    with pytest.raises(ConfigError, match=r"(codec|network) is missing"):
        kind(from_mapping(kind.options_type, {}))
    control = tree / "models" / published.FUN[0]
    start = {"weights": {"file": str(control), "options": {"motion_feature_dim": published.FEATURES}}}
    with pytest.raises(ConfigError, match=r"codec is missing.*options\.preset"):
        kind(from_mapping(kind.options_type, {"start": start}))
    with pytest.raises(ConfigError, match="no preset 'nobody'"):
        kind(from_mapping(kind.options_type, {"preset": "nobody"}))


def test_a_start_of_another_kind_is_one_line(tree):
    wrong = tree / "models" / published.FUN[1]
    with pytest.raises(WeightsError, match="strag needs a strag"):
        task_of(tree, "strag_1.3b", "fun-1.3b", f"options.start.weights={wrong}")
    assert load(inspect(wrong, role="vism")) is not None
