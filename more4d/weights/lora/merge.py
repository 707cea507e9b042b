"""Low-rank updates (LoRA, arXiv 2106.09685) merged into networks, several at once, and taken out exactly.

`networks.lora_reading` reads their files; `networks.adapters` trains them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from more4d.files.checkpoint_headers import read_headers
from more4d.foundation.errors import WeightsError
from more4d.networks.strag import STraG
from more4d.networks.vism import ViSM
from more4d.weights.lora.keys import KOHYA_PREFIX
from more4d.weights.lora.reading import LoraUpdates, parse_lora
from more4d.weights.published_keys import network_names

Keep = Literal["on the host", "in place", "nothing"]


def merge_loras(
    network: STraG | ViSM, loras: Sequence[tuple[LoraUpdates, float]], *, keep: Keep = "on the host"
) -> dict[str, Tensor]:
    """Add every LoRA at its strength (1 is what was trained) to the weights it updates.

    All are added in float32 to what the network holds, and rounded to its precision once. A parameter in
    float8 stays within what that can hold.

    Args:
        keep: where the weights that are changed are kept as they were: in the memory of the host, on the
            device they are on, or nowhere, for who never unmerges or has them in a file.

    Returns:
        Those weights by the name of their parameter, bit for bit, for `unmerge_loras`; {} if nothing is kept.

    Raises:
        WeightsError: a LoRA updates what `network` has not, or has in another shape; nothing has been changed
            then.
    """
    parameters = dict(network.named_parameters())
    for lora, _ in loras:
        _check(lora, parameters)
    originals = {}
    with torch.no_grad():
        for name in dict.fromkeys(name for lora, _ in loras for name in lora.by_parameter):
            parameter = parameters[name]
            if keep != "nothing":
                device = "cpu" if keep == "on the host" else parameter.device
                originals[name] = parameter.detach().to(device, copy=True)
            merged = parameter.to(torch.float32, copy=True)
            for lora, strength in loras:
                if name in lora.by_parameter:
                    merged.add_(lora.by_parameter[name].delta(parameter.device), alpha=strength)
            if parameter.dtype.itemsize == 1:
                merged.clamp_(*_limits(parameter.dtype))  # beyond them a float8 is NaN, not large
            parameter.copy_(merged)
    return originals


def unmerge_loras(network: STraG | ViSM, originals: Mapping[str, Tensor]) -> None:
    """Put back what was there before `merge_loras`, exactly: what it returned, or the same read again.

    Raises:
        WeightsError: `originals` are of another network; nothing has been changed then.
    """
    parameters = dict(network.named_parameters())
    for name, original in originals.items():
        if name not in parameters or parameters[name].shape != original.shape:
            raise WeightsError(f"'{name}' to be put back is of another network; load that again instead")
    with torch.no_grad():
        for name, original in originals.items():
            parameters[name].copy_(original)


def check_lora(path: Path, network: STraG | ViSM) -> None:
    """Look at the header of a LoRA's file, and refuse it if it is not for `network`, which may be on meta.

    Raises:
        WeightsError: one line about the first key that does not fit, or about what is broken.
    """
    headers = read_headers(path)
    if headers.problems:
        raise WeightsError(headers.problems[0].line(path))
    _check(parse_lora(headers.shapes, where=str(path)), dict(network.named_parameters()))


def lora_names(network: STraG | ViSM) -> dict[str, str]:
    """Name in the published files -> name in `network`, of every linear module: what training updates."""
    table = {}
    for published, ours in network_names(network).items():
        module = ours.removesuffix(".weight")
        if module != ours and isinstance(network.get_submodule(module), nn.Linear):
            table[KOHYA_PREFIX + published.removesuffix(".weight").replace(".", "_")] = module
    return table


def _check(lora: LoraUpdates, parameters: Mapping[str, Tensor]) -> None:
    for name, update in lora.by_parameter.items():
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


def _limits(dtype: torch.dtype) -> tuple[float, float]:
    return torch.finfo(dtype).min, torch.finfo(dtype).max
