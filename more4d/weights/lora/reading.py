"""LoRA files of every style: what they add to which parameters of our networks.

Prefix, name of the module and part of a key are understood one by one, so a file may mix styles. Beside
low-rank updates it may hold differences of whole tensors (`.diff`, `.diff_b`, `.diff_m`).
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.files.peft_config import read_peft_config
from more4d.foundation.errors import WeightsError
from more4d.weights.lora.keys import (
    DIFFUSERS_PREFIX,
    ORIGINAL_PREFIX,
    PEFT_PREFIX,
    Style,
    diffusers_name,
    module_of,
    parameter_of,
    strip_prefix,
)
from more4d.weights.state import read_tensors

_PARTS = (
    ("down", re.compile(r"\.(?:lora_down|lora\.down|lora_A(?:\.[^.]+)?)\.weight$")),
    ("up", re.compile(r"\.(?:lora_up|lora\.up|lora_B(?:\.[^.]+)?)\.weight$")),
    ("alpha", re.compile(r"\.alpha$")),
    ("weight", re.compile(r"\.diff$")),
    ("bias", re.compile(r"\.diff_b$")),
    ("scaled bias", re.compile(r"\.lora_B(?:\.[^.]+)?\.bias$")),
    ("modulation", re.compile(r"\.diff_m$")),
)
_OTHER_METHODS = re.compile(r"dora_scale|lora_magnitude_vector|lokr_|hada_|oft_|boft_|lora_mid")


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """Adds (alpha / rank) up @ down, of as many axes as the weight it is for.

    Attributes:
        key: what the file calls it, for messages.
    """

    down: Float[Tensor, "rank columns *kernel"]
    up: Float[Tensor, "rows rank *ones"]
    alpha: float
    key: str

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.up.shape[0], *self.down.shape[1:])

    def delta(self, device: torch.device) -> Float[Tensor, "..."]:
        """What is added at strength 1, in float32."""
        up, down = (factor.to(device, torch.float32).flatten(1) for factor in (self.up, self.down))
        return (up @ down).mul_(self.scale).view(self.shape)


@dataclass(frozen=True, kw_only=True)
class WeightDelta:
    """Adds a tensor as it is."""

    tensor: Float[Tensor, "..."]
    key: str

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    def delta(self, device: torch.device) -> Float[Tensor, "..."]:
        """What is added at strength 1, in float32."""
        return self.tensor.to(device, torch.float32)


@dataclass(frozen=True, kw_only=True)
class LoraUpdates:
    """What a LoRA file adds to which parameters of our networks.

    Attributes:
        where: the file, for messages.
        by_parameter: in the order of the file.
    """

    where: str
    by_parameter: dict[str, LowRank | WeightDelta]


def lora_style(names: Iterable[str]) -> Style | None:
    """The style of a file with tensors of these names, by the first that is part of a LoRA."""
    for key in names:
        name, part = _split(key)
        if part is None or _target(name, part) is None:
            continue
        if name.startswith("lora_unet"):
            return "kohya"
        if name.startswith(PEFT_PREFIX):
            return "peft"
        return "original" if _is_original(name) else "diffusers"
    return None


def read_lora(path: Path) -> LoraUpdates:
    """The updates in a file of any style, or in a folder with one (as PEFT writes it).

    Raises:
        WeightsError: the file cannot be read, or holds something else than updates of a Wan transformer.
    """
    return parse_lora(read_tensors(path), read_peft_config(path), where=str(path))


def parse_lora(
    tensors: Mapping[str, Tensor], settings: Mapping[str, Any] | None = None, *, where: str
) -> LoraUpdates:
    """Updates by parameter; every tensor is used once, or an error names it.

    Args:
        tensors: by key; on the meta device only their names and shapes are looked at.
        settings: PEFT's, with `lora_alpha` and so on. Where neither they nor tensors called `alpha` say what
            alpha is, it is the rank, as in diffusers; only kohya's files must say it.
        where: the file, for messages.

    Raises:
        WeightsError: a tensor is of something else, is missing, not finite or of an impossible shape.
    """
    found: dict[str, _Parts] = {}
    for key, tensor in tensors.items():
        name, part = _split(key)
        target = None if part is None else _target(name, part)
        if part is None or target is None:
            raise WeightsError(f"{where}: {_unknown(key)}")
        if not tensor.is_meta and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{where}: '{key}' is not finite; this LoRA is damaged, fetch it again")
        parts = found.setdefault(target, _Parts(name=name))
        if part in parts.tensors:
            raise WeightsError(f"{where}: '{key}' updates '{target}' a second time; give one update a file")
        parts.tensors[part], parts.keys[part] = tensor, key
    if not found:
        raise WeightsError(f"{where} holds no LoRA; give the file that training saved")
    alphas = _Alphas(settings or {}, any("alpha" in parts.tensors for parts in found.values()), where)
    updates = {target: _update(parts, alphas, where) for target, parts in found.items()}
    for target, parts in found.items():
        if "scaled bias" in parts.tensors:
            updates[target] = _scaled(updates, target, where)
    return LoraUpdates(where=where, by_parameter=updates)


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What a file holds for one parameter, by part."""

    name: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)


class _Alphas:
    """What alpha is, for every module of a file."""

    def __init__(self, settings: Mapping[str, Any], has_alphas: bool, where: str) -> None:
        settings = {name.removeprefix(DIFFUSERS_PREFIX): value for name, value in settings.items()}
        self.has_alphas, self.where = has_alphas, where
        self.alpha, self.patterns = settings.get("lora_alpha"), settings.get("alpha_pattern") or {}
        self.by_root = bool(settings.get("use_rslora"))

    def of(self, parts: _Parts, rank: int) -> float:
        """Alpha such that the update counts alpha / rank."""
        stored = parts.tensors.get("alpha")
        if stored is not None:
            if stored.numel() == 1 and stored.is_meta:
                return float(rank)
            if stored.numel() != 1 or not float(stored):
                raise WeightsError(
                    f"{self.where}: '{parts.keys['alpha']}' must be one number, not 0; fetch the file again"
                )
            return float(stored)
        if self.has_alphas or parts.name.startswith("lora_unet"):
            raise WeightsError(f"{self.where}: '{parts.name}.alpha' is missing; fetch the file again")
        try:
            special = (value for pattern, value in self.patterns.items() if _matches(pattern, parts.name))
            alpha = next(special, self.alpha)
            alpha = float(rank if alpha is None else alpha)
        except (TypeError, ValueError, AttributeError, re.error) as error:
            raise WeightsError(
                f"{self.where}: its settings of alpha cannot be read ({error}); fetch the file again"
            ) from error
        return alpha * math.sqrt(rank) if self.by_root else alpha  # rank-stabilised: alpha / sqrt(rank)


def _matches(pattern: str, name: str) -> bool:
    """Whether PEFT's settings mean the module called `name`: by its last parts, or a regular expression."""
    return re.fullmatch(rf"(.*\.)?({pattern})", strip_prefix(name)) is not None


def _split(key: str) -> tuple[str, str | None]:
    """The name of a module, and which part of its update the key is; None if it is none we know."""
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


def _update(parts: _Parts, alphas: _Alphas, where: str) -> LowRank | WeightDelta:
    whole = [part for part in ("weight", "bias", "scaled bias", "modulation") if part in parts.tensors]
    if whole:
        if len(parts.tensors) > 1:
            raise WeightsError(
                f"{where}: '{parts.keys[whole[0]]}' stands beside another update of the same tensor; "
                "give one update a file"
            )
        return WeightDelta(tensor=parts.tensors[whole[0]], key=parts.keys[whole[0]])
    for part, spellings in (("down", "lora_down / lora_A"), ("up", "lora_up / lora_B")):
        if part not in parts.tensors:
            raise WeightsError(f"{where}: {spellings} of '{parts.name}' is missing; fetch the file again")
    down, up = parts.tensors["down"], parts.tensors["up"]
    if down.ndim < 2 or up.ndim < 2 or down.shape[0] != up.shape[1] or up.shape[2:].numel() != 1:
        raise WeightsError(
            f"{where}: '{parts.keys['up']}' {list(up.shape)} and '{parts.keys['down']}' {list(down.shape)}"
            " do not multiply; fetch the file again"
        )
    alpha = alphas.of(parts, down.shape[0])
    return LowRank(down=down, up=up, alpha=alpha, key=parts.keys["down"])


def _scaled(updates: Mapping[str, LowRank | WeightDelta], bias: str, where: str) -> WeightDelta:
    """PEFT scales what it adds to a bias as it scales what it adds to the weight."""
    update, weight = updates[bias], updates.get(f"{bias.removesuffix('.bias')}.weight")
    if not isinstance(update, WeightDelta) or not isinstance(weight, LowRank):
        raise WeightsError(f"{where}: '{update.key}' stands without its weight; fetch the file again")
    return replace(update, tensor=weight.scale * update.tensor.float())


def _is_original(name: str) -> bool:
    module = module_of(name)
    return ORIGINAL_PREFIX in name or (module is not None and strip_prefix(name) != diffusers_name(module))
