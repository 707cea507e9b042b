"""What the tasks of both generators share: where training starts, what of a network is trained and kept."""

from dataclasses import dataclass
from pathlib import Path

import torch

from more4d.files.network_file import write_tensors
from more4d.foundation.errors import ConfigError
from more4d.networks.adapters import LoraOptions, add_lora, lora_tensors
from more4d.networks.registry import BUILDERS
from more4d.networks.strag import STraG, STraGConfig
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.networks.weights import load_network, save_network


@dataclass(frozen=True, kw_only=True)
class StartOptions:
    """Where training starts.

    Attributes:
        weights: a network file to go on from; None starts from nothing.
        lora: train low-rank updates of these sizes instead of all weights.
    """

    weights: Path | None = None
    lora: LoraOptions | None = None


class TrainedGenerator:
    """A generator prepared for training. Not a module: the task holds the network itself."""

    def __init__(self, kind: str, config: STraGConfig | ViSMConfig, start: StartOptions) -> None:
        self.kind, self.start = kind, start
        self.network: STraG | ViSM
        if start.weights is None:
            if start.lora:
                raise ConfigError("a LoRA updates trained weights: set options.start.weights, too")
            self.network = STraG(config) if isinstance(config, STraGConfig) else ViSM(config)
        else:
            self.network = load_network(start.weights, {kind: BUILDERS[kind]})
            if self.network.config != config:
                raise ConfigError(f"options.network is not the network that {start.weights} holds")
        self._updated = add_lora(self.network, start.lora) if start.lora else {}

    def export(self, folder: Path, notes: dict[str, str]) -> Path:
        """Write the network, or the updates alone, in the published layout of LoRA files."""
        if self.start.lora:
            path = folder / f"{self.kind}_lora.safetensors"
            write_tensors(path, lora_tensors(self.network, self._updated, self.start.lora), notes)
            return path
        path = folder / f"{self.kind}.safetensors"
        config = self.network.config
        save_network(path, self.network, kind=self.kind, config=config, notes=notes, dtype=torch.float16)
        return path
