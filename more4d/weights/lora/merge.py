"""What a LoRA (arXiv 2106.09685) adds to weights, its sum with them, and its training with peft."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from more4d.foundation.errors import ConfigError, WeightsError
from more4d.foundation.optional import require
from more4d.networks.strag import STraG
from more4d.networks.vism import ViSM
from more4d.weights.lora.keys import WrittenStyle, styled_name
from more4d.weights.published_keys import network_names

ADAPTER = "default"  # peft's name for the first adapter of a network
ENTRY = "transformer.patch_embedding"
TEXT_TO_VIDEO_CHANNELS = 16

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """Adds (alpha / rank) up @ down, reshaped to the weight.

    Attributes:
        key: name in the file, for messages.
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
        """The addend at strength 1, in float32."""
        up, down = (factor.to(device, torch.float32).flatten(1) for factor in (self.up, self.down))
        return (up @ down).mul_(self.scale).view(self.shape)


@dataclass(frozen=True, kw_only=True)
class WeightDelta:
    """Adds a whole tensor.

    Attributes:
        key: name in the file, for messages.
    """

    tensor: Float[Tensor, "..."]
    key: str

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    def delta(self, device: torch.device) -> Float[Tensor, "..."]:
        """The addend at strength 1, in float32."""
        return self.tensor.to(device, torch.float32)


@dataclass(frozen=True, kw_only=True)
class LoraUpdates:
    """The updates in a LoRA file.

    Attributes:
        where: the file, for messages.
        by_parameter: by the name of the parameter in our networks, in the order of the file.
    """

    where: str
    by_parameter: dict[str, LowRank | WeightDelta]


def merge_loras(network: STraG | ViSM, loras: Sequence[tuple[LoraUpdates, float]]) -> None:
    """Add every LoRA times its strength (1 as trained) to the weights it updates.

    The sum W + sum_i strength_i (alpha_i / rank_i) up_i down_i is taken in float32 and rounded to the
    precision of the weight once. The result in a float8 weight is clamped to its range.

    Of a LoRA for text-to-video, the entry is left out; see `fitting_updates`.

    Raises:
        WeightsError: a LoRA updates a parameter that `network` lacks, or has in another shape; no weight has
            been changed then.
    """
    parameters = dict(network.named_parameters())
    loras = [(fitting_updates(lora, parameters), strength) for lora, strength in loras]
    with torch.no_grad():
        for name in dict.fromkeys(name for lora, _ in loras for name in lora.by_parameter):
            parameter = parameters[name]
            merged = parameter.to(torch.float32, copy=True)
            for lora, strength in loras:
                if name in lora.by_parameter:
                    merged.add_(lora.by_parameter[name].delta(parameter.device), alpha=strength)
            if parameter.dtype.itemsize == 1:
                limits = torch.finfo(parameter.dtype)
                merged.clamp_(limits.min, limits.max)  # values beyond them would become NaN
            parameter.copy_(merged)


def lora_names(network: STraG | ViSM) -> dict[str, str]:
    """Kohya's name -> name in `network`, of every linear module: the modules that training updates."""
    modules = [
        name.removesuffix(".weight")
        for name in network_names(network).values()
        if name.endswith(".weight")
        and isinstance(network.get_submodule(name.removesuffix(".weight")), nn.Linear)
    ]
    return {styled_name(module, "kohya"): module for module in modules}


def fitting_updates(lora: LoraUpdates, parameters: Mapping[str, Tensor]) -> LoraUpdates:
    """The updates, each of which has a parameter of its shape.

    LoRAs of text-to-video are used with every Wan transformer, and only their update of the patch embedding
    cannot fit one with more input channels: it and that of its bias are left out.

    Raises:
        WeightsError: another one has no such parameter; the message names its key.
    """
    updates = lora.by_parameter
    if left_out := text_to_video_entry(lora, parameters):
        _log.info("%s: %s left out", lora.where, " and ".join(left_out))
        updates = {name: update for name, update in updates.items() if update.key not in left_out}
    for name, update in updates.items():
        if name not in parameters:
            raise WeightsError(
                f"{lora.where}: '{update.key}' has nothing to update here; this LoRA is for another network"
            )
        needed = tuple(parameters[name].shape)
        if update.shape != needed:
            raise WeightsError(
                f"{lora.where}: '{update.key}' is an update of shape {list(update.shape)}, and the weight has"
                f" {list(needed)}; this LoRA is for another network"
            )
    return replace(lora, by_parameter=updates)


def text_to_video_entry(lora: LoraUpdates, parameters: Mapping[str, Tensor]) -> list[str]:
    """Keys that update the patch embedding of text-to-video, if that of `parameters` has more channels."""
    update, weight = lora.by_parameter.get(f"{ENTRY}.weight"), parameters.get(f"{ENTRY}.weight")
    if update is None or weight is None or len(update.shape) != weight.ndim:
        return []
    rows, channels, *kernel = update.shape  # [out, in, t, h, w]
    if channels != TEXT_TO_VIDEO_CHANNELS or weight.shape[1] <= channels:
        return []
    if (rows, *kernel) != (weight.shape[0], *weight.shape[2:]):
        return []  # of another width, which no update of this LoRA fits
    return [
        lora.by_parameter[name].key
        for name in (f"{ENTRY}.weight", f"{ENTRY}.bias")
        if name in lora.by_parameter
    ]


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

    Raises:
        MissingPackageError: peft is not installed.
    """
    peft = require("peft", extra="train")
    modules = list(lora_names(network).values())
    config = peft.LoraConfig(
        r=options.rank, lora_alpha=options.alpha, target_modules=modules, lora_dropout=0.0
    )
    network.requires_grad_(False)
    peft.inject_adapter_in_model(config, network)
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
