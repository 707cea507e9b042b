"""Memory modes: where the weights of a network are while it computes and while it waits.

    full        on the device, all the time
    model       in host memory; on the device only while the network computes
    group       as model, but of a stack of blocks only the one that computes and the next are on the device
    fp8         as model, and the linear layers of a video transformer's blocks are stored in eight bits
    sequential  as group, layer by layer: least memory, and slow

`OffloadedModule` applies a mode to a network. In modes group and sequential an `OffloadGroup` onloads units
(blocks or layers) around their use: while one computes, the next one is copied, on a CUDA device on a stream
of its own. Host memory keeps its copy, so that nothing is ever copied back. What is not in a stack of blocks
(a codec, embeddings, a head; in mode sequential norms and tables, too) moves as one. Results do not depend on
the mode, except for fp8.

diffusers' `apply_group_offloading` does the same, but its prefetching hooks remove step caches and compiled
blocks that are added later. Here a unit's `forward` is replaced, innermost: a step cache that skips it leaves
it in host memory, and torch.compile compiles what it computes, not how it is copied.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from more4d.networks.interface import fp32_buffers, fp32_parameters
from more4d.networks.video_vae import WanVideoVae
from more4d.networks.wan import WanTransformer
from more4d.performance.config import Memory

OFFLOAD_DEVICE = torch.device("cpu")
FP8_DTYPE = torch.float8_e4m3fn
FP8_SKIP_PATTERNS = ("norm",)
"""Layers of a block that keep their type in mode fp8, by a part of their name; non-linear ones do anyway."""
BLOCK_LISTS = ("blocks", "block", "layers")
"""Names of the lists of blocks in the transformer, in umT5 and in CLIP; no codec has one."""
LEAF_LAYERS = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""What is onloaded by itself in mode sequential."""
UNITS_ON_DEVICE = 2
"""Blocks, or layers, on the device at once: one computes, the next one is copied."""
TILE_PX: dict[Memory, int | None] = {
    "full": None,
    "model": 512,
    "group": 256,
    "fp8": 256,
    "sequential": 128,
}
"""Sides of the tiles in which a video is decoded; None decodes it whole. See `WanVideoVae.tile_px`."""
CHUNK_BYTES = 2**30
"""Size of chunks of pinned memory. torch pins powers of two: tensor by tensor, up to half would be wasted."""
ALIGNED_TO = 512


class OffloadedModule:
    """A network whose weights are on its device only while it computes, as its memory mode says.

    Outside of `on_device` nothing may be computed with it, except in mode full.
    """

    def __init__(
        self, network: nn.Module, memory: Memory, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Take over `network`, which has to be in host memory, or on the device already in mode full.

        Args:
            dtype: the type it computes in, which is that of its weights.
        """
        self.network, self.memory, self.device = network, memory, device
        for module in network.modules():
            if isinstance(module, WanVideoVae):
                module.tile_px = TILE_PX[memory]
        if memory == "fp8":
            from diffusers.hooks import apply_layerwise_casting

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
            for tensor in self._whole if self._uses == 1 else ():
                onloaded.append((tensor, tensor.data))
                onload_(tensor, self.device)
            yield self.network
        finally:
            self._uses -= 1
            for tensor, cpu_data in onloaded:
                offload_(tensor, cpu_data)
            if not self._uses:
                for group in self._groups:
                    group.offload_all()


@dataclass(frozen=True, kw_only=True)
class WeightBytes:
    """Where the bytes of one network's weights are.

    Attributes:
        host: in host memory, from loading on.
        device_peak: on the device, at most, while it computes.
        device_idle: on the device while other networks compute.
        onload_once: copied to the device whenever `on_device` is entered.
        onload_per_call: copied to the device, from pinned memory, in every call.
    """

    host: int
    device_peak: int
    device_idle: int
    onload_once: int = 0
    onload_per_call: int = 0


def weight_bytes(network: nn.Module, memory: Memory, dtype: torch.dtype) -> WeightBytes:
    """Bytes of a network, perhaps on "meta", under `OffloadedModule` on a GPU, with weights of type `dtype`.

    Tensors that are kept in float32 (`networks.interface`) count as such, and offloaded groups lie in pinned
    memory, which comes in powers of two. Loading takes more host memory for a moment in mode fp8: all weights
    in `dtype`.
    """
    fp32_ids = fp32_parameters(network) | fp32_buffers(network)

    def size(tensors: Iterable[Tensor], stored: torch.dtype = dtype) -> int:
        total = 0
        for tensor in tensors:
            keeps_type = id(tensor) in fp32_ids or not tensor.is_floating_point()
            total += tensor.numel() * (tensor.dtype if keeps_type else stored).itemsize
        return total

    tensors = module_tensors(network)
    total = size(tensors)
    if memory == "full":
        return WeightBytes(host=0, device_peak=total, device_idle=total)
    if memory == "fp8":
        layers = [
            module
            for blocks in fp8_block_lists(network)
            for name, module in blocks.named_modules()
            if isinstance(module, LEAF_LAYERS) and not any(part in name for part in FP8_SKIP_PATTERNS)
        ]
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
    """The outermost modules that hold a list of blocks, which are computed one after the other."""
    if any(isinstance(getattr(network, name, None), nn.ModuleList) for name in BLOCK_LISTS):
        return [network]
    return [owner for child in network.children() for owner in stack_owners(child)]


def fp8_block_lists(network: nn.Module) -> list[nn.ModuleList]:
    """The blocks whose linear layers fp8 stores in eight bits: those of video transformers."""
    return [module.blocks for module in network.modules() if isinstance(module, WanTransformer)]


def offload_units(owner: nn.Module, memory: Memory) -> list[nn.Module]:
    """What is onloaded and offloaded by itself while `owner` computes."""
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


def onload_(tensor: Tensor, device: torch.device) -> None:
    """Replace the data of `tensor` by a copy on the device."""
    tensor.data = tensor.data.to(device, non_blocking=True)


def offload_(tensor: Tensor, cpu_data: Tensor) -> None:
    """Give `tensor` its data in host memory again: it has not changed, so nothing is copied back."""
    tensor.data = cpu_data


def module_tensors(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers, each once."""
    return [*module.parameters(), *module.buffers()]


class OnloadForward:
    """A module's `forward` that onloads the module's weights, then computes.

    Attributes:
        inner: the function that computes; None for the forward of the module's class.
    """

    def __init__(self, module: nn.Module, onload: Callable[[], None]) -> None:
        # A weak reference: a cycle would keep the weights of dropped networks until garbage is collected.
        self._module, self._onload = weakref.ref(module), onload
        self.inner: Callable[..., Any] | None = vars(module).get("forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._onload()
        return self.inner_forward(*args, **kwargs)

    @property
    def inner_forward(self) -> Callable[..., Any]:
        """The function that computes once the weights are on the device."""
        if self.inner is not None:
            return self.inner
        module = self._module()
        return type(module).forward.__get__(module)


class OffloadGroup:
    """The units of a stack, of which at most two are on the device. Their order is learned from the calls."""

    def __init__(self, units: Sequence[nn.Module], device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._tensors = [module_tensors(unit) for unit in units]
        self._next: dict[int, int] = {}
        self._last: int | None = None
        self._cpu_data: dict[int, list[Tensor]] = {}
        self._ready: dict[int, torch.cuda.Event] = {}
        for index, unit in enumerate(units):
            unit.forward = OnloadForward(unit, partial(self.onload, index))

    def onload(self, index: int) -> None:
        """Bring a unit to the device for what is computed from now on, and start to copy the next one."""
        if self._last is not None:
            self._next.setdefault(self._last, index)
        self._last = index
        wanted = dict.fromkeys((index, self._next.get(index, index)))
        for other in [other for other in self._cpu_data if other not in wanted]:
            self._offload(other)
        for unit in wanted:
            self._onload(unit)
        if self._stream is not None:
            torch.cuda.current_stream(self._device).wait_event(self._ready[index])

    def offload_all(self) -> None:
        """Offload every unit, also after an error or a prefetch that was not needed."""
        for index in list(self._cpu_data):
            self._offload(index)
        self._last = None

    def _onload(self, index: int) -> None:
        if index in self._cpu_data:
            return
        self._cpu_data[index] = [tensor.data for tensor in self._tensors[index]]
        with torch.cuda.stream(self._stream):  # of None: as without it
            for tensor in self._tensors[index]:
                onload_(tensor, self._device)
        if self._stream is not None:
            self._ready[index] = self._stream.record_event()

    def _offload(self, index: int) -> None:
        if self._stream is not None:
            # Its memory is reused by the next copy on this stream, which must wait until it was used.
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
        for tensor, cpu_data in zip(self._tensors[index], self._cpu_data.pop(index), strict=True):
            offload_(tensor, cpu_data)


def is_group_offloaded(module: nn.Module) -> bool:
    """Whether this module's weights are onloaded when it is called."""
    return isinstance(vars(module).get("forward"), OnloadForward)


def pin_tensors(tensors: Sequence[Tensor]) -> None:
    """Move tensors to pinned host memory, from which a GPU copies while it computes; chunk by chunk."""
    for size, places in pinned_chunks([tensor.nbytes for tensor in tensors]):
        chunk = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        for index, start in places:
            move_to_chunk(chunk, start, tensors[index])


def move_to_chunk(chunk: Tensor, start: int, tensor: Tensor) -> None:
    """Replace the data of `tensor` by a copy that lies `start` bytes into the chunk."""
    place = chunk[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
    tensor.data = place.copy_(tensor.data)


def pinned_chunks(sizes: Sequence[int]) -> list[tuple[int, list[tuple[int, int]]]]:
    """Pack tensors of these sizes, in bytes, into chunks of powers of two: largest first, first fit.

    Returns:
        of each chunk its size, and index and first byte of each tensor in it.
    """
    filled: list[int] = []
    places: list[list[tuple[int, int]]] = []
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        taken = -(-sizes[index] // ALIGNED_TO) * ALIGNED_TO
        found = next((n for n, used in enumerate(filled) if used + taken <= CHUNK_BYTES), len(filled))
        if found == len(filled):
            filled.append(0)
            places.append([])
        places[found].append((index, filled[found]))
        filled[found] += taken
    return [(1 << (used - 1).bit_length(), lying) for used, lying in zip(filled, places, strict=True) if used]
