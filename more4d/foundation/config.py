"""What determines a run: configuration from YAML and dotted overrides, bundled files, and seeds.

YAML is read into frozen dataclasses; an unknown key is an error with a suggestion.

Configurations of networks in weight files may use former names of keys and values, which are translated when
they are read. Written files have the current names only.
"""

import dataclasses
import difflib
import hashlib
import math
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from more4d.foundation.documents import DocumentError, parse_yaml, read_text
from more4d.foundation.errors import ConfigError, InputError, shown

if TYPE_CHECKING:
    import numpy as np
    import torch

Config = TypeVar("Config")


def load_config(cls: type[Config], path: Path, overrides: list[str] | None = None) -> Config:
    """Read a YAML file into the dataclass `cls`, then apply `key.sub=value` overrides.

    The file and the paths in it may be bundled ones, named relative to the root of the clone.

    Raises:
        ConfigError: the file is missing or not YAML, a key is unknown, or a value has the wrong type.
    """
    text = read_text(find_file(Path(path)), "a configuration (YAML)", ConfigError, empty=True)
    try:
        values = parse_yaml(text, (None, dict)) or {}
    except DocumentError as error:
        raise ConfigError(f"{path} {error}") from error
    for override in overrides or []:
        _apply_override(values, override)
    return from_mapping(cls, values, where=str(path))


def from_mapping(cls: type[Config], values: dict[str, Any], *, where: str = "configuration") -> Config:
    """Build the dataclass `cls` from nested mappings, checking every key and type."""
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    built = {}
    for key, value in with_current_names(cls, values).items():
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else f"; known keys: {', '.join(fields)}"
            raise ConfigError(f"{where}: unknown key '{key}'{hint}")
        built[key] = _convert(hints[key], value, f"{where}: {key}")
    missing = [
        name
        for name, field in fields.items()
        if name not in built
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{where}: missing key '{missing[0]}'")
    return cls(**built)


def parse_overrides(overrides: list[str]) -> dict[str, Any]:
    """The values of a list of `key=value` overrides as nested mappings.

    Raises:
        ConfigError: an override does not have this form, or its value is not valid YAML.
    """
    values: dict[str, Any] = {}
    for override in overrides:
        _apply_override(values, override)
    return values


def to_mapping(config: Any) -> dict[str, Any]:
    """The inverse of `from_mapping`: plain nested dicts, lists and scalars."""
    return {field.name: _to_plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def _to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_mapping(value)
    if isinstance(value, (tuple, list)):
        return [_to_plain(item) for item in value]
    return value


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"'{override}' is not of the form key=value")
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"'{override}': '{parent}' holds no keys of its own")
    try:
        values[last] = parse_yaml(text)
    except DocumentError as error:
        raise ConfigError(f"{shown(override)}: the value {error}; quote it?") from error


def _check_literal(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is False and "no" in arguments:  # YAML reads no as false
        return "no"
    if value not in arguments:
        raise ConfigError(f"{where} must be one of {', '.join(map(str, arguments))}; got {shown(value)}")
    return value


def _alternative(alternatives: tuple[Any, ...], value: Any) -> Any:
    """The alternative of a union that fits `value`: a dataclass for a mapping, else the first other type."""
    alternatives = tuple(cls for cls in alternatives if cls is not type(None))
    wanted = [cls for cls in alternatives if dataclasses.is_dataclass(cls) == isinstance(value, dict)]
    return (wanted or alternatives)[0]


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(_alternative(arguments, value), value, where)
    if (dataclasses.is_dataclass(hint) or origin is dict or hint is dict) and not isinstance(value, dict):
        raise ConfigError(f"{where} must hold keys, got {shown(value)}")
    if dataclasses.is_dataclass(hint):
        return from_mapping(hint, value, where=where)  # type: ignore[arg-type]
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} must be a list, got {shown(value)}")
        variadic = len(arguments) == 2 and arguments[1] is Ellipsis
        if not variadic and len(value) != len(arguments):
            raise ConfigError(f"{where} needs {len(arguments)} values, got {shown(value)}")
        alternatives = [arguments[0]] * len(value) if variadic else list(arguments)
        return tuple(_convert(k, v, where) for k, v in zip(alternatives, value, strict=True))
    if origin is typing.Literal:
        return _check_literal(arguments, value, where)
    if origin is dict or hint is dict:
        return dict(value)
    if hint is float and isinstance(value, str):  # YAML reads 1e-4 as text
        try:
            number = float(value)
        except ValueError as error:
            raise ConfigError(f"{where} must be a number, got {shown(value)}") from error
        if not math.isfinite(number):
            raise ConfigError(f"{where} must be finite, got {value}; give a large number, such as 1e30")
        return number
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path:
        return find_file(Path(value))
    if isinstance(hint, type) and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
        raise ConfigError(f"{where} must be {hint.__name__}, got {shown(value)}")
    return value


# class of the configuration -> {former key: current key}, in the headers of models/tiny
KEYS: dict[str, dict[str, str]] = {
    "WanConfig": {"guidance_alignment": "motion_token_alignment"},
    "STraGConfig": {"reader": "text_grounding"},
    "TextGroundingConfig": {"comparisons": "self_attention_blocks", "sharpness": "inverse_temperature"},
}

# (class, current key) -> {former value: current value}
VALUES: dict[tuple[str, str], dict[Any, Any]] = {
    ("WanConfig", "motion_token_alignment"): {"front": "aligned", "published": "moge4d"},
}

# class -> {former key: the only value that is still read} of removed keys; other values are refused
REMOVED: dict[str, dict[str, Any]] = {"WanConfig": {"control_adapter": False}}


def with_current_names(cls: type, values: dict[str, Any]) -> dict[str, Any]:
    """Values of a stored configuration of class `cls` under current keys; nested mappings are unchanged."""
    keys, removed = KEYS.get(cls.__name__, {}), REMOVED.get(cls.__name__, {})
    renamed = {}
    for former, value in values.items():
        if former in removed and value == removed[former]:
            continue
        key = keys.get(former, former)
        choices = VALUES.get((cls.__name__, key), {})
        renamed[key] = choices.get(value, value) if isinstance(value, str) else value
    return renamed


PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of the package `more4d`."""
INSTALLED = PACKAGE / "resources"
"""Exists in an installed wheel only."""


def resource_root(package: Path = PACKAGE) -> Path:
    """The folder that holds `models/tiny`, `config` and `examples`, in a wheel or in a clone.

    Args:
        package: folder of the package.
    """
    installed = package / INSTALLED.name
    return installed if installed.is_dir() else package.parent


ROOT = resource_root()
BUNDLED_WEIGHTS = ROOT / "models" / "tiny"
"""Weights of the default preset, with its `preset.yaml`."""
PRESETS = ROOT / "config" / "presets"
SAMPLES = ROOT / "examples" / "samples.jsonl"
"""Photos and prompts that `more4d infer` uses when none are given."""
USER_WEIGHTS = Path("models") if INSTALLED.is_dir() else ROOT / "models"
"""Default folder of weights the user provides: of the clone, or of the working directory for a wheel."""


def find_file(path: Path) -> Path:
    """A file of the user, or else the bundled file of that relative path.

    So `config/tiny/strag_lora.yaml` and the files in `models/tiny` that it names are found from any folder.

    Args:
        path: absolute, or relative to the working directory or to the root of the clone.

    Returns:
        `path` itself if it exists, or if there is no bundled file of this name.
    """
    bundled = ROOT / path
    return bundled if not path.exists() and bundled.is_file() else path


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part, such as (seed, step, rank), and on their order."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def torch_generator(*parts: int | str, device: "str | torch.device" = "cpu") -> "torch.Generator":
    """A generator seeded by `derive_seed(*parts)`."""
    import torch  # not above: configurations are checked before torch is loaded

    return torch.Generator(device=device).manual_seed(derive_seed(*parts))


def drawn_seed(seed: int | None, generator: "torch.Generator | None") -> int:
    """The seed, by default 0, or one that the generator draws; `InputError` if there are both."""
    import torch

    if generator is None:
        return int(seed or 0)
    if seed is not None:
        raise InputError(
            f"seed {seed} and a generator both say what noise is drawn; leave out one of the two"
        )
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))


def numpy_generator(*parts: int | str) -> "np.random.Generator":
    """A numpy generator seeded by `derive_seed(*parts)`."""
    import numpy as np

    return np.random.default_rng(derive_seed(*parts))
