"""LoRA files in every style, and from one style to another."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from more4d.files.checkpoint_headers import read_headers
from more4d.files.peft_config import PEFT_METADATA_KEY, PEFT_WEIGHTS_FILE, write_peft_config
from more4d.foundation.errors import ConfigError, WeightsError
from more4d.weights.lora.keys import (
    DIFFUSERS_PREFIX,
    ORIGINAL_PREFIX,
    STYLES,
    Style,
    diffusers_name,
    original_parameter,
    styled_name,
)
from more4d.weights.lora.reading import LoraUpdates, LowRank, WeightDelta, read_lora
from more4d.weights.state import write_tensors

STYLE_METADATA = (PEFT_METADATA_KEY, "format")
"""What a header says about the style of its file, and would be wrong in another."""


def lora_tensors(updates: LoraUpdates, style: Style) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and PEFT's settings of a file in `style`: the inverse of `parse_lora`.

    Raises:
        WeightsError: `style` has no keys for a difference of a whole tensor.
    """
    tensors: dict[str, Tensor] = {}
    ranked: dict[str, LowRank] = {}
    for parameter, update in updates.by_parameter.items():
        if isinstance(update, WeightDelta):
            tensors[_delta_key(parameter, update, style, updates.where)] = update.tensor
            continue
        module = parameter.removesuffix(".weight")
        ranked[module] = update
        name = styled_name(module, style)
        down, up = ("lora_down", "lora_up") if style in ("kohya", "original") else ("lora_A", "lora_B")
        tensors[f"{name}.{down}.weight"], tensors[f"{name}.{up}.weight"] = update.down, update.up
        if style in ("kohya", "original"):
            tensors[f"{name}.alpha"] = torch.tensor(update.alpha)
    return tensors, _settings(ranked) if style in ("peft", "diffusers") and ranked else {}


def write_lora(
    path: Path, updates: LoraUpdates, style: Style, notes: Mapping[str, str] | None = None
) -> None:
    """Write a file in `style`; for `peft`, a `path` without suffix is a folder as PEFT opens it.

    Raises:
        WeightsError: `style` has no keys for a difference of a whole tensor.
        InputError: the folder cannot be written to.
    """
    tensors, settings = lora_tensors(updates, style)
    header = dict(notes or {})
    if settings:
        prefix = DIFFUSERS_PREFIX if style == "diffusers" else ""
        prefixed = {f"{prefix}{name}": value for name, value in settings.items()}
        header[PEFT_METADATA_KEY] = json.dumps(prefixed, sort_keys=True)
    if style == "peft" and not path.suffix:
        write_peft_config(path, settings)
        path = path / PEFT_WEIGHTS_FILE
    write_tensors(path, tensors, header)


def convert_lora(path: Path, target: Path, style: str) -> None:
    """Write the LoRA in `path` to `target` in another style; the factors keep their bits, and notes stay.

    Args:
        path: a file of any style, or the folder of one.
        target: a `.safetensors` file; for "peft" also a folder, which PEFT opens.
        style: "kohya", "peft", "diffusers" or "original".

    Raises:
        ConfigError: the style is unknown, or `target` is no name for it.
        WeightsError: the file cannot be read or is no LoRA, or `style` cannot hold what is in it.
        InputError: `target` cannot be written to.
    """
    if style not in STYLES:
        raise ConfigError(f"unknown style '{style}' of a LoRA; known: {', '.join(STYLES)}")
    if target.suffix != ".safetensors" and (style != "peft" or target.suffix):
        folder = ", or of a folder" if style == "peft" else ""
        raise ConfigError(f"cannot write a LoRA to {target}; give the name of a .safetensors file{folder}")
    notes = {name: text for name, text in read_headers(path).metadata.items() if name not in STYLE_METADATA}
    write_lora(target, read_lora(path), style, notes)


def _delta_key(parameter: str, update: WeightDelta, style: Style, where: str) -> str:
    """The key of a difference of a whole tensor, in the styles that have one."""
    if style in ("peft", "diffusers"):
        raise WeightsError(
            f"{where}: '{update.key}' is a difference of a whole tensor, for which {style} has no key; "
            "kohya and original have"
        )
    module, _, kind = parameter.rpartition(".")
    suffix = {"weight": "diff", "bias": "diff_b", "scale_shift_table": "diff_m"}.get(kind)
    if suffix == "diff_m":
        name = original_parameter(parameter).removesuffix(".modulation")
        prefix = ORIGINAL_PREFIX
        return f"{prefix}{name}.diff_m"
    if suffix is None:
        return f"{ORIGINAL_PREFIX}{original_parameter(parameter)}.diff"
    return f"{styled_name(module, style)}.{suffix}"


def _settings(ranked: Mapping[str, LowRank]) -> dict[str, Any]:
    """PEFT's settings of low-rank updates: the commonest rank and alpha, and what differs from them."""
    names = {diffusers_name(module): update for module, update in ranked.items()}
    rank = Counter(update.rank for update in names.values()).most_common(1)[0][0]
    alpha = Counter(update.alpha for update in names.values()).most_common(1)[0][0]
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {f"^{name}": u.rank for name, u in names.items() if u.rank != rank},
        "alpha_pattern": {f"^{name}": u.alpha for name, u in names.items() if u.alpha != alpha},
        "target_modules": sorted(names),
        "lora_dropout": 0.0,
        "bias": "none",
    }
