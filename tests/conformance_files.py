"""Reference outputs for tiny random weights in the published layouts."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor


@dataclass(frozen=True)
class Conformance:
    """Configuration, weights by their published names, inputs, and what the reference computes for them."""

    config: dict[str, Any]
    weights: dict[str, Tensor]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    tolerance: float

    def agrees(self, computed: Tensor, name: str) -> bool:
        """Whether every element is within the tolerance of output `name`."""
        expected = self.outputs[name]
        assert computed.shape == expected.shape
        return (computed - expected).abs().max().item() <= self.tolerance


@pytest.fixture
def conformance(shared: Path) -> Callable[[str], Conformance]:
    """Loads the fixture of a name; the test is skipped where the real data is absent."""

    def load(name: str) -> Conformance:
        folder = shared / "conformance"
        described = json.loads((folder / f"{name}_a.json").read_text())
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "inputs": {}, "outputs": {}}
        for key, tensor in load_file(folder / f"{name}_a.safetensors").items():
            part, _, rest = key.partition(".")
            parts.get(part, parts["weights"])[rest] = tensor  # a LoRA's weights have a prefix of their own
        return Conformance(config=described["config"], tolerance=described["tolerance"]["atol"], **parts)

    return load


@pytest.fixture
def published_folder(conformance, tmp_path: Path):
    """A folder with a transformer of a fixture, as it is published."""

    def make(name: str) -> Path:
        reference = conformance(name)
        folder = tmp_path / name
        folder.mkdir()
        save_file(reference.weights, folder / "diffusion_pytorch_model.safetensors")
        (folder / "config.json").write_text(json.dumps(reference.config))
        return folder

    return make


@pytest.fixture
def pth(conformance, tmp_path: Path):
    """The weights of a fixture as a file of torch.save."""

    def make(name: str) -> Path:
        torch.save(conformance(name).weights, tmp_path / f"{name}.pth")
        return tmp_path / f"{name}.pth"

    return make
