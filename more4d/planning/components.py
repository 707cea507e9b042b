"""The networks of a preset by their sizes, whether their files are here or not."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from more4d.networks.conditioners import PUBLISHED_TEXT, ClipVisionConfig
from more4d.networks.motion_perception import OmniMAEConfig
from more4d.networks.strag import STraGConfig
from more4d.networks.trajectory_vae import WanTrajectoryVaeConfig
from more4d.networks.video_vae import WanVideoVaeConfig
from more4d.networks.vism import ViSMConfig
from more4d.networks.wan_config import PUBLISHED
from more4d.pipelines.component_files import inspect_component
from more4d.pipelines.preset import ComponentFile, ComponentFiles, Preset, read_preset
from more4d.weights.inspect import unusable_error
from more4d.weights.load import init_empty
from more4d.weights.registry import ROLES

META = torch.device("meta")


@dataclass(frozen=True, kw_only=True)
class PlannedComponent:
    """A network that plays a part.

    Attributes:
        part: as in `preset.ComponentFiles`.
        architecture: as in `networks.registry`.
        config: of that kind.
    """

    part: str
    architecture: str
    config: Any

    def network(self) -> nn.Module:
        """The network, without content."""
        return init_empty(self.architecture, self.config).to(META).eval()


def _published(size: str, codec: WanTrajectoryVaeConfig) -> dict[str, tuple[str, Any]]:
    return {
        "text": ("umt5-text-encoder", PUBLISHED_TEXT),
        "clip": ("clip-vision", ClipVisionConfig()),
        "motion_features": ("omnimae", OmniMAEConfig()),
        "trajectory_codec": ("wan-trajectory-vae", codec),
        "strag": ("strag", STraGConfig(wan=PUBLISHED[f"strag-{size}"])),
        "video_codec": ("wan-video-vae", WanVideoVaeConfig()),
        "vism": ("vism", ViSMConfig(wan=PUBLISHED[f"inp-{size}"])),
    }


PUBLISHED_COMPONENTS: Mapping[str, Mapping[str, tuple[str, Any]]] = {
    "fun-1.3b": _published("1.3b", WanTrajectoryVaeConfig(adapters="closed")),
    "fun-14b": _published("14b", WanTrajectoryVaeConfig(adapters="closed")),
    "moge4d": _published("14b", WanTrajectoryVaeConfig()),
}
"""Kind and configuration of the parts of presets whose weights people fetch themselves."""


def planned_components(preset: Preset, folder: Path) -> dict[str, PlannedComponent]:
    """The networks of a preset, in the order in which the pipeline loads them.

    Of files that are here the headers are read. The sizes of those that a preset of this project names, and
    that people fetch themselves, are known without.

    Raises:
        WeightsError: a file that is needed to know its size is missing or damaged.
        ConfigError: the preset sets an option that a network does not have.
    """
    return {
        part.name: _planned(part.name, preset, folder)
        for part in fields(ComponentFiles)
        if part.name in ROLES and preset.components.get(part.name) is not None
    }


def _planned(part: str, preset: Preset, folder: Path) -> PlannedComponent:
    file = preset.components.get(part)
    assert file is not None
    path = folder / file.file
    if not path.exists() and file == _shipped(part, preset.name):
        architecture, config = PUBLISHED_COMPONENTS[preset.name][part]
        return PlannedComponent(part=part, architecture=architecture, config=config)
    found = inspect_component(preset, folder, part)
    if found.problems:
        raise unusable_error(path, found)
    return PlannedComponent(part=part, architecture=found.architecture, config=found.config)


def _shipped(part: str, name: str) -> ComponentFile | None:
    """What this project's own preset of that name has for a part, if its sizes are known."""
    return read_preset(name).components.get(part) if part in PUBLISHED_COMPONENTS.get(name, {}) else None
