"""Every configuration that is shipped is one that its task takes."""

from pathlib import Path

import pytest

from more4d.foundation.config import from_mapping, load_config
from more4d.training.config import TrainConfig
from more4d.training.run import task_type
from more4d.weights.load import inspect, load

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "config").glob("*/*.yaml")
    if path.parent.name not in ("presets", "weights")
)


@pytest.mark.parametrize("path", CONFIGS)
def test_a_shipped_configuration_fits_its_task(path):
    config = load_config(TrainConfig, ROOT / path)
    options = from_mapping(task_type(config.task).options_type, config.options)
    data = getattr(options, "clips", None) or getattr(options, "data", None)
    # A batch has one shape only if it is a group.
    assert getattr(data, "group", config.loop.batch_size) % config.loop.batch_size == 0


def test_there_is_a_configuration_for_each_published_network():
    assert {f"config/wan/strag_{size}.yaml" for size in ("1.3b", "14b")} < set(CONFIGS)
    assert {f"config/wan/vism_{size}_lora.yaml" for size in ("1.3b", "14b")} < set(CONFIGS)


@pytest.mark.parametrize("part", ["strag", "vism"])
def test_a_lora_of_the_bundled_networks_fits_them(part, monkeypatch):
    """It names no sizes of its own, which other weights would contradict."""
    monkeypatch.chdir(ROOT)
    config = load_config(TrainConfig, ROOT / f"config/tiny/{part}_lora.yaml")
    assert "network" not in config.options
    task = task_type(config.task)
    built = task(from_mapping(task.options_type, config.options))
    held = load(inspect(ROOT / f"models/tiny/{part}.safetensors")).config
    assert built.options.network == held
