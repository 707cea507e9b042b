"""Published low-rank updates (LoRA) of the Wan transformer: found by module name, merged and taken out again.

The files follow the kohya style: `lora_unet__<path>.{lora_down.weight, lora_up.weight, alpha}`, `_` for dots.
A path cannot be split again at its underscores, so the table is built from the network's modules instead.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from more4d.foundation.errors import WeightsError
from more4d.networks.published_keys import network_names
from more4d.networks.strag import STraG
from more4d.networks.vism import ViSM

PREFIX = "lora_unet__"
PARTS = ("lora_down.weight", "lora_up.weight", "alpha")


def merge_lora(
    network: STraG | ViSM, tensors: Mapping[str, Tensor], multiplier: float, *, where: str
) -> None:
    """Add `multiplier * (alpha / rank) * up @ down` to the weight of every module that `tensors` names.

    MoRe4D's 4D-ViSM is merged at 0.55 by the reference, although it was trained at 1. `where` is the file,
    for messages.

    Raises:
        WeightsError: a tensor names no linear module of `network`, a part of an update is missing, or a shape
            does not fit; nothing has been changed then.
    """
    updates = _updates(lora_names(network), tensors, where)
    weights = {name: network.get_parameter(f"{name}.weight") for name in updates}
    for name, (down, up, _) in updates.items():
        if (up.shape[0], down.shape[1]) != weights[name].shape or up.shape[1] != down.shape[0]:
            raise WeightsError(
                f"{where}: update {list(up.shape)} x {list(down.shape)} does not fit '{name}' of shape"
                f" {list(weights[name].shape)}; this LoRA is for another network"
            )
    with torch.no_grad():
        for name, (down, up, scale) in updates.items():
            weight = weights[name]
            delta = up.to(weight.device, torch.float32) @ down.to(weight.device, torch.float32)
            weight.copy_(weight.float() + multiplier * scale * delta)


def unmerge_lora(
    network: STraG | ViSM, tensors: Mapping[str, Tensor], multiplier: float, *, where: str
) -> None:
    """The inverse of `merge_lora`, up to rounding."""
    merge_lora(network, tensors, -multiplier, where=where)


def lora_names(network: STraG | ViSM) -> dict[str, str]:
    """Name in a file -> name in `network`, of every linear module."""
    table = {}
    for published, ours in network_names(network).items():
        module = ours.removesuffix(".weight")
        if module != ours and isinstance(network.get_submodule(module), nn.Linear):
            table[PREFIX + published.removesuffix(".weight").replace(".", "_")] = module
    return table


def _updates(
    table: Mapping[str, str], tensors: Mapping[str, Tensor], where: str
) -> dict[str, tuple[Tensor, Tensor, float]]:
    """Module -> down, up, alpha / rank; every tensor is used once, or an error names it."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, part = key.partition(".")
        if name not in table or part not in PARTS:
            raise WeightsError(f"{where}: '{key}' names no linear module; this LoRA is for another network")
        found.setdefault(name, {})[part] = tensor
    if not found:
        raise WeightsError(f"{where} holds no LoRA; give the file that training saved")
    updates = {}
    for name, parts in found.items():
        missing = [part for part in PARTS if part not in parts]
        if missing:
            raise WeightsError(f"{where}: '{name}.{missing[0]}' is missing; fetch the file again")
        down, up, alpha = (parts[part] for part in PARTS)
        if down.ndim != 2 or up.ndim != 2 or alpha.numel() != 1:
            raise WeightsError(
                f"{where}: '{name}' is not the update of a linear module; fetch the file again"
            )
        updates[table[name]] = down, up, float(alpha) / up.shape[1]
    return updates
