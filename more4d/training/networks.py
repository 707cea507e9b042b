"""The networks that a task names: by their files, or by a preset whose parts they are."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from more4d.foundation.errors import ConfigError, WeightsError
from more4d.networks.layouts import open_network, recognise, unusable
from more4d.networks.lora import merge_loras
from more4d.networks.lora_reading import read_lora
from more4d.networks.prompt_reader import PromptReader
from more4d.networks.registry import BUILDERS
from more4d.networks.weights import load_network
from more4d.pipelines.fingerprint import content_name
from more4d.pipelines.preset import LoraFile, PartFile, find_preset, options_of

READER_KIND = "prompt-reader"

NetworkFile = Path | PartFile
"""A file of any layout that `networks.layouts` knows, perhaps with options of how to read it."""


@dataclass(frozen=True, kw_only=True)
class PresetNetworks:
    """Options of a task that may take its networks from a preset.

    Attributes:
        preset: name of a preset (or its YAML file) whose networks stand in wherever no file is named.
        weights: where the preset's files lie; see `pipelines.preset.find_preset`.
    """

    preset: str | None = None
    weights: Path | None = None


Options = TypeVar("Options", bound=PresetNetworks)


def completed(options: Options, parts: Mapping[str, str]) -> Options:
    """The options with the preset's files where none is named; as they are if no preset is.

    Args:
        parts: part of the preset by the name of the option that names its file; what a preset has not stays
            unnamed.

    Raises:
        ConfigError: there is no such preset.
        WeightsError: there is no such folder of weights.
    """
    named = {
        name: file
        for name, part in parts.items()
        if getattr(options, name) is None and (file := preset_file(options, part)) is not None
    }
    return replace(options, **named)


def preset_file(options: PresetNetworks, part: str) -> PartFile | None:
    """The file of a part in the preset that the options name; None if it has none, or none is named.

    Raises:
        ConfigError: there is no such preset.
        WeightsError: there is no such folder of weights.
    """
    if options.preset is None and options.weights is None:
        return None
    preset, folder = find_preset(options.preset, options.weights)
    file = preset.parts.of(part)
    return file and PartFile(file=str(folder / file.file), options=options_of(file, folder))


def preset_loras(options: PresetNetworks, part: str) -> tuple[LoraFile, ...]:
    """The low-rank updates that a generator has in the preset."""
    if options.preset is None and options.weights is None:
        return ()
    preset, folder = find_preset(options.preset, options.weights)
    lora = getattr(preset.loras, part)
    return () if lora is None else (replace(lora, file=str(folder / lora.file)),)


def open_named(named: NetworkFile, role: str, loras: tuple[LoraFile, ...] = ()) -> nn.Module:
    """A network in float32 on the CPU, its low-rank updates merged.

    Raises:
        WeightsError: its file is missing, truncated or of another network.
        ConfigError: an option names no field of its configuration.
    """
    network = open_network(path_of(named), role=role, options=_options(named))
    if loras:
        merge_loras(network, [(read_lora(Path(each.file)), each.strength) for each in loras], keep="nothing")
    return network


def open_reader(path: Path) -> PromptReader:
    """A prompt reader in float32 on the CPU, from a file of its own or out of a 4D-STraG's.

    Raises:
        WeightsError: the file is missing, truncated or of another network, or its 4D-STraG has no reader.
    """
    network = load_network(path, {kind: BUILDERS[kind] for kind in (READER_KIND, "strag")})
    reader = network if isinstance(network, PromptReader) else network.reader
    if reader is None:
        raise WeightsError(f"{path} holds a 4D-STraG without a prompt reader; give the path of one with it")
    return reader


def config_of(named: NetworkFile, role: str) -> Any:
    """The configuration of a network, from headers.

    Raises:
        WeightsError: its file is missing, truncated or of another network.
        ConfigError: an option names no field of its configuration.
    """
    found = recognise(path_of(named), role=role, options=_options(named))
    if found.problems:
        raise unusable(path_of(named), found)
    return found.config


def path_of(named: NetworkFile) -> Path:
    """Where a network lies."""
    return Path(named.file) if isinstance(named, PartFile) else named


def content_of(named: NetworkFile) -> str:
    """A short name for what a network is made of."""
    return content_name(path_of(named), _options(named))


def needed(options: PresetNetworks, *names: str) -> None:
    """Refuse options that name neither these files nor a preset.

    Raises:
        ConfigError: says which is missing.
    """
    missing = [name for name in names if getattr(options, name) is None]
    if missing:
        raise ConfigError(
            f"options: {missing[0]} is missing; name its file, or a preset that has it (options.preset)"
        )


def _options(named: NetworkFile) -> Mapping[str, Any]:
    return named.options if isinstance(named, PartFile) else {}
