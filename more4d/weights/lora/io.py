"""LoRA files: read in every style, written in kohya's and PEFT's.

Prefix, module name and part of each key are parsed separately, so that a file may mix styles. Besides
low-rank updates it may hold differences of whole tensors (`.diff`, `.diff_b`, `.diff_m`). diffusers' own
converters are not used: they raise on MoRe4D's `lora_unet__blocks_...`, and cannot check shapes alone.
"""

import json
import logging
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from more4d.files.atomic import write_bytes
from more4d.files.checkpoint_headers import read_headers
from more4d.files.problems import Problem
from more4d.files.problems import ProblemCode as Code
from more4d.foundation.documents import parse_json
from more4d.foundation.errors import ConfigError, WeightsError
from more4d.networks.strag import STraG
from more4d.networks.vism import ViSM
from more4d.weights.lora.keys import (
    DIFFUSERS_PREFIX,
    ORIGINAL_PREFIX,
    PEFT_PREFIX,
    UNDERSCORED_PREFIXES,
    WRITTEN_STYLES,
    Style,
    WrittenStyle,
    module_of,
    original_parameter,
    parameter_of,
    strip_prefix,
    styled_name,
)
from more4d.weights.lora.merge import (
    LoraUpdates,
    LowRank,
    WeightDelta,
    fitting_updates,
    text_to_video_entry,
)
from more4d.weights.state import is_finite, read_tensors, write_tensors

PEFT_METADATA_KEY = "lora_adapter_metadata"  # of PEFT's settings in the header of a file by diffusers
PEFT_CONFIG_FILE = "adapter_config.json"
PEFT_WEIGHTS_FILE = "adapter_model.safetensors"
PEFT_WEIGHTS_FILES = (PEFT_WEIGHTS_FILE, "adapter_model.bin")

_PARTS = (
    ("down", re.compile(r"\.(?:lora_down|lora\.down|lora_A(?:\.[^.]+)?)\.weight$")),
    ("up", re.compile(r"\.(?:lora_up|lora\.up|lora_B(?:\.[^.]+)?)\.weight$")),
    ("alpha", re.compile(r"\.alpha$")),
    ("weight", re.compile(r"\.diff$")),
    ("bias", re.compile(r"\.diff_b$")),
    ("scaled bias", re.compile(r"\.lora_B(?:\.[^.]+)?\.bias$")),
    ("modulation", re.compile(r"\.diff_m$")),
)
_DELTA_SUFFIXES = {"weight": "diff", "bias": "diff_b", "scale_shift_table": "diff_m"}
_log = logging.getLogger(__name__)

_OTHER_METHODS = re.compile(r"dora_scale|lora_magnitude_vector|lokr_|hada_|oft_|boft_|lora_mid")


class LoraError(WeightsError):
    """A LoRA that cannot be used, as one line; `problem` is the same without the file."""

    def __init__(self, where: str, code: Code, text: str) -> None:
        super().__init__(f"{where}: {text}")
        self.problem = Problem(code, text)


def lora_style(names: Iterable[str]) -> Style | None:
    """The style of a file with these keys, from the first that belongs to a LoRA; None if none does."""
    for key in names:
        name, part = _split(key)
        if part is None or _target(name, part) is None:
            continue
        if name.startswith(UNDERSCORED_PREFIXES):
            return "kohya"
        if name.startswith(PEFT_PREFIX):
            return "peft"
        module = module_of(name)
        renamed = module is not None and strip_prefix(name) != module.removeprefix(DIFFUSERS_PREFIX)
        return "original" if ORIGINAL_PREFIX in name or renamed else "diffusers"
    return None


def read_lora(path: Path) -> LoraUpdates:
    """The updates in a file of any style, or in a folder as PEFT writes it.

    Raises:
        WeightsError: the file cannot be read, or a tensor in it is no update of a Wan transformer.
    """
    return parse_lora(read_tensors(path), read_peft_config(path), where=str(path))


def judge_lora(path: Path, shapes: Mapping[str, Tensor]) -> tuple[LoraUpdates | None, tuple[Problem, ...]]:
    """The updates in a LoRA, from shapes alone, by the rules of merging; or why it is refused."""
    try:
        return parse_lora(shapes, read_peft_config(path), where=str(path)), ()
    except LoraError as error:
        return None, (error.problem,)
    except WeightsError as error:
        return None, (Problem(Code.UNREADABLE, str(error)),)


def check_lora(path: Path, network: STraG | ViSM) -> None:
    """Check the header of a LoRA's file against `network`, which may be on the meta device.

    Warns where the entry of a LoRA for text-to-video will be left out.

    Raises:
        WeightsError: the file is damaged, or a key does not fit; the message names the first one.
    """
    headers = read_headers(path)
    if headers.problems:
        raise WeightsError(headers.problems[0].line(path))
    parameters = dict(network.named_parameters())
    updates = parse_lora(headers.shapes, read_peft_config(path), where=str(path))
    fitting_updates(updates, parameters)
    if left_out := text_to_video_entry(updates, parameters):
        _log.warning(
            "%s was trained for text-to-video: '%s' is for fewer input channels than this network has, so "
            "the update of the patch embedding is left out; all others are merged",
            path,
            left_out[0],
        )


def parse_lora(
    tensors: Mapping[str, Tensor], settings: Mapping[str, Any] | None = None, *, where: str
) -> LoraUpdates:
    """Updates by parameter; every tensor is used exactly once.

    Args:
        tensors: by key; on the meta device, only names and shapes are checked.
        settings: PEFT's, with `lora_alpha` and so on. Where neither they nor tensors called `alpha` give
            alpha, it is the rank, as in diffusers; in kohya's files it is required.
        where: the file, for messages.

    Raises:
        WeightsError: a tensor is unknown, missing, duplicated, not finite or of an impossible shape.
    """
    found: dict[str, dict[str, str]] = {}  # by parameter, the keys of the parts of its update
    for key, tensor in tensors.items():
        name, part = _split(key)
        target = None if part is None else _target(name, part)
        if part is None or target is None:
            raise LoraError(where, Code.FOREIGN_UPDATE, _unknown(key))
        if not tensor.is_meta and not is_finite(tensor):
            text = f"'{key}' is not finite; this LoRA is damaged, fetch it again"
            raise LoraError(where, Code.NOT_FINITE, text)
        if found.setdefault(target, {}).setdefault(part, key) != key:
            text = f"'{key}' updates '{target}' a second time; give one update a file"
            raise LoraError(where, Code.UNEXPECTED_TENSORS, text)
    if not found:
        raise WeightsError(f"{where} holds no LoRA; give the file that training saved")
    settings = {name.removeprefix(DIFFUSERS_PREFIX): value for name, value in (settings or {}).items()}
    if any("alpha" in keys for keys in found.values()):
        settings = None  # then every update has one
    updates = {target: _update(keys, tensors, settings, where) for target, keys in found.items()}
    for target in (target for target, keys in found.items() if "scaled bias" in keys):
        # PEFT scales the update of a bias as that of its weight.
        update, weight = updates[target], updates.get(f"{target.removesuffix('.bias')}.weight")
        if not isinstance(update, WeightDelta) or not isinstance(weight, LowRank):
            text = f"'{update.key}' stands without its weight; fetch the file again"
            raise LoraError(where, Code.MISSING_TENSORS, text)
        updates[target] = replace(update, tensor=weight.scale * update.tensor.float())
    return LoraUpdates(where=where, by_parameter=updates)


def _split(key: str) -> tuple[str, str | None]:
    """The name of the module and the part of its update; the part is None if the key has no known suffix."""
    for part, pattern in _PARTS:
        if match := pattern.search(key):
            return key[: match.start()], part
    return key, None


def _target(name: str, part: str) -> str | None:
    """The parameter of our networks that this part updates."""
    if part == "modulation":
        return parameter_of(f"{strip_prefix(name)}.modulation")
    module = module_of(name)
    if module is None:
        return parameter_of(strip_prefix(name)) if part == "weight" else None
    return f"{module}.bias" if part in ("bias", "scaled bias") else f"{module}.weight"


def _unknown(key: str) -> str:
    if method := _OTHER_METHODS.search(key):
        return f"'{key}' is of another method than LoRA ({method[0].strip('_')}); give a plain LoRA"
    return f"'{key}' updates nothing that a Wan transformer has; this LoRA is for another network"


def _update(
    keys: Mapping[str, str], tensors: Mapping[str, Tensor], settings: Mapping[str, Any] | None, where: str
) -> LowRank | WeightDelta:
    """The update of which `keys` are the parts; alpha is PEFT's `settings`' only if they are given."""
    for key in (key for part, key in keys.items() if part not in ("down", "up", "alpha")):
        if len(keys) > 1:
            text = f"'{key}' stands beside another update of the same tensor; give one update a file"
            raise LoraError(where, Code.UNEXPECTED_TENSORS, text)
        return WeightDelta(tensor=tensors[key], key=key)
    name, _ = _split(next(iter(keys.values())))
    for part, spellings in (("down", "lora_down / lora_A"), ("up", "lora_up / lora_B")):
        if part not in keys:
            text = f"{spellings} of '{name}' is missing; fetch the file again"
            raise LoraError(where, Code.MISSING_TENSORS, text)
    down, up = tensors[keys["down"]], tensors[keys["up"]]
    if down.ndim < 2 or up.ndim < 2 or down.shape[0] != up.shape[1] or up.shape[2:].numel() != 1:
        text = f"'{keys['up']}' {list(up.shape)} and '{keys['down']}' {list(down.shape)} do not multiply"
        raise LoraError(where, Code.WRONG_SHAPE, f"{text}; fetch the file again")
    rank = down.shape[0]
    if "alpha" in keys:
        stored = tensors[keys["alpha"]]
        # On the meta device alpha is not known; the rank stands for it.
        if stored.numel() != 1 or not (stored.is_meta or float(stored)):
            text = f"'{keys['alpha']}' must be one number, not 0; fetch the file again"
            raise LoraError(where, Code.WRONG_SHAPE, text)
        alpha = float(rank if stored.is_meta else stored)
    elif settings is None or name.startswith(UNDERSCORED_PREFIXES):
        raise LoraError(where, Code.MISSING_TENSORS, f"'{name}.alpha' is missing; fetch the file again")
    else:
        alpha = _peft_alpha(settings, name, rank, where)
    return LowRank(down=down, up=up, alpha=alpha, key=keys["down"])


def _peft_alpha(settings: Mapping[str, Any], name: str, rank: int, where: str) -> float:
    """Alpha in PEFT's settings: of the first pattern that matches the end of `name`, or of all; the rank if
    they give none.
    """
    try:
        patterns = (settings.get("alpha_pattern") or {}).items()
        special = (
            alpha for pattern, alpha in patterns if re.fullmatch(rf"(.*\.)?({pattern})", strip_prefix(name))
        )
        alpha = next(special, settings.get("lora_alpha"))
        alpha = float(rank if alpha is None else alpha)
    except (TypeError, ValueError, AttributeError, re.error) as error:
        raise WeightsError(
            f"{where}: its settings of alpha cannot be read ({error}); fetch the file again"
        ) from error
    # Rank-stabilised LoRA scales by alpha / sqrt(rank), not by alpha / rank.
    return alpha * math.sqrt(rank) if settings.get("use_rslora") else alpha


def write_lora(
    path: Path, updates: LoraUpdates, style: WrittenStyle, notes: Mapping[str, str] | None = None
) -> None:
    """Write a file in `style`; for `peft`, a `path` without suffix is a folder as PEFT opens it.

    Args:
        notes: for the header of the file.

    Raises:
        WeightsError: `style` has no keys for a difference of a whole tensor.
        InputError: the folder cannot be written to.
    """
    tensors, ranked = _named_tensors(updates, style), {}
    header = dict(notes or {})
    if style == "peft":
        ranked = {
            name.removesuffix(".weight").removeprefix(DIFFUSERS_PREFIX): update
            for name, update in updates.by_parameter.items()
            if isinstance(update, LowRank)
        }
    settings = _peft_config(ranked) if ranked else {}
    if settings:
        header[PEFT_METADATA_KEY] = json.dumps(settings, sort_keys=True)
    if style == "peft" and not path.suffix:
        text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
        write_bytes(path / PEFT_CONFIG_FILE, text.encode())
        path = path / PEFT_WEIGHTS_FILE
    write_tensors(path, tensors, header)


def convert_lora(path: Path, target: Path, style: str) -> None:
    """Write the LoRA in `path` to `target` in another style; the factors keep their bits, and notes stay.

    Args:
        path: a file of any style, or the folder of one.
        target: a `.safetensors` file; for "peft" also a folder, which PEFT opens.
        style: "kohya" or "peft".

    Raises:
        ConfigError: the style cannot be written, or `target` is no name for it.
        WeightsError: the file cannot be read or is no LoRA, or `style` cannot hold what is in it.
        InputError: `target` cannot be written to.
    """
    if style not in WRITTEN_STYLES:
        raise ConfigError(f"cannot write a LoRA in style '{style}'; give {' or '.join(WRITTEN_STYLES)}")
    if target.suffix != ".safetensors" and (style != "peft" or target.suffix):
        folder = ", or of a folder" if style == "peft" else ""
        raise ConfigError(f"cannot write a LoRA to {target}; give the name of a .safetensors file{folder}")
    # Metadata about the style of the source file would be wrong in the target.
    of_style = (PEFT_METADATA_KEY, "format")
    notes = {name: text for name, text in read_headers(path).metadata.items() if name not in of_style}
    write_lora(target, read_lora(path), cast(WrittenStyle, style), notes)


def _named_tensors(updates: LoraUpdates, style: WrittenStyle) -> dict[str, Tensor]:
    """The tensors of a file in `style`: the inverse of `parse_lora`."""
    down, up = ("lora_A", "lora_B") if style == "peft" else ("lora_down", "lora_up")
    tensors: dict[str, Tensor] = {}
    for parameter, update in updates.by_parameter.items():
        if isinstance(update, LowRank):
            name = styled_name(parameter.removesuffix(".weight"), style)
            tensors |= {f"{name}.{down}.weight": update.down, f"{name}.{up}.weight": update.up}
            if style == "kohya":
                tensors[f"{name}.alpha"] = torch.tensor(update.alpha)
        elif style == "kohya":
            tensors[_delta_key(parameter)] = update.tensor
        else:
            raise WeightsError(
                f"{updates.where}: '{update.key}' is a difference of a whole tensor, for which {style} has "
                "no key; write it as kohya"
            )
    return tensors


def _delta_key(parameter: str) -> str:
    """The key of a difference of a whole tensor."""
    module, _, kind = parameter.rpartition(".")
    suffix = _DELTA_SUFFIXES.get(kind, "diff")
    if suffix == "diff_m" or kind not in _DELTA_SUFFIXES:
        # No module but a bare parameter, which kohya's underscored names cannot express.
        name = original_parameter(parameter).removesuffix(".modulation")
        return f"{ORIGINAL_PREFIX}{name}.{suffix}"
    return f"{styled_name(module, 'kohya')}.{suffix}"


def _peft_config(ranked: Mapping[str, LowRank]) -> dict[str, Any]:
    """PEFT's settings of low-rank updates by module: the commonest rank and alpha, and the exceptions."""
    rank = Counter(update.rank for update in ranked.values()).most_common(1)[0][0]
    alpha = Counter(update.alpha for update in ranked.values()).most_common(1)[0][0]
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {f"^{name}": u.rank for name, u in ranked.items() if u.rank != rank},
        "alpha_pattern": {f"^{name}": u.alpha for name, u in ranked.items() if u.alpha != alpha},
        "target_modules": sorted(ranked),
        "lora_dropout": 0.0,
        "bias": "none",
    }


def read_peft_config(path: Path) -> dict[str, Any]:
    """PEFT's settings of the LoRA in `path`, a file or its folder: `r`, `lora_alpha` and so on; {} if none.

    Those in the header of a safetensors file take precedence over those in its folder.

    Raises:
        WeightsError: there is no file, or the settings cannot be read.
    """
    where, text = f"{path}: its settings", read_headers(path).metadata.get(PEFT_METADATA_KEY)
    try:
        # Next to a file of another name, the settings in the folder belong to another LoRA.
        if text is None and (path.is_dir() or path.name in PEFT_WEIGHTS_FILES):
            settings_path = (path if path.is_dir() else path.parent) / PEFT_CONFIG_FILE
            where = str(settings_path)
            text = settings_path.read_bytes()
        return {} if text is None else parse_json(text, dict)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise WeightsError(f"{where} cannot be read ({error}); fetch the file again") from error
