"""Names of the modules that a LoRA updates: as each style of file writes them, and as our networks do.

* `kohya`: `lora_unet__blocks_0_self_attn_q`; MoRe4D's files and, by default, those of our training.
* `peft`: `base_model.model.blocks.0.attn1.to_q`
* `diffusers`: `transformer.blocks.0.attn1.to_q`
* `original`: `diffusion_model.blocks.0.self_attn.q`, the usual style of shared Wan LoRAs; DiffSynth has the
  prefix `pipe.dit.`

All four are read; `kohya` and `peft` are written. Every style may name modules as the original Wan2.1 code
does or as diffusers does. kohya replaces dots by underscores, which cannot be reversed by splitting; such a
name is looked up in a table of all modules that any Wan transformer can have, with underscores. Some files
have only a part of the dots replaced (`lora_unet_blocks_0.self_attn.q`), and those of OneTrainer have the
prefix `lora_transformer_`.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Literal

from more4d.networks.wan_config import CLIP_DIM, WanConfig
from more4d.weights.published_keys import generator_names

Style = Literal["kohya", "peft", "diffusers", "original"]
WrittenStyle = Literal["kohya", "peft"]
WRITTEN_STYLES: tuple[WrittenStyle, ...] = ("kohya", "peft")

KOHYA_PREFIX = "lora_unet__"
PEFT_PREFIX = "base_model.model."
DIFFUSERS_PREFIX = "transformer."
ORIGINAL_PREFIX = "diffusion_model."
DIFFSYNTH_PREFIX = "pipe.dit."
UNDERSCORED_PREFIXES = ("lora_unet", "lora_transformer")

# A transformer with every optional module; one block, since the others have the same names.
FULL_CONFIG = WanConfig(
    in_channels=16, dim=32, ffn_dim=32, heads=2, layers=1,
    image_dim=CLIP_DIM, reference_tokens=True, motion_feature_dim=32,
)  # fmt: skip
# No network has a thousand blocks.
_BLOCK = re.compile(r"^((?:transformer\.)?blocks[._])([0-9]{1,3})(?=[._])")


def parameter_of(name: str) -> str | None:
    """The parameter of our network for a published or a diffusers name without prefix; None if unknown."""
    return _with_block(_dotted(), name)


def module_of(name: str) -> str | None:
    """The module of our network that has a weight, for its name in a file with prefix; None if unknown."""
    for prefix in UNDERSCORED_PREFIXES:
        if name.startswith(prefix):
            return _with_block(_underscored(), name.removeprefix(prefix).lstrip("_").replace(".", "_"))
    parameter = parameter_of(f"{strip_prefix(name)}.weight")
    return None if parameter is None else parameter.removesuffix(".weight")


def strip_prefix(name: str) -> str:
    """A dotted name without the prefixes of PEFT's, DiffSynth's, ComfyUI's and diffusers' files."""
    name = name.removeprefix(PEFT_PREFIX).removeprefix(DIFFSYNTH_PREFIX)
    name = name.removeprefix("model.").removeprefix(ORIGINAL_PREFIX)
    return name.removeprefix(DIFFUSERS_PREFIX)


def styled_name(module: str, style: WrittenStyle) -> str:
    """The name of our `module` in a file of `style`.

    Raises:
        ValueError: `style` is kohya, and no network has such a module.
    """
    if style == "peft":
        return PEFT_PREFIX + module.removeprefix(DIFFUSERS_PREFIX)
    return KOHYA_PREFIX + original_parameter(f"{module}.weight").removesuffix(".weight").replace(".", "_")


def original_parameter(parameter: str) -> str:
    """The name of our `parameter` in the original Wan2.1 code.

    Raises:
        ValueError: no network has such a parameter.
    """
    found = _with_block(_to_original(), parameter)
    if found is None:
        raise ValueError(f"no published name is known for '{parameter}'")
    return found


def _with_block(table: Mapping[str, str], name: str) -> str | None:
    """Look `name` up in a table of the modules of block 0, and put its own block number into the result."""
    block = _BLOCK.match(name)
    if block is None:
        return table.get(name)
    found = table.get(f"{block[1]}0{name[block.end() :]}")
    return None if found is None else _BLOCK.sub(rf"\g<1>{int(block[2])}", found)


@cache
def _to_original() -> dict[str, str]:
    return {ours: name for name, ours in generator_names(FULL_CONFIG).items()}


@cache
def _dotted() -> dict[str, str]:
    names = generator_names(FULL_CONFIG)
    return {ours.removeprefix(DIFFUSERS_PREFIX): ours for ours in names.values()} | names


@cache
def _underscored() -> dict[str, str]:
    return {
        name.removesuffix(".weight").replace(".", "_"): ours.removesuffix(".weight")
        for name, ours in _dotted().items()
        if name.endswith(".weight")
    }
