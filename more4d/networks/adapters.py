"""Low-rank updates (LoRA, arXiv 2106.09685) while they are trained. The only door to peft.

`networks.lora` merges what `lora_tensors` gives.
"""

from dataclasses import dataclass

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor

from more4d.foundation.errors import ConfigError
from more4d.networks.lora import lora_names
from more4d.networks.strag import STraG
from more4d.networks.vism import ViSM

ADAPTER = "default"  # peft's own name for the first one


@dataclass(frozen=True, kw_only=True)
class LoraOptions:
    """Size of the updates; the defaults are those MoRe4D trained 4D-ViSM with.

    Attributes:
        rank: of every update.
        alpha: an update counts alpha / rank.
    """

    rank: int = 128
    alpha: float = 64.0

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.alpha > 0:
            raise ConfigError(f"a LoRA needs rank >= 1 and alpha > 0, got {self.rank} and {self.alpha}")


def add_lora(network: STraG | ViSM, options: LoraOptions) -> dict[str, str]:
    """Freeze `network` and give every linear module a trainable update, which starts at zero.

    Returns name in a file -> name in `network`, of what was updated: `lora_tensors` asks for it.
    """
    table = lora_names(network)
    settings = LoraConfig(
        r=options.rank, lora_alpha=options.alpha, target_modules=list(table.values()), lora_dropout=0.0
    )
    network.requires_grad_(False)
    inject_adapter_in_model(settings, network)
    return table


def lora_tensors(network: STraG | ViSM, table: dict[str, str], options: LoraOptions) -> dict[str, Tensor]:
    """The updates in the published (kohya) layout, in float32 on the CPU."""
    tensors = {}
    for name, module in table.items():
        layer = network.get_submodule(module)
        for part, factor in (("lora_down", layer.lora_A), ("lora_up", layer.lora_B)):
            tensors[f"{name}.{part}.weight"] = factor[ADAPTER].weight.detach().float().cpu().clone()
        tensors[f"{name}.alpha"] = torch.tensor(float(options.alpha))
    return tensors
