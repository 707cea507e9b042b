"""What the files of a preset's components are, and which component a preset can do without."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from more4d.files.atomic import content_name
from more4d.foundation.errors import ConfigError, checked
from more4d.pipelines.preset import ComponentFile, LoraFiles, Preset, resolved_options
from more4d.weights.load import Checkpoint, inspect
from more4d.weights.registry import ROLES

NATIVE_LAYOUT = "more4d"
"""The layout of files that this project writes; they carry their configuration."""

CODEC_METADATA_KEY = "trajectory_codec"
"""What a 4D-STraG of this project notes under this name: the content of the codec it was trained with."""

_log = logging.getLogger(__name__)


@checked
@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank updates to merge into a generator, as `weights.lora` reads them.

    Attributes:
        path: of the file.
        strength: 1 for what was trained, less or more for less or more of it.
    """

    path: Path
    strength: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))


def inspect_component(preset: Preset, folder: Path, component: str) -> Checkpoint:
    """What the file of a component is, by its header and, for published layouts, the options of the preset.

    Args:
        component: a key of `weights.registry.ROLES` that the preset has.

    Raises:
        WeightsError: there is no such file, or a folder holds no one set of weights.
        ConfigError: the preset sets an option that its network does not have.
    """
    # Options of the preset apply to published layouts; own files carry their configuration.
    path = component_path(preset, folder, component)
    found = inspect(path, role=component)
    if (
        found.architecture in ROLES[component]
        and found.layout != NATIVE_LAYOUT
        and (options := component_options(preset, folder, component))
    ):
        return inspect(path, role=component, options=options)
    return found


def uses_motion_features(strag: Checkpoint) -> bool:
    """Whether motion features can change anything: Motion Perception that is new has gates of zero."""
    # h <- h (1 + s g) + b g: at g = 0 features s, b have no effect.
    return strag.config is None or (strag.config.wan.motion_feature_dim is not None and not strag.new)


def drop_unused_motion_features(preset: Preset, folder: Path, *, updated: bool = False) -> Preset:
    """The preset without motion features, if their file is missing and 4D-STraG would not use them.

    Its new Motion Perception is left out with them, which is exact: what it adds is multiplied by zero.

    Args:
        updated: whether low-rank updates of 4D-STraG are given, which may open those gates.

    Raises:
        WeightsError, ConfigError: as `inspect_component`.
    """
    features, strag = preset.components.motion_features, preset.components.get("strag")
    if features is None or strag is None or updated or preset.loras.strag is not None:
        return preset
    # Present files are used; without a generator there is nothing to decide.
    if (
        component_path(preset, folder, "motion_features").exists()
        or not component_path(preset, folder, "strag").exists()
    ):
        return preset
    found = inspect_component(preset, folder, "strag")
    if found.problems or uses_motion_features(found):
        return preset
    _log.info(
        "%s is not there; %s has no Motion Perception yet, so it moves points the same way without",
        component_path(preset, folder, "motion_features"),
        component_path(preset, folder, "strag"),
    )
    # `new`: parameters that the file lacks and that are initialised to have no effect.
    if found.new:
        strag = replace(strag, options={**strag.options, "motion_feature_dim": None})
    return replace(preset, components=replace(preset.components, motion_features=None, strag=strag))


def check_conditions(preset: Preset, strag: Checkpoint) -> None:
    """Refuse motion features that 4D-STraG does not take.

    Raises:
        ConfigError: names the file.
    """
    wan = strag.config.wan
    if preset.components.motion_features is not None and wan.motion_feature_dim is None:
        raise ConfigError(
            f"preset '{preset.name}' has motion_features, and its 4D-STraG {strag.path} takes none: leave "
            "that component out, or give another file for strag, with Motion Perception"
        )


def check_reach(strag: Checkpoint, reach: Checkpoint) -> None:
    """Refuse a motion reach of other sizes than 4D-STraG: `ConfigError`, which names the files."""
    wan = strag.config.wan
    if (reach.config.dim, reach.config.blocks) != (wan.dim, wan.layers):
        raise ConfigError(
            f"{reach.path} does not fit {strag.path}; give the one that was trained with it (--part "
            "motion_reach=FILE), or no motion reach"
        )


def component_file(preset: Preset, component: str) -> ComponentFile:
    """The file of a component that the preset has, with its options."""
    file = preset.components.get(component)
    if file is None:
        raise ValueError(f"preset '{preset.name}' has no {component}")
    return file


def component_path(preset: Preset, folder: Path, component: str) -> Path:
    """Where the file of a component is."""
    return folder / component_file(preset, component).file


def has_small_depth(preset: Preset, folder: Path) -> bool:
    """Whether depth is estimated by the small network, whose file is there."""
    if preset.depth_estimator != "small" or preset.components.get("depth") is None:
        return False
    return component_path(preset, folder, "depth").is_file()


def component_options(preset: Preset, folder: Path, component: str) -> dict[str, Any]:
    """The options with which the preset reads a component's file."""
    return resolved_options(component_file(preset, component), folder)


def all_loras(
    folder: Path, own: LoraFiles, given: Mapping[str, Sequence[Lora]]
) -> dict[str, tuple[Lora, ...]]:
    """The updates of each generator: the preset's own, then those that were given.

    Raises:
        ConfigError: they are given for a component that takes none.
    """
    found, known = {}, [field.name for field in fields(LoraFiles)]
    if unknown := set(given) - set(known):
        raise ConfigError(f"there are no LoRAs of '{unknown.pop()}'; give them for {' or '.join(known)}")
    for component in known:
        named = getattr(own, component)
        first = () if named is None else (Lora(path=folder / named.file, strength=named.strength),)
        if each := (*first, *given.get(component, ())):
            found[component] = each
    return found


def warn_of_training(
    preset: Preset, folder: Path, strag: Checkpoint, codec: Checkpoint, loras: Sequence[Lora]
) -> None:
    """Warn where 4D-STraG was not trained on trajectories, or with another codec than the preset's."""
    path, trained_with = component_path(preset, folder, "strag"), {}
    if strag.untrained:
        _log.warning(
            "%s has never learned trajectories, so the motion it makes means nothing yet; fine-tune it "
            "with scripts/4D_STraG_training, then give the result as component strag (--part strag=FILE)",
            path,
        )
    if strag.layout == NATIVE_LAYOUT and path.is_file():
        trained_with[path] = strag.notes.get(CODEC_METADATA_KEY)
    # A LoRA was trained on top of a generator, with the codec of its own training.
    for lora in loras:
        trained_with[lora.path] = inspect(lora.path).notes.get(CODEC_METADATA_KEY)
    if not any(trained_with.values()):
        return
    codec_path = component_path(preset, folder, "trajectory_codec")
    own = codec.layout == NATIVE_LAYOUT
    # A name for the content of the codec, as training has noted it.
    here = content_name(codec_path, {} if own else component_options(preset, folder, "trajectory_codec"))
    for trained, name in trained_with.items():
        if name not in (None, here):
            _log.warning(
                "%s was trained with another trajectory codec than %s, so the motion it makes means "
                "nothing; give the codec of its training as that component (--part trajectory_codec=FILE)",
                trained,
                codec_path,
            )
