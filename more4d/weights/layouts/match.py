"""What a layout is given, and what it answers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from more4d.files.checkpoint_headers import CheckpointHeaders, error_summary
from more4d.foundation.config import from_mapping, with_current_names
from more4d.foundation.errors import ConfigError, WeightsError
from more4d.weights.load import LoadPlan

Config = TypeVar("Config")
MISSING_NUM_HEADS = "does not tell how many attention heads"


@dataclass(frozen=True, kw_only=True)
class CheckpointSource:
    """Weights as they were found.

    Attributes:
        path: what was named: a file, an index or a folder.
        headers: its tensors.
        sibling_config: the `config.json` beside them; empty if there is none.
        role: which part of a preset is asked for; None if nobody asked.
        options: fields of the configuration, by name, that the user sets.
    """

    path: Path
    headers: CheckpointHeaders
    sibling_config: Mapping[str, Any] = field(default_factory=dict)
    role: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shapes(self) -> Mapping[str, Tensor]:
        return self.headers.shapes


@dataclass(frozen=True, kw_only=True)
class LayoutMatch:
    """What weights become. Without a plan they become nothing, and `problems` says why.

    Attributes:
        layout: name of the layout.
        architecture: of the network, a key of `networks.registry.BUILDERS`, or "lora".
        config: its configuration.
        about: one line for people.
        plan: where its tensors come from.
        problems: what speaks against it, besides the tensors themselves, each with its remedy.
        undetermined: what nothing tells about it, with the remedy; `config` then holds a guess, for the tensors'
            sake only.
    """

    layout: str
    architecture: str = ""
    config: Any = None
    about: str
    plan: LoadPlan | None = None
    problems: tuple[str, ...] = ()
    undetermined: str | None = None


def read_sibling_config(path: Path) -> dict[str, Any]:
    """The `config.json` in the folder of weights; {} if there is none.

    Raises:
        WeightsError: it cannot be read, or says nothing.
    """
    config_path = (path if path.is_dir() else path.parent) / "config.json"
    try:
        content = json.loads(config_path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{config_path} cannot be read ({error_summary(error)}); fetch it again"
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{config_path} is no table of settings; fetch it again")
    return content


def build_config(
    kind: type[Config], values: Mapping[str, Any], options: Mapping[str, Any], inner: str | None = None
) -> Config:
    """A configuration from what shapes say and what the user sets.

    Args:
        inner: the field that holds another configuration, whose fields can be set by their name, too.

    Raises:
        ConfigError: an option names no field, or a value is impossible.
    """
    fields = kind.__dataclass_fields__  # type: ignore[attr-defined]
    merged = dict(values)
    inner_type = None if inner is None else fields[inner].type
    options = with_current_names(
        kind, with_current_names(inner_type, options) if inner_type else dict(options)
    )
    for name, value in options.items():
        if name in fields:
            merged[name] = value
        elif inner_type is not None and name in inner_type.__dataclass_fields__:
            merged[inner] = {**merged.get(inner, {}), name: value}
        else:
            known = ", ".join(fields)
            raise ConfigError(f"option '{name}' is no field of {kind.__name__}; known: {known}")
    return from_mapping(kind, merged, where="configuration of the weights")


def count_numbered(shapes: Mapping[str, Any], prefix: str) -> int:
    """How many there are of what is numbered after `prefix`."""
    numbers = {name[len(prefix) :].partition(".")[0] for name in shapes if name.startswith(prefix)}
    return max((int(number) + 1 for number in numbers if number.isdigit()), default=0)


def unexpected_num_layers(
    layers: int, published: int | None, chosen: Any = None, option: str = "layers"
) -> tuple[str, ...]:
    """The problem of a network of a published width that has lost its last blocks, or has some of another.

    Args:
        published: how many blocks the published network of its width has; None for any other width.
        chosen: how many the user says there are.
        option: the field of the configuration that says so.
    """
    if published in (None, layers) or chosen == layers:
        return ()
    return (
        f"has {layers} blocks, and the published network of its width has {published}; fetch it again, or "
        f"set options: {{{option}: {layers}}} in the preset, if it is meant to have so many",
    )


def missing_num_heads(
    what: str, dim: int, role: str | None, *, has_config: bool = False, convertible: bool = True
) -> str:
    """What is said of a network of unusual width: nothing in a shape says how attention is shared out.

    Args:
        has_config: whether a `config.json` beside it would say so.
        convertible: whether a library has a layout for it, which would say so, too.
    """
    beside = "put its config.json, which has num_heads, beside it, or " if has_config else ""
    convert = ", or convert it with --option heads=N" if convertible else ""
    return (
        f"{MISSING_NUM_HEADS} its {what} of width {dim} has; {beside}set options: {{heads: N}} of "
        f"{role or 'its part'} in the preset{convert}"
    )
