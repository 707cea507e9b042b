"""Where the weights of a network are while it works and while it waits: the memory modes.

    full        on the device, all the time
    model       in host memory; on the device only while the network works
    group       as model, but of a stack of blocks only the one at work and the next are on the device
    fp8         as model, and the linear layers of a video transformer's blocks are stored in eight bits
    sequential  as group, layer by layer: least memory, and slow

`performance.group_offload` moves blocks and layers, diffusers' hooks cast weights. What is not in a stack of blocks
(a codec, embeddings, a head; in mode sequential norms and tables, too) moves as one, once. Results do not
depend on the mode, but for fp8. Home is always host memory, so that a network that works often is not read
from its file again. Moves to a GPU follow torch's interfaces; where this was written there was none to try
them on.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from diffusers.hooks import apply_layerwise_casting
from torch import Tensor, nn

from more4d.networks.precision import fp32_buffers, fp32_parameters
from more4d.networks.video_vae import WanVideoVae
from more4d.networks.wan import WanTransformer
from more4d.performance import group_offload
from more4d.performance.config import Memory
from more4d.performance.group_offload import OffloadGroup, module_tensors, pin_tensors, pinned_chunks

OFFLOAD_DEVICE = torch.device("cpu")
FP8_DTYPE = torch.float8_e4m3fn
FP8_SKIP_PATTERNS = ("norm",)
"""Layers of a block that fp8 leaves alone, by a part of their name; so it does all that are not linear."""
BLOCK_LISTS = ("blocks", "block", "layers")
"""How the lists of blocks are called in the transformer, in umT5, and in CLIP; no codec has one."""
LEAF_LAYERS = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""What moves by itself in mode sequential."""
UNITS_ON_DEVICE = 2
"""Blocks, or layers, on the device at once: one works, the next one arrives."""
TILE_PX: dict[Memory, int | None] = {
    "full": None,
    "model": 512,
    "group": 256,
    "fp8": 256,
    "sequential": 128,
}
"""Sides of the tiles in which a video is decoded; None decodes it whole. See `WanVideoVae.tile_px`."""


class OffloadedModule:
    """A network that goes to its device to work, and home afterwards, as its memory mode says.

    Outside of `on_device` nothing may be computed with it (but in mode full).
    """

    def __init__(
        self, network: nn.Module, memory: Memory, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Prepare `network`, which has to be in host memory, or on the device already in mode full.

        Args:
            dtype: what it computes in; its weights are of this type.
        """
        self.network, self.memory, self.device = network, memory, device
        for module in network.modules():
            if isinstance(module, WanVideoVae):
                module.tile_px = TILE_PX[memory]
        if memory == "fp8":
            for blocks in fp8_block_lists(network):
                apply_layerwise_casting(blocks, FP8_DTYPE, dtype, skip_modules_pattern=FP8_SKIP_PATTERNS)
        stacks = _offload_stacks(network, memory)
        if stacks and device.type == "cuda":
            pin_tensors(module_tensors(network))
        self._groups = [OffloadGroup(units, device) for units in stacks]
        grouped_ids = {id(tensor) for units in stacks for unit in units for tensor in module_tensors(unit)}
        whole = [] if memory == "full" else module_tensors(network)
        self._whole = [tensor for tensor in whole if id(tensor) not in grouped_ids]
        self._uses = 0

    @contextlib.contextmanager
    def on_device(self) -> Iterator[nn.Module]:
        """The network, able to compute on its device until the block ends. It may be nested."""
        self._uses += 1
        onloaded: list[tuple[Tensor, Tensor]] = []
        try:
            if self._uses == 1:
                for tensor in self._whole:
                    onloaded.append((tensor, tensor.data))
                    group_offload.onload_(tensor, self.device)
            yield self.network
        finally:
            self._uses -= 1
            for tensor, cpu_data in onloaded:
                group_offload.offload_(tensor, cpu_data)
            if not self._uses:
                for group in self._groups:
                    group.offload_all()


@dataclass(frozen=True, kw_only=True)
class WeightBytes:
    """Where the bytes of one network's weights are.

    Attributes:
        host: in host memory, from loading to forgetting it.
        device_peak: on the device, at most, while it works.
        device_idle: on the device while other networks work.
        onload_once: to the device, whenever it comes to work.
        onload_per_call: to the device, from pinned memory, in every call.
    """

    host: int
    device_peak: int
    device_idle: int
    onload_once: int = 0
    onload_per_call: int = 0


def weight_bytes(network: nn.Module, memory: Memory, dtype: torch.dtype) -> WeightBytes:
    """What `OffloadedModule` does with a network whose weights are of type `dtype`, in bytes; it may lie on "meta".

    Tensors that are kept in single precision (`networks.precision`) count as such.

    It is a GPU's: there weights that travel lie in pinned memory, which comes in powers of two. Loading takes
    more of the host for a moment in mode fp8: all weights in `dtype`.
    """
    fp32_ids = fp32_parameters(network) | fp32_buffers(network)

    def size(tensors: Iterable[Tensor], stored: torch.dtype = dtype) -> int:
        return sum(
            tensor.numel()
            * (tensor.dtype if id(tensor) in fp32_ids else _storage_dtype(tensor, stored)).itemsize
            for tensor in tensors
        )

    tensors = module_tensors(network)
    total = size(tensors)
    if memory == "full":
        return WeightBytes(host=0, device_peak=total, device_idle=total)
    if memory == "fp8":
        layers = [layer for blocks in fp8_block_lists(network) for layer in _fp8_layers(blocks)]
        stored = [size(module_tensors(layer), FP8_DTYPE) for layer in layers]
        computing = [size(module_tensors(layer)) for layer in layers]
        small = total - sum(computing) + sum(stored)
        most = small + max(computing, default=0)
        return WeightBytes(host=small, device_peak=most, device_idle=0, onload_once=small)
    stacks = [[size(module_tensors(unit)) for unit in units] for units in _offload_stacks(network, memory)]
    if not stacks:
        return WeightBytes(host=total, device_peak=total, device_idle=0, onload_once=total)
    once = total - sum(map(sum, stacks))
    return WeightBytes(
        host=sum(size for size, _ in pinned_chunks([size([tensor]) for tensor in tensors])),
        device_peak=once + sum(sum(sorted(units)[-UNITS_ON_DEVICE:]) for units in stacks),
        device_idle=0,
        onload_once=once,
        onload_per_call=sum(map(sum, stacks)),
    )


def stack_owners(network: nn.Module) -> list[nn.Module]:
    """The outermost modules that hold a list of blocks, each of which is computed after the other."""
    if any(isinstance(getattr(network, name, None), nn.ModuleList) for name in BLOCK_LISTS):
        return [network]
    return [owner for child in network.children() for owner in stack_owners(child)]


def fp8_block_lists(network: nn.Module) -> list[nn.ModuleList]:
    """The blocks whose linear layers fp8 stores in eight bits: those of video transformers."""
    return [module.blocks for module in network.modules() if isinstance(module, WanTransformer)]


def _fp8_layers(blocks: nn.ModuleList) -> list[nn.Module]:
    return [
        module
        for name, module in blocks.named_modules()
        if isinstance(module, LEAF_LAYERS) and not any(part in name for part in FP8_SKIP_PATTERNS)
    ]


def offload_units(owner: nn.Module, memory: Memory) -> list[nn.Module]:
    """What goes to the device and back by itself while `owner` computes."""
    if memory == "sequential":
        return [module for module in owner.modules() if isinstance(module, LEAF_LAYERS)]
    return [
        block
        for child in owner.children()
        if isinstance(child, (nn.ModuleList, nn.Sequential))
        for block in child
    ]


def _offload_stacks(network: nn.Module, memory: Memory) -> list[list[nn.Module]]:
    if memory not in {"group", "sequential"}:
        return []
    return [offload_units(owner, memory) for owner in stack_owners(network)]


def _storage_dtype(tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    return dtype if tensor.is_floating_point() else tensor.dtype
