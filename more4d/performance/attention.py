"""Faster blocks with the same results to rounding: which attention kernel, and compiled or not."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from more4d.foundation.errors import ConfigError
from more4d.networks.wan import WanBlock, WanTransformer
from more4d.performance.config import ATTENTION
from more4d.performance.group_offload import is_group_offloaded

HOPPER = (9, 0)
NOT_COMPILED = "compile does not go with memory sequential; take memory group, or leave compile out"
COMPLEX = "Torchinductor does not support code generation for complex operators"

KERNELS: dict[str, tuple[SDPBackend, ...]] = {
    "math": (SDPBackend.MATH,),
    "efficient": (SDPBackend.EFFICIENT_ATTENTION,),
    "flash": (SDPBackend.FLASH_ATTENTION,),
    "cudnn": (SDPBackend.CUDNN_ATTENTION,),
}
"""Attention kernels that torch brings, by the name settings use."""


def best_kernels(device: torch.device) -> tuple[SDPBackend, ...]:
    """Torch's kernels in the order in which they are tried on `device`.

    cuDNN's is made for Hopper and later chips; older ones and CPUs take torch's own order. That it is the
    fastest there is what cuDNN's makers say; `benchmarks/sampler.py` measures it.
    """
    flash, efficient, math = SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= HOPPER:
        return SDPBackend.CUDNN_ATTENTION, flash, efficient, math
    return flash, efficient, math


@contextmanager
def attention_kernel(name: str, device: torch.device) -> Iterator[None]:
    """Attend with the kernel `name` of `ATTENTION` inside the block.

    Raises:
        ConfigError: no such kernel, or `device` has none of this name.
    """
    if name not in ATTENTION:
        raise ConfigError(f"unknown attention '{name}'; known: {', '.join(ATTENTION)}")
    if device.type == "cpu" and name not in ("best", "math", "flash"):
        raise ConfigError(f"attention '{name}' needs a GPU; on a CPU there are best, math and flash")
    kernels = best_kernels(device) if name == "best" else KERNELS[name]
    with sdpa_kernel(list(kernels), set_priority=True):
        yield


def check_kernel(name: str, device: torch.device, *, width: int) -> None:
    """Refuse a kernel of `ATTENTION` that cannot attend on `device` in heads of this width.

    Raises:
        ConfigError: it cannot.
    """
    with attention_kernel(name, device):
        if device.type != "cuda" or name == "best":
            return
        query = torch.zeros(1, 1, 16, width, device=device, dtype=torch.bfloat16)
        try:
            functional.scaled_dot_product_attention(query, query, query)
        except RuntimeError as error:
            raise ConfigError(
                f"{torch.cuda.get_device_name(device)} cannot compute attention '{name}' in heads of width "
                f"{width}; take best"
            ) from error


def compile_blocks(transformer: WanTransformer, *, backend: str = "inductor") -> None:
    """Let torch.compile make one program for all blocks, on their first call; what is compiled stays so.

    Compiled is what a block computes, inside of whatever hooks are added to it later (step caches), which may
    come and go without compiling anew, and after its weights have come, if they travel.

    Raises:
        ConfigError: weights travel layer by layer, which leaves nothing to compile between two of them.
    """
    for block in transformer.blocks:
        if any(is_group_offloaded(module) for module in block.modules() if module is not block):
            raise ConfigError(NOT_COMPILED)
    # Said at a later call, of a rotation that plain torch computes as well: nothing that a user can change.
    warnings.filterwarnings("ignore", message=COMPLEX, category=UserWarning)
    for block in transformer.blocks:
        if isinstance(block, WanBlock) and not is_compiled(block):
            if is_group_offloaded(block):
                block.forward.inner = torch.compile(block.forward.inner_forward, backend=backend)
            else:
                block.forward = torch.compile(block.forward, backend=backend)
            block.more4d_compiled = True


def is_compiled(block: nn.Module) -> bool:
    """Whether `compile_blocks` has seen this block."""
    return getattr(block, "more4d_compiled", False)
