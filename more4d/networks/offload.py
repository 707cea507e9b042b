"""Where the weights of a network are while it works and while it waits: the memory modes.

    full        on the device, all the time
    model       in host memory; on the device only while the network works
    group       as model, but of a stack of blocks only the one at work and the next are on the device
    fp8         as model, and the linear layers of a video transformer's blocks are stored in eight bits
    sequential  as group, layer by layer: least memory, and slow

`networks.travelling` moves blocks and layers, diffusers' hooks cast weights. What is not in a stack of blocks
(a codec, embeddings, a head; in mode sequential norms and tables, too) moves as one, once. Results do not
depend on the mode, but for fp8. Home is always host memory, so that a network that works often is not read
from its file again. Moves to a GPU follow torch's interfaces; where this was written there was none to try
them on.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from diffusers.hooks import apply_layerwise_casting
from torch import Tensor, nn

from more4d.networks import travelling
from more4d.networks.exact import exact_buffers, exact_parameters
from more4d.networks.travelling import Travellers, pin, pinned_chunks, tensors_of
from more4d.networks.video_vae import WanVideoVae
from more4d.networks.wan import WanTransformer

Memory = Literal["full", "model", "group", "fp8", "sequential"]

MEMORY_MODES: tuple[Memory, ...] = ("full", "model", "group", "fp8", "sequential")
HOME = torch.device("cpu")
EIGHT_BITS = torch.float8_e4m3fn
KEPT_EXACT = ("norm",)
"""Layers of a block that fp8 leaves alone, by a part of their name; so it does all that are not linear."""
STACKS = ("blocks", "block", "layers")
"""How the lists of blocks are called in the transformer, in umT5, and in CLIP; no codec has one."""
LAYERS = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""What moves by itself in mode sequential."""
AHEAD = 2
"""Blocks, or layers, on the device at once: one works, the next one arrives."""
TILE_PX: dict[Memory, int | None] = {
    "full": None,
    "model": 512,
    "group": 256,
    "fp8": 256,
    "sequential": 128,
}
"""Sides of the tiles in which a video is decoded; None decodes it whole. See `WanVideoVae.tile_px`."""


class Placed:
    """A network that goes to its device to work, and home afterwards, as its memory mode says.

    Outside of `at_work` nothing may be computed with it (but in mode full).
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
            for blocks in eight_bit_stacks(network):
                apply_layerwise_casting(blocks, EIGHT_BITS, dtype, skip_modules_pattern=KEPT_EXACT)
        stacks = _travelling_stacks(network, memory)
        if stacks and device.type == "cuda":
            pin(tensors_of(network))
        self._travellers = [Travellers(units, device) for units in stacks]
        travelling_ids = {id(tensor) for units in stacks for unit in units for tensor in tensors_of(unit)}
        whole = [] if memory == "full" else tensors_of(network)
        self._whole = [tensor for tensor in whole if id(tensor) not in travelling_ids]
        self._at_work = 0

    @contextlib.contextmanager
    def at_work(self) -> Iterator[nn.Module]:
        """The network, able to compute on its device until the block ends. It may be nested."""
        self._at_work += 1
        gone: list[tuple[Tensor, Tensor]] = []
        try:
            if self._at_work == 1:
                for tensor in self._whole:
                    gone.append((tensor, tensor.data))
                    travelling.arrive(tensor, self.device)
            yield self.network
        finally:
            self._at_work -= 1
            for tensor, home in gone:
                travelling.leave(tensor, home)
            if not self._at_work:
                for travellers in self._travellers:
                    travellers.go_home()


@dataclass(frozen=True, kw_only=True)
class WeightBytes:
    """Where the bytes of one network's weights are.

    Attributes:
        at_home: in host memory, from loading to forgetting it.
        at_work: on the device, at most, while it works.
        waiting: on the device while other networks work.
        brought_once: to the device, whenever it comes to work.
        brought_per_call: to the device, from pinned memory, in every call.
    """

    at_home: int
    at_work: int
    waiting: int
    brought_once: int = 0
    brought_per_call: int = 0


def weight_bytes(network: nn.Module, memory: Memory, dtype: torch.dtype) -> WeightBytes:
    """What `Placed` does with a network whose weights are of type `dtype`, in bytes; it may lie on "meta".

    Tensors that are kept in single precision (`networks.exact`) count as such.

    It is a GPU's: there weights that travel lie in pinned memory, which comes in powers of two. Loading takes
    more of the host for a moment in mode fp8: all weights in `dtype`.
    """
    exact = exact_parameters(network) | exact_buffers(network)

    def size(tensors: Iterable[Tensor], stored: torch.dtype = dtype) -> int:
        return sum(
            tensor.numel() * (tensor.dtype if id(tensor) in exact else _stored_as(tensor, stored)).itemsize
            for tensor in tensors
        )

    tensors = tensors_of(network)
    total = size(tensors)
    if memory == "full":
        return WeightBytes(at_home=0, at_work=total, waiting=total)
    if memory == "fp8":
        layers = [layer for blocks in eight_bit_stacks(network) for layer in _eight_bit_layers(blocks)]
        stored = [size(tensors_of(layer), EIGHT_BITS) for layer in layers]
        computing = [size(tensors_of(layer)) for layer in layers]
        small = total - sum(computing) + sum(stored)
        most = small + max(computing, default=0)
        return WeightBytes(at_home=small, at_work=most, waiting=0, brought_once=small)
    stacks = [[size(tensors_of(unit)) for unit in units] for units in _travelling_stacks(network, memory)]
    if not stacks:
        return WeightBytes(at_home=total, at_work=total, waiting=0, brought_once=total)
    once = total - sum(map(sum, stacks))
    return WeightBytes(
        at_home=sum(size for size, _ in pinned_chunks([size([tensor]) for tensor in tensors])),
        at_work=once + sum(sum(sorted(units)[-AHEAD:]) for units in stacks),
        waiting=0,
        brought_once=once,
        brought_per_call=sum(map(sum, stacks)),
    )


def stack_owners(network: nn.Module) -> list[nn.Module]:
    """The outermost modules that hold a list of blocks, each of which is computed after the other."""
    if any(isinstance(getattr(network, name, None), nn.ModuleList) for name in STACKS):
        return [network]
    return [owner for child in network.children() for owner in stack_owners(child)]


def eight_bit_stacks(network: nn.Module) -> list[nn.ModuleList]:
    """The blocks whose linear layers fp8 stores in eight bits: those of video transformers."""
    return [module.blocks for module in network.modules() if isinstance(module, WanTransformer)]


def _eight_bit_layers(blocks: nn.ModuleList) -> list[nn.Module]:
    return [
        module
        for name, module in blocks.named_modules()
        if isinstance(module, LAYERS) and not any(part in name for part in KEPT_EXACT)
    ]


def travelling_units(owner: nn.Module, memory: Memory) -> list[nn.Module]:
    """What goes to the device and back by itself while `owner` computes."""
    if memory == "sequential":
        return [module for module in owner.modules() if isinstance(module, LAYERS)]
    return [
        block
        for child in owner.children()
        if isinstance(child, (nn.ModuleList, nn.Sequential))
        for block in child
    ]


def _travelling_stacks(network: nn.Module, memory: Memory) -> list[list[nn.Module]]:
    if memory not in {"group", "sequential"}:
        return []
    return [travelling_units(owner, memory) for owner in stack_owners(network)]


def _stored_as(tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    return dtype if tensor.is_floating_point() else tensor.dtype
