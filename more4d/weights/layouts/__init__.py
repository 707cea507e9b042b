"""Layouts of weight files: by which names a file is known, and what it becomes. Here: what several need."""

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor

from more4d.files.problems import Problem, ProblemCode
from more4d.foundation.config import from_mapping, with_current_names
from more4d.foundation.errors import ConfigError
from more4d.weights.registry import (
    MOST_BLOCKS,
    CheckpointSource,
    ImpossibleSizeError,
    TooFewAxesError,
    check_sizes,
)

Config = TypeVar("Config")


def build_config(
    kind: type[Config], values: Mapping[str, Any], options: Mapping[str, Any], inner: str | None = None
) -> Config:
    """A configuration from what shapes give and what the user sets.

    Args:
        inner: the field that holds another configuration, whose fields can be set by their name, too.

    Raises:
        ConfigError: an option names no field, or a value is impossible.
        ImpossibleSizeError: as `check_sizes`.
    """
    known_fields = kind.__dataclass_fields__  # type: ignore[attr-defined]
    merged = dict(values)
    inner_type = None if inner is None else known_fields[inner].type
    options = with_current_names(
        kind, with_current_names(inner_type, options) if inner_type else dict(options)
    )
    for name, value in options.items():
        if name in known_fields:
            merged[name] = value
        elif inner_type is not None and name in inner_type.__dataclass_fields__:
            merged[inner] = {**merged.get(inner, {}), name: value}
        else:
            known = ", ".join(known_fields)
            raise ConfigError(f"option '{name}' is no field of {kind.__name__}; known: {known}")
    config = from_mapping(kind, merged, where="configuration of the weights")
    check_sizes(config)
    return config


def side(shapes: Mapping[str, Tensor], name: str, axis: int, default: Any = None) -> Any:
    """Length of an axis of the tensor `name`; `default` if it is not there.

    Raises:
        TooFewAxesError: as `axis_length`.
    """
    return axis_length(shapes[name], axis) if name in shapes else default


def axis_length(tensor: Tensor, axis: int) -> int:
    """Length of an axis, which may be counted from the last one (-1).

    Raises:
        TooFewAxesError: there is no such axis; `weights.load` says so of the file.
    """
    if not -tensor.ndim <= axis < tensor.ndim:
        raise TooFewAxesError(f"a tensor of shape {tuple(tensor.shape)} has no axis {axis}")
    return tensor.shape[axis]


def count_numbered(shapes: Mapping[str, Any], prefix: str) -> int:
    """How many modules are numbered after `prefix`.

    Raises:
        ImpossibleSizeError: more than any network has; `weights.load` says so of the file.
    """
    numbers = {name[len(prefix) :].partition(".")[0] for name in shapes if name.startswith(prefix)}
    # Python refuses to convert thousands of digits; a tensor with such a name is one that is not expected.
    count = max((int(number) + 1 for number in numbers if number.isdecimal() and len(number) < 10), default=0)
    if count > MOST_BLOCKS:
        raise ImpossibleSizeError(
            f"claims {count} blocks ('{prefix}'), and at most {MOST_BLOCKS} are possible"
        )
    return count


def unexpected_num_layers(
    layers: int, published: int | None, chosen: Any = None, option: str = "layers"
) -> tuple[Problem, ...]:
    """The problem of a network of a published width that has lost its last blocks, or has some of another.

    Args:
        published: how many blocks the published network of its width has; None for any other width.
        chosen: how many the user sets.
        option: the field of the configuration that sets it.
    """
    if published in (None, layers) or chosen == layers:
        return ()
    text = (
        f"has {layers} blocks, and the published network of its width has {published}; fetch it again, or "
        f"set options: {{{option}: {layers}}} in the preset, if it is meant to have so many"
    )
    return (Problem(ProblemCode.CONFIG, text),)


def missing_num_heads(
    values: dict[str, Any],
    source: CheckpointSource,
    what: str,
    *,
    has_config: bool = False,
    convertible: bool = True,
) -> Problem | None:
    """The problem of a network of unusual width: no shape gives its number of attention heads; None if known.

    Where it is not known, it becomes 1 in `values`, the fields of the configuration, so that tensors can be
    compared.

    Args:
        has_config: whether a `config.json` beside it would give it.
        convertible: whether a library has a layout for it, which would give it, too.
    """
    known = "heads" in values or "heads" in source.options
    values.setdefault("heads", 1)
    if known:
        return None
    advice = "put its config.json, which has num_heads, beside it, or " if has_config else ""
    convert = ", or convert it with the option heads=N" if convertible else ""
    text = (
        f"does not say how many attention heads its {what} of width {values['dim']} has; {advice}set "
        f"options: {{heads: N}} of {source.role or 'its component'} in the preset{convert}"
    )
    return Problem(ProblemCode.UNDETERMINED, text)
