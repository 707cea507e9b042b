"""Low-rank updates (LoRA, arXiv 2106.09685) while they are trained. The only door to peft.

`networks.lora` merges what `trained_lora` gives.
"""

from dataclasses import dataclass

from peft import LoraConfig, inject_adapter_in_model

from more4d.foundation.errors import ConfigError
from more4d.networks.strag import STraG
from more4d.networks.vism import ViSM
from more4d.weights.lora.keys import Style
from more4d.weights.lora.merge import lora_names
from more4d.weights.lora.reading import LoraUpdates, LowRank

ADAPTER = "default"  # peft's own name for the first one


@dataclass(frozen=True, kw_only=True)
class LoraOptions:
    """Size of the updates; the defaults are those MoRe4D trained 4D-ViSM with.

    Attributes:
        rank: of every update.
        alpha: an update counts alpha / rank.
        style: how the exported file names them; `networks.lora_keys` lists the styles.
    """

    rank: int = 128
    alpha: float = 64.0
    style: Style = "kohya"

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.alpha > 0:
            raise ConfigError(f"a LoRA needs rank >= 1 and alpha > 0, got {self.rank} and {self.alpha}")


def add_lora(network: STraG | ViSM, options: LoraOptions) -> list[str]:
    """Freeze `network` and give every linear module a trainable update, which starts at zero.

    Returns the names of these modules: `trained_lora` asks for them.
    """
    modules = list(lora_names(network).values())
    settings = LoraConfig(r=options.rank, lora_alpha=options.alpha, target_modules=modules, lora_dropout=0.0)
    network.requires_grad_(False)
    inject_adapter_in_model(settings, network)
    return modules


def trained_lora(network: STraG | ViSM, modules: list[str], options: LoraOptions) -> LoraUpdates:
    """The updates as they are now, in float32 on the CPU."""
    updates = {}
    for module in modules:
        layer = network.get_submodule(module)
        down, up = (
            factor[ADAPTER].weight.detach().float().cpu().clone() for factor in (layer.lora_A, layer.lora_B)
        )
        updates[f"{module}.weight"] = LowRank(down=down, up=up, alpha=options.alpha, key=module)
    return LoraUpdates(where="what was trained", by_parameter=updates)
