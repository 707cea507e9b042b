"""Training of low-rank updates (LoRA, arXiv 2106.09685) with peft, which is imported on the first use."""

from dataclasses import dataclass

from more4d.foundation.errors import ConfigError
from more4d.networks.strag import STraG
from more4d.networks.vism import ViSM
from more4d.weights.lora.keys import WrittenStyle
from more4d.weights.lora.merge import LoraUpdates, LowRank, lora_names

ADAPTER = "default"  # peft's name for the first adapter of a network


@dataclass(frozen=True, kw_only=True)
class LoraOptions:
    """Size of the updates; the defaults are those MoRe4D trained 4D-ViSM with.

    Attributes:
        rank: of every update.
        alpha: updates are scaled by alpha / rank.
        style: names of the tensors in the exported file.

    Raises:
        ConfigError: the rank or alpha is not positive.
    """

    rank: int = 128
    alpha: float = 64.0
    style: WrittenStyle = "kohya"

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.alpha > 0:
            raise ConfigError(f"a LoRA needs rank >= 1 and alpha > 0, got {self.rank} and {self.alpha}")


def add_lora(network: STraG | ViSM, options: LoraOptions) -> list[str]:
    """Freeze `network` and add a trainable update, initially zero, to every linear module.

    Returns:
        The names of these modules, for `trained_lora`.
    """
    from peft import LoraConfig, inject_adapter_in_model

    modules = list(lora_names(network).values())
    config = LoraConfig(r=options.rank, lora_alpha=options.alpha, target_modules=modules, lora_dropout=0.0)
    network.requires_grad_(False)
    inject_adapter_in_model(config, network)
    return modules


def trained_lora(network: STraG | ViSM, modules: list[str], options: LoraOptions) -> LoraUpdates:
    """The current updates, copied to float32 on the CPU."""
    updates = {}
    for module in modules:
        layer = network.get_submodule(module)
        down, up = (
            factor[ADAPTER].weight.detach().float().cpu().clone() for factor in (layer.lora_A, layer.lora_B)
        )
        updates[f"{module}.weight"] = LowRank(down=down, up=up, alpha=options.alpha, key=module)
    return LoraUpdates(where="the trained LoRA", by_parameter=updates)
