"""Where the weights of a network are while it works and while it waits: the memory modes.

    full        on the device, all the time
    model       in host memory; on the device only while the network works
    group       as model, but of a stack of blocks only the one at work and the next are on the device
    fp8         as model, and the linear layers of a video transformer's blocks are stored in eight bits
    sequential  as group, layer by layer: least memory, and slow

Hooks of diffusers move blocks and layers and cast weights. What is not in a stack of blocks (a codec, for
example) moves as one. Results do not depend on the mode, but for fp8. Home is always host memory, so that a
network that works often is not read from its file again. Moves to a GPU follow the interfaces of diffusers
and torch; where this was written there was none to try them on.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from diffusers.hooks import apply_group_offloading, apply_layerwise_casting
from torch import Tensor, nn

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
"""What moves by itself in mode sequential; other weights (norms, gates, tables) move with what holds them."""
GROUP_HOOK = "group_offloading"
"""What diffusers calls the hook that moves a group of weights."""
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
        elif memory in {"group", "sequential"}:
            for owner in stack_owners(network):
                _let_blocks_travel(owner, memory, device)
        self._whole = [] if memory == "full" else list(_moved_as_one(network, memory))
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
                    arrive(tensor, self.device)
            yield self.network
        finally:
            self._at_work -= 1
            for tensor, home in gone:
                leave(tensor, home)
            if not self._at_work and self.memory in {"group", "sequential"}:
                for owner in stack_owners(self.network):
                    _send_travellers_home(owner)


def arrive(tensor: Tensor, device: torch.device) -> None:
    """Let `tensor` be a copy of itself on the device."""
    tensor.data = tensor.data.to(device)


def leave(tensor: Tensor, home: Tensor) -> None:
    """Let `tensor` be what it was at home: it has not changed, so nothing is copied back."""
    tensor.data = home


@dataclass(frozen=True, kw_only=True)
class WeightBytes:
    """Where the bytes of one network's weights are.

    Attributes:
        at_home: in host memory, from loading to forgetting it.
        at_work: on the device, at most, while it works.
        waiting: on the device while other networks work.
    """

    at_home: int
    at_work: int
    waiting: int


def weight_bytes(network: nn.Module, memory: Memory, dtype: torch.dtype) -> WeightBytes:
    """What `Placed` does with a network whose weights are of type `dtype`, in bytes; it may lie on "meta".

    `at_work` is what a GPU holds, where the next block arrives while one works; in mode sequential all norms
    and tables are counted as if they were there at once. Loading takes more of the host for a moment in mode
    fp8: all weights in `dtype`.
    """
    total = _bytes(_tensors(network), dtype)
    if memory == "full":
        return WeightBytes(at_home=0, at_work=total, waiting=total)
    if memory == "fp8":
        layers = [layer for blocks in eight_bit_stacks(network) for layer in _eight_bit_layers(blocks)]
        stored = [_bytes(_tensors(layer), EIGHT_BITS) for layer in layers]
        computing = [_bytes(_tensors(layer), dtype) for layer in layers]
        small = total - sum(computing) + sum(stored)
        return WeightBytes(at_home=small, at_work=small + max(computing, default=0), waiting=0)
    travelling = 0
    largest = 0
    if memory in {"group", "sequential"}:
        for owner in stack_owners(network):
            units = [_bytes(_tensors(unit), dtype) for unit in travelling_units(owner, memory)]
            travelling += sum(units)
            largest = max(largest, sum(sorted(units)[-AHEAD:]))
    return WeightBytes(at_home=total, at_work=total - travelling + largest, waiting=0)


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


def _let_blocks_travel(owner: nn.Module, memory: Memory, device: torch.device) -> None:
    """Hook `owner` so that its blocks, or its layers, are on the device only while they compute.

    On a CUDA device the next one arrives on a stream of its own while one computes. For that the weights lie
    in pinned host memory, pinned one by one, so that host memory never holds them twice.
    """
    cuda = device.type == "cuda"
    if cuda:
        for tensor in _tensors(owner):
            tensor.data = tensor.data.pin_memory()
    by_block = memory == "group"
    apply_group_offloading(
        owner,
        onload_device=device,
        offload_device=HOME,
        offload_type="block_level" if by_block else "leaf_level",
        num_blocks_per_group=1 if by_block else None,
        use_stream=cuda,
    )


def _send_travellers_home(owner: nn.Module) -> None:
    """Who has computed has left; who failed, or was fetched and then skipped by a step cache, leaves here."""
    for module in owner.modules():
        if registry := getattr(module, "_diffusers_hook", None):
            hook = registry.get_hook(GROUP_HOOK)
            if hook is not None:
                hook.group.offload_()


def _moved_as_one(network: nn.Module, memory: Memory) -> Iterator[Tensor]:
    """The tensors that no hook moves."""
    hooked = set()
    if memory in {"group", "sequential"}:
        hooked = {id(tensor) for owner in stack_owners(network) for tensor in _tensors(owner)}
    return (tensor for tensor in _tensors(network) if id(tensor) not in hooked)


def _tensors(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers, each once."""
    return [*module.parameters(), *module.buffers()]


def _bytes(tensors: Iterable[Tensor], dtype: torch.dtype) -> int:
    return sum(
        tensor.numel() * (dtype.itemsize if tensor.is_floating_point() else tensor.itemsize)
        for tensor in tensors
    )
