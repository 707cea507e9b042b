"""What is applied to a generator once, before it samples: `prepare`.

Attention kernel, compilation, context parallelism and a step cache change how fast the blocks of a
transformer run, and (but for step caches) their results only in rounding. `prepare` applies them all, so that
the sampling loop is plain:

    with prepare(network, settings, device=noise.device, calls=sampler_calls) as model:
        for sigma, next_sigma in pairwise(sigmas):
            velocity = model(noisy, sigma, conditions, "cond")      # and "uncond", or "batched"
            ...

The context lasts for one sample: at its end what a step cache kept is dropped. Compiled blocks stay compiled.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from more4d.foundation.errors import ConfigError
from more4d.networks.context_parallel import ContextParallel
from more4d.networks.interface import Conditions
from more4d.networks.wan import WanBlock, WanTransformer
from more4d.networks.wan_config import WanConfig
from more4d.performance.config import (
    ATTENTION,
    NOT_COMPILED,
    Memory,
    PerformanceSettings,
    check_context_parallel,
    check_step_cache,
)
from more4d.performance.offload import is_group_offloaded

PreparedModel = Callable[[Float[Tensor, "b 16 f h w"], Float[Tensor, "b"], Conditions, str], Tensor]
"""Velocity of (noisy latents, sigma, conditions, branch); the branch names what a step cache keeps apart."""

HOPPER = (9, 0)  # compute capability
COMPLEX = "Torchinductor does not support code generation for complex operators"

KERNELS: dict[str, tuple[SDPBackend, ...]] = {
    "math": (SDPBackend.MATH,),
    "efficient": (SDPBackend.EFFICIENT_ATTENTION,),
    "flash": (SDPBackend.FLASH_ATTENTION,),
    "cudnn": (SDPBackend.CUDNN_ATTENTION,),
}
"""Attention kernels that torch brings, by the name settings use."""


@contextmanager
def prepare(
    network: nn.Module,
    settings: PerformanceSettings,
    *,
    device: torch.device,
    calls: int,
    context_parallel: ContextParallel | None = None,
) -> Iterator[PreparedModel]:
    """A generator with everything applied that `settings` ask for, for one sample; see the module.

    Args:
        network: `STraG` or `ViSM` on its device (inside `OffloadedModule.on_device`); any network of (noisy,
            sigma, conditions) if there is neither a cache nor compilation nor context parallelism.
        settings: `attention`, `compile` and `cache`, as in the sampling settings of a preset.
        device: where it computes.
        calls: of the network in each branch of the sample, which the magnitude cache has to know.
        context_parallel: the processes that compute the sample together, if several do.

    Raises:
        ConfigError: a setting does not go with this network, its device or its memory mode.
    """
    with ExitStack() as applied:
        if settings.compile:
            compile_blocks(network.transformer)
        if context_parallel is not None:
            network.transformer.context_parallel = context_parallel
            applied.callback(setattr, network.transformer, "context_parallel", None)
        applied.enter_context(attention_kernel(settings.attention, device))
        branch = lambda name: nullcontext()  # noqa: E731
        if settings.cache is not None:
            if network.transformer.context_parallel is not None:
                check_context_parallel(settings)
            from more4d.performance.step_cache import step_cache  # imports diffusers, which takes seconds

            branch = applied.enter_context(step_cache(network.transformer, settings.cache, calls=calls))

        def model(noisy: Tensor, sigma: Tensor, conditions: Conditions, branch_name: str) -> Tensor:
            with branch(branch_name):
                return network(noisy, sigma, conditions)

        yield model


def check_settings(
    settings: PerformanceSettings,
    wan: WanConfig,
    *,
    device: torch.device,
    memory: Memory,
    shared: bool = False,
) -> None:
    """Refuse what `prepare` would refuse, before anything is loaded.

    Args:
        wan: configuration of the generator's transformer.
        shared: whether several processes compute each sample together.

    Raises:
        ConfigError: one line about the first setting that does not go with the others, or with the device.
    """
    if shared:
        check_context_parallel(settings)
    if settings.compile and memory == "sequential":
        raise ConfigError(NOT_COMPILED)
    if settings.cache is not None:
        check_step_cache(wan, settings.cache)
    check_kernel(settings.attention, device, width=wan.dim // wan.heads)


def best_kernels(device: torch.device) -> tuple[SDPBackend, ...]:
    """torch's kernels in the order in which they are tried on `device`.

    cuDNN's kernel is made for Hopper and later chips; older ones and CPUs take torch's own order.
    `benchmarks/sampler.py` measures them.
    """
    flash, efficient, math = SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= HOPPER:
        return SDPBackend.CUDNN_ATTENTION, flash, efficient, math
    return flash, efficient, math


@contextmanager
def attention_kernel(name: str, device: torch.device) -> Iterator[None]:
    """Use the attention kernel `name` of `ATTENTION` inside the context.

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
    """Refuse a kernel of `ATTENTION` that does not run on `device` with heads of this width.

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
    """Compile the blocks with torch.compile, as one program, on their first call; they stay compiled.

    Compiled is what a block computes, inside the hooks of step caches, which may come and go without
    compiling again, and inside the onloading of its weights, if they are offloaded in groups.

    Raises:
        ConfigError: weights are offloaded layer by layer, with nothing to compile between two of them.
    """
    for block in transformer.blocks:
        if any(is_group_offloaded(module) for module in block.modules() if module is not block):
            raise ConfigError(NOT_COMPILED)
    # torch warns at a later call that the rotary products run uncompiled, which no user can change.
    warnings.filterwarnings("ignore", message=COMPLEX, category=UserWarning)
    for block in transformer.blocks:
        if isinstance(block, WanBlock) and not is_compiled(block):
            if is_group_offloaded(block):
                block.forward.inner = torch.compile(block.forward.inner_forward, backend=backend)
            else:
                block.forward = torch.compile(block.forward, backend=backend)
            block.more4d_compiled = True


def is_compiled(block: nn.Module) -> bool:
    """Whether `compile_blocks` has compiled this block."""
    return getattr(block, "more4d_compiled", False)
