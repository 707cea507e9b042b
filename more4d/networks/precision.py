"""Tensors that keep single precision in networks of a lower one: constants, and what angles and time become.

A network of low precision computes most of itself in it. Some tensors are tiny, and rounding them is felt
everywhere: the constants that pictures are prepared with, the timestep's way in, tables of modulation.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Fp32Buffers(nn.Module):
    """A module whose own buffers follow it to a device, but not to another precision."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Fp32Buffers":
        own = {name: buffer for name, buffer in self._buffers.items() if buffer is not None}
        super()._apply(fn, recurse)
        for name, buffer in own.items():
            self._buffers[name] = buffer.to(self._buffers[name].device)
        return self


def fp32_parameters(network: nn.Module) -> set[int]:
    """Identities of the parameters that are loaded in single precision, whatever is asked for the others.

    Modules name theirs, or modules that hold theirs, in `keep_in_fp32`. Training may lower them all the same.
    """
    return {
        id(parameter)
        for module in network.modules()
        for name in getattr(module, "keep_in_fp32", ())
        for parameter in _parameters(module.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2])
    }


def fp32_buffers(network: nn.Module) -> set[int]:
    """Identities of the buffers that keep their precision, whatever is asked for the network."""
    return {
        id(buffer)
        for module in network.modules()
        if isinstance(module, Fp32Buffers)
        for buffer in module._buffers.values()
        if buffer is not None
    }


def _parameters(owner: nn.Module, name: str) -> list[nn.Parameter]:
    found = getattr(owner, name)
    return list(found.parameters()) if isinstance(found, nn.Module) else [found]


def parameter_dtype(wanted: torch.dtype, *, keep_fp32: bool) -> torch.dtype:
    """The type of a parameter: `wanted`, or at least float32 where it is kept exact."""
    return torch.promote_types(wanted, torch.float32) if keep_fp32 else wanted
