"""Names of the modules that a LoRA updates: as every style of file spells them, and as our networks do.

* `kohya`: `lora_unet__blocks_0_self_attn_q`; MoRe4D's files and those of our training.
* `peft`: `base_model.model.blocks.0.attn1.to_q`
* `diffusers`: `transformer.blocks.0.attn1.to_q`
* `original`: `diffusion_model.blocks.0.self_attn.q`, what others share for Wan.

Files take the names of the original Wan2.1 code or those of diffusers. A name that kohya made flat cannot be
split at its underscores, so the table of all modules that a Wan transformer can have is made flat, too; the
network itself is not needed.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Literal

from more4d.networks.wan_config import CLIP_DIM, WanConfig
from more4d.weights.published_keys import wan_names

Style = Literal["kohya", "peft", "diffusers", "original"]
STYLES: tuple[Style, ...] = ("kohya", "peft", "diffusers", "original")

KOHYA_PREFIX = "lora_unet__"
PEFT_PREFIX = "base_model.model."
DIFFUSERS_PREFIX = "transformer."
ORIGINAL_PREFIX = "diffusion_model."

_FULL_CONFIG = WanConfig(
    in_channels=16, dim=32, ffn_dim=32, heads=2, layers=1,
    image_dim=CLIP_DIM, reference_tokens=True, motion_feature_dim=32,
)  # fmt: skip
_OUTSIDE_TRANSFORMER = {
    f"feature_adapter.{place}.{kind}": f"motion_adapter.{name}.{kind}"
    for place, name in ((0, "first"), (2, "second"))
    for kind in ("weight", "bias")
}
_BLOCK = re.compile(r"^((?:transformer\.)?blocks[._])([0-9]+)(?=[._])")


def parameter_of(name: str) -> str | None:
    """The parameter of our network that `name` is of: a published or a diffusers name, without its prefix."""
    return _with_block(_dotted(), name)


def module_of(name: str) -> str | None:
    """The module of our network that has a weight and is called `name` in a file, prefix and all."""
    if name.startswith("lora_unet"):
        return _with_block(_flat(), name.removeprefix("lora_unet").lstrip("_"))
    parameter = parameter_of(f"{strip_prefix(name)}.weight")
    return None if parameter is None else parameter.removesuffix(".weight")


def strip_prefix(name: str) -> str:
    """A dotted name without what files put in front of it."""
    name = name.removeprefix(PEFT_PREFIX).removeprefix("model.").removeprefix(ORIGINAL_PREFIX)
    return name.removeprefix(DIFFUSERS_PREFIX)


def styled_name(module: str, style: Style) -> str:
    """What a file in `style` calls our `module`."""
    if style == "kohya":
        return KOHYA_PREFIX + original_name(module).replace(".", "_")
    if style == "original":
        return ORIGINAL_PREFIX + original_name(module)
    return (PEFT_PREFIX if style == "peft" else DIFFUSERS_PREFIX) + diffusers_name(module)


def original_name(module: str) -> str:
    """What the original code calls our `module`.

    Raises:
        ValueError: no network has such a module.
    """
    return original_parameter(f"{module}.weight").removesuffix(".weight")


def original_parameter(parameter: str) -> str:
    """What the original code calls our `parameter`.

    Raises:
        ValueError: no network has such a parameter.
    """
    found = _with_block(_backwards(), parameter)
    if found is None:
        raise ValueError(f"no published name is known for '{parameter}'")
    return found


def diffusers_name(module: str) -> str:
    """What diffusers calls our `module`, within its transformer."""
    return module.removeprefix(DIFFUSERS_PREFIX)


def _with_block(table: Mapping[str, str], name: str) -> str | None:
    """Look up what the table knows of block 0 only."""
    block = _BLOCK.match(name)
    if block is None:
        return table.get(name)
    found = table.get(f"{block[1]}0{name[block.end() :]}")
    return None if found is None else _BLOCK.sub(rf"\g<1>{int(block[2])}", found)


@cache
def _published() -> dict[str, str]:
    inside = {theirs: DIFFUSERS_PREFIX + ours for theirs, ours in wan_names(_FULL_CONFIG).items()}
    return inside | _OUTSIDE_TRANSFORMER


@cache
def _dotted() -> dict[str, str]:
    return {diffusers_name(ours): ours for ours in _published().values()} | _published()


@cache
def _flat() -> dict[str, str]:
    weights = {
        name.removesuffix(".weight"): ours for name, ours in _dotted().items() if name.endswith(".weight")
    }
    return {name.replace(".", "_"): ours.removesuffix(".weight") for name, ours in weights.items()}


@cache
def _backwards() -> dict[str, str]:
    return {ours: theirs for theirs, ours in _published().items()}
