"""Loading the networks that a task's options name, by file or by preset."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from more4d.files.atomic import content_name
from more4d.foundation.errors import WeightsError
from more4d.networks.strag import TextGrounding
from more4d.pipelines.preset import ComponentFile, LoraFile, find_preset, resolved_options
from more4d.weights.load import inspect, load
from more4d.weights.lora.io import check_lora, read_lora
from more4d.weights.lora.merge import merge_loras

TEXT_GROUNDING_ARCHITECTURE = "prompt-reader"

NetworkFile = Path | ComponentFile
"""A file of any known layout, optionally with configuration values that the file does not hold."""


def preset_file(preset: str | None, weights: Path | None, component: str) -> ComponentFile | None:
    """The file of a component of a preset (`find_preset`); None without a preset or such a component.

    Raises:
        ConfigError: there is no such preset.
        WeightsError: there is no such folder of weights.
    """
    if preset is None and weights is None:
        return None
    found, folder = find_preset(preset, weights)
    file = found.components.get(component)
    return file and ComponentFile(file=str(folder / file.file), options=resolved_options(file, folder))


def preset_loras(preset: str | None, weights: Path | None, component: str) -> tuple[LoraFile, ...]:
    """The LoRA that a preset has for a generator, if any."""
    found, folder = find_preset(preset, weights)
    lora = getattr(found.loras, component)
    return () if lora is None else (replace(lora, file=str(folder / lora.file)),)


def load_component(file: NetworkFile, role: str, loras: tuple[LoraFile, ...] = ()) -> nn.Module:
    """A network in float32 on the CPU, its LoRAs merged.

    Raises:
        WeightsError: its file is missing, truncated or of another network.
        ConfigError: an option names no field of its configuration.
    """
    network = load(inspect(path_of(file), role=role, options=_options(file)))
    for lora in loras:
        check_lora(Path(lora.file), network)
    if loras:
        merge_loras(network, [(read_lora(Path(each.file)), each.strength) for each in loras])
    return network


def open_text_grounding(path: Path) -> TextGrounding:
    """A text grounding head in float32 on the CPU, from its own file or from that of a 4D-STraG.

    Raises:
        WeightsError: the file is missing, truncated or of another network, or its 4D-STraG has no such head.
    """
    network = load(inspect(path, architecture=(TEXT_GROUNDING_ARCHITECTURE, "strag")))
    reader = network if isinstance(network, TextGrounding) else network.reader
    if reader is None:
        raise WeightsError(
            f"{path} holds a 4D-STraG without a text grounding head; give the path of one with it"
        )
    return reader


def network_config(file: NetworkFile, role: str) -> Any:
    """The configuration of a network, from headers; raises as `load_component`."""
    found = inspect(path_of(file), role=role, options=_options(file))
    if found.problems:
        raise found.error()
    return found.config


def path_of(file: NetworkFile) -> Path:
    """The path of a network."""
    return Path(file.file) if isinstance(file, ComponentFile) else file


def fingerprint_of(file: NetworkFile) -> str:
    """Fingerprint of a network: its weights and the options they are read with."""
    return content_name(path_of(file), _options(file))


def _options(file: NetworkFile) -> Mapping[str, Any]:
    return file.options if isinstance(file, ComponentFile) else {}
