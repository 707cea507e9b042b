"""What the files of a preset's parts are, and which part a preset can do without."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from more4d.networks.layouts import Recognised, recognise
from more4d.networks.registry import ROLES
from more4d.pipelines.preset import PartFile, Preset, options_of

OURS = "more4d"
"""The layout of files that this project writes; they carry their configuration."""

_log = logging.getLogger(__name__)


def recognise_part(preset: Preset, folder: Path, part: str) -> Recognised:
    """What the file of a part is, by its header, read as the preset says; a file of ours says it itself.

    Args:
        part: a key of `networks.registry.ROLES` that the preset has.

    Raises:
        WeightsError: there is no such file, or a folder holds no one set of weights.
        ConfigError: the preset sets an option that its network does not have.
    """
    path = path_of(preset, folder, part)
    found = recognise(path, role=part)
    if found.kind in ROLES[part] and found.layout != OURS and (options := part_options(preset, folder, part)):
        return recognise(path, role=part, options=options)
    return found


def hears_motion_features(strag: Recognised) -> bool:
    """Whether motion features can change anything: Motion Perception that is new has gates of zero."""
    return strag.config is None or (strag.config.wan.motion_feature_dim is not None and not strag.new)


def without_unheard(preset: Preset, folder: Path, *, updated: bool = False) -> Preset:
    """The preset without motion features, if their file is missing and 4D-STraG would not hear them.

    Its new Motion Perception is left out with them, which is exact: what it adds is multiplied by zero.

    Args:
        updated: whether low-rank updates of 4D-STraG are given, which may open those gates.

    Raises:
        WeightsError, ConfigError: as `recognise_part`.
    """
    features, strag = preset.parts.motion_features, preset.parts.of("strag")
    if features is None or strag is None or updated or preset.loras.strag is not None:
        return preset
    if path_of(preset, folder, "motion_features").exists() or not path_of(preset, folder, "strag").exists():
        return preset
    found = recognise_part(preset, folder, "strag")
    if found.problems or hears_motion_features(found):
        return preset
    _log.info(
        "%s is not there; %s has no Motion Perception yet, so it moves points the same way without",
        path_of(preset, folder, "motion_features"),
        path_of(preset, folder, "strag"),
    )
    if found.new:
        strag = replace(strag, options={**strag.options, "motion_feature_dim": None})
    return replace(preset, parts=replace(preset.parts, motion_features=None, strag=strag))


def file_of(preset: Preset, part: str) -> PartFile:
    """The file of a part that the preset has, with its options."""
    file = preset.parts.of(part)
    if file is None:
        raise ValueError(f"preset '{preset.name}' has no {part}")
    return file


def path_of(preset: Preset, folder: Path, part: str) -> Path:
    """Where the file of a part is."""
    return folder / file_of(preset, part).file


def part_options(preset: Preset, folder: Path, part: str) -> dict[str, Any]:
    """What the preset says about reading a part's file."""
    return options_of(file_of(preset, part), folder)
