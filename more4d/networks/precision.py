"""Tensors that stay in float32 in networks of a lower precision.

Most of a network can be rounded to bfloat16. Some tensors are tiny, but rounding them changes every output:
the constants that images are normalised with, the embedding of the timestep, the tables of modulation.
Parameters are named by their modules in `keep_in_fp32`; buffers belong to a module of the class
`Fp32Buffers`.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Fp32Buffers(nn.Module):
    """A module whose own buffers move to a device with it, but keep their type."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Fp32Buffers":
        own = {name: buffer for name, buffer in self._buffers.items() if buffer is not None}
        super()._apply(fn, recurse)  # `.to`, `.half` and the like, applied to every tensor
        for name, buffer in own.items():
            self._buffers[name] = buffer.to(self._buffers[name].device)
        return self


def fp32_parameters(network: nn.Module) -> set[int]:
    """Ids of the parameters that are loaded in float32, whatever the type of the others.

    `keep_in_fp32` of a module names its parameters, or submodules with all of theirs. Training may still cast
    them.
    """
    return {
        id(parameter)
        for module in network.modules()
        for name in getattr(module, "keep_in_fp32", ())
        for parameter in _parameters(module.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2])
    }


def fp32_buffers(network: nn.Module) -> set[int]:
    """Ids of the buffers that keep their type, whatever the network is cast to."""
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
    """The type of a parameter: `wanted`, or at least float32 where it is kept in float32."""
    return torch.promote_types(wanted, torch.float32) if keep_fp32 else wanted
