"""What one pass of 4D-STraG or 4D-ViSM needs, found by running it without content on the meta device.

Blocks are alike, so a network of few of them tells of any number: operations and what training keeps grow by
the same amount with every block, and inference never holds more than one block's.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from more4d.networks.interface import Conditions, STraGConditions, ViSMConditions
from more4d.networks.strag import STraG, STraGConfig
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.networks.wan_layers import rotary_table
from more4d.planning.op_counter import count_ops, tensor_bytes

GeneratorConfig = STraGConfig | ViSMConfig
Precision = Literal["float32", "autocast", "bfloat16"]
Prepare = Callable[[nn.Module], Any]
IMAGE_TOKENS = 257
"""A class token and 16 x 16 patches of CLIP ViT-H/14."""
FEATURE_GRID = 14
"""Rows and columns of OmniMAE's patches."""
FEW_BLOCKS = 2


@dataclass(frozen=True, kw_only=True)
class LatentSize:
    """How many samples there are, and latent frames, rows and columns of each."""

    batch: int = 1
    frames: int
    rows: int
    columns: int


@dataclass(frozen=True, kw_only=True)
class PassCost:
    """Operations of a pass, the most bytes of what it makes that live at once, and bytes of its inputs."""

    flops: int
    activation_bytes: int
    input_bytes: int


def inference_cost(config: GeneratorConfig, size: LatentSize, dtype: torch.dtype) -> PassCost:
    """One pass of a network of type `dtype`, without gradients."""
    costs = []
    for layers in (FEW_BLOCKS - 1, FEW_BLOCKS):
        network, inputs = _network(config, layers).to(dtype).eval(), dummy_inputs(config, size, dtype)
        with torch.inference_mode():
            costs.append(_measure(network, inputs, lambda network, inputs: network(*inputs)))
    fewer, few = costs
    flops = _extrapolate(fewer.flops, few.flops, config.wan.layers)
    return replace(few if config.wan.layers >= FEW_BLOCKS else fewer, flops=flops)


def training_cost(
    config: GeneratorConfig,
    size: LatentSize,
    *,
    checkpointing: bool,
    precision: Precision = "autocast",
    prepare: Prepare = lambda network: None,
) -> PassCost:
    """One pass and the way back, without the gradients of the weights themselves.

    Args:
        checkpointing: keep only what enters each block, and compute the rest again on the way back.
        precision: "autocast" has weights in float32, of which it makes copies in bfloat16, which count here;
            "bfloat16" has weights of that type, as under ZeRO.
        prepare: what is done with the network first: low-rank updates added.
    """
    autocast = precision == "autocast"
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32

    def step(network: nn.Module, inputs: tuple) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            (network(*inputs).float() ** 2).mean().backward()

    costs = []
    for layers in (FEW_BLOCKS, FEW_BLOCKS + 1):
        network = _network(config, layers)
        prepare(network)
        network.to(dtype).train()
        if checkpointing:
            network.enable_gradient_checkpointing()
        with _fake_cpu_tensors(network) if autocast else nullcontext():
            for parameter in network.parameters():
                if parameter.requires_grad:
                    parameter.register_post_accumulate_grad_hook(_drop_gradient)
            device = "cpu" if autocast else "meta"
            costs.append(_measure(network, dummy_inputs(config, size, dtype, device=device), step))
    fewer, few = costs
    layers = config.wan.layers - FEW_BLOCKS + 1
    return PassCost(
        flops=_extrapolate(fewer.flops, few.flops, layers),
        activation_bytes=_extrapolate(fewer.activation_bytes, few.activation_bytes, layers),
        input_bytes=few.input_bytes,
    )


def parameters_of(config: GeneratorConfig, prepare: Prepare = lambda network: None) -> tuple[int, int]:
    """How many numbers a network holds, and how many of them are trained after `prepare`."""
    counts = []
    for layers in (1, 2):
        network = _network(config, layers)
        prepare(network)
        sizes = [(p.numel(), p.numel() * p.requires_grad) for p in network.parameters()]
        counts.append(tuple(sum(column) for column in zip(*sizes, strict=True)))
    fewer, few = counts
    total, trained = (_extrapolate(one, two, config.wan.layers) for one, two in zip(fewer, few, strict=True))
    return total, trained


def _network(config: GeneratorConfig, layers: int) -> STraG | ViSM:
    config = replace(config, wan=replace(config.wan, layers=layers))
    with torch.device("meta"):
        return STraG(config) if isinstance(config, STraGConfig) else ViSM(config)


def _measure(network: nn.Module, inputs: tuple, run: Callable[[nn.Module, tuple], object]) -> PassCost:
    with count_ops() as counter:
        run(network, inputs)
    noisy, sigma, conditions = inputs
    return PassCost(
        flops=counter.flops,
        activation_bytes=counter.peak_bytes,
        input_bytes=tensor_bytes(noisy, sigma, *vars(conditions).values()),
    )


def dummy_inputs(
    config: GeneratorConfig, size: LatentSize, dtype: torch.dtype, *, device: str = "meta"
) -> tuple[Tensor, Tensor, Conditions]:
    """Noisy latents, their noise level, and conditions, without content."""
    wan = config.wan

    def empty(*shape: int) -> Tensor:
        return torch.empty(size.batch, *shape, dtype=dtype, device=device)

    grid = (size.frames, size.rows, size.columns)
    clip = None if wan.image_dim is None else empty(IMAGE_TOKENS, wan.image_dim)
    text = empty(wan.text_length, wan.text_dim)
    conditions: Conditions
    if isinstance(config, STraGConfig):
        features = wan.motion_feature_dim
        conditions = STraGConditions(
            image_latents=empty(config.image_channels, *grid),
            depth_latents=empty(config.depth_channels, *grid),
            text=text,
            reference_latents=empty(config.latent_channels, *grid[1:]) if wan.reference_tokens else None,
            clip=clip,
            motion_features=None if features is None else empty(features, FEATURE_GRID, FEATURE_GRID),
        )
    else:
        conditions = ViSMConditions(
            known_latents=empty(config.latent_channels, *grid),
            known_mask=empty(config.mask_channels, *grid),
            text=text,
            clip=clip,
        )
    return empty(config.latent_channels, *grid).float(), torch.empty(size.batch, device=device), conditions


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None


@contextmanager
def _fake_cpu_tensors(network: nn.Module) -> Iterator[None]:
    """Tensors without content that claim to be on a CPU: autocast does not know the meta device."""
    rotary_table.cache_clear()  # of tables with content
    try:
        with FakeTensorMode():
            for module in network.modules():
                for name, parameter in module._parameters.items():
                    if parameter is not None:
                        empty = torch.empty(parameter.shape, dtype=parameter.dtype, device="cpu")
                        module._parameters[name] = nn.Parameter(empty, parameter.requires_grad)
            yield
    finally:
        rotary_table.cache_clear()


def _extrapolate(one_less: int, here: int, layers: int) -> int:
    """Value for `layers` of what is `one_less` for one and `here` for two, and goes on like that."""
    return one_less + (layers - 1) * (here - one_less)
