"""Weights that are at home, in host memory, and on the device only around their use: two units at a time.

A unit is a block or a layer. While one computes, the one that came after it the last time arrives; on a CUDA
device on a stream of its own. What is at home stays there, so that nothing is ever copied back. A unit's
`forward` is replaced, innermost: step caches that skip it leave it at home, and torch.compile
(`networks.acceleration`) compiles what it computes, not how it travels. Streams were not tried on a GPU.
"""

import contextlib
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

CHUNK_BYTES = 2**30
"""Pinned at once where tensors are smaller. Torch pins powers of two: one by one, up to half is wasted."""
ALIGNED_TO = 512


def onload_(tensor: Tensor, device: torch.device) -> None:
    """Let `tensor` be a copy of itself on the device."""
    tensor.data = tensor.data.to(device, non_blocking=True)


def offload_(tensor: Tensor, cpu_data: Tensor) -> None:
    """Let `tensor` be what it was at home: it has not changed, so nothing is copied back."""
    tensor.data = cpu_data


def module_tensors(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers, each once."""
    return [*module.parameters(), *module.buffers()]


class OnloadForward:
    """In place of a module's `forward`: has its weights fetched, then computes.

    Attributes:
        inner: what computes; None for the forward of the module's class.
    """

    def __init__(self, module: nn.Module, onload: Callable[[], None]) -> None:
        # Weakly: a cycle would keep the weights of dropped networks until garbage is collected.
        self._module, self._onload = weakref.ref(module), onload
        self.inner: Callable[..., Any] | None = vars(module).get("forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._onload()
        return self.inner_forward(*args, **kwargs)

    @property
    def inner_forward(self) -> Callable[..., Any]:
        """What computes once the weights are there."""
        if self.inner is not None:
            return self.inner
        module = self._module()
        return type(module).forward.__get__(module)


class OffloadGroup:
    """The units of a stack, computed in any order, mostly in the same; two are on the device at most."""

    def __init__(self, units: Sequence[nn.Module], device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._tensors = [module_tensors(unit) for unit in units]
        self._next: dict[int, int] = {}
        self._last: int | None = None
        self._cpu_data: dict[int, list[Tensor]] = {}
        self._ready: dict[int, torch.cuda.Event] = {}
        for index, unit in enumerate(units):
            unit.forward = OnloadForward(unit, _onload_callback(self, index))

    def onload(self, index: int) -> None:
        """Let a unit be there for what is computed from now on, and the next one come."""
        if self._last is not None:
            self._next.setdefault(self._last, index)
        self._last = index
        wanted = [index, *([self._next[index]] if index in self._next else [])]
        for other in [other for other in self._cpu_data if other not in wanted]:
            self._offload(other)
        for unit in dict.fromkeys(wanted):
            self._onload(unit)
        if self._stream is not None:
            torch.cuda.current_stream(self._device).wait_event(self._ready[index])

    def offload_all(self) -> None:
        """Nobody stays on the device, whether it computed, failed, or came and was not needed."""
        for index in list(self._cpu_data):
            self._offload(index)
        self._last = None

    def _onload(self, index: int) -> None:
        if index in self._cpu_data:
            return
        self._cpu_data[index] = [tensor.data for tensor in self._tensors[index]]
        stream = contextlib.nullcontext() if self._stream is None else torch.cuda.stream(self._stream)
        with stream:
            for tensor in self._tensors[index]:
                onload_(tensor, self._device)
        if self._stream is not None:
            self._ready[index] = self._stream.record_event()

    def _offload(self, index: int) -> None:
        if self._stream is not None:
            # Its memory goes to what arrives next on this stream, which must not begin before it was used.
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
        for tensor, cpu_data in zip(self._tensors[index], self._cpu_data.pop(index), strict=True):
            offload_(tensor, cpu_data)


def _onload_callback(group: OffloadGroup, index: int) -> Callable[[], None]:
    return lambda: group.onload(index)


def is_group_offloaded(module: nn.Module) -> bool:
    """Whether this module's weights come when it is called."""
    return isinstance(vars(module).get("forward"), OnloadForward)


def pin_tensors(tensors: Sequence[Tensor]) -> None:
    """Move tensors from ordinary host memory to pinned memory, from which a GPU fetches while it computes.

    Chunk by chunk, so that host memory never holds much twice.
    """
    for size, places in pinned_chunks([tensor.nbytes for tensor in tensors]):
        chunk = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        for index, start in places:
            move_to_chunk(chunk, start, tensors[index])


def move_to_chunk(chunk: Tensor, start: int, tensor: Tensor) -> None:
    """Let `tensor` be a copy of itself that lies `start` bytes into the chunk."""
    place = chunk[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
    tensor.data = place.copy_(tensor.data)


def pinned_chunks(sizes: Sequence[int]) -> list[tuple[int, list[tuple[int, int]]]]:
    """How tensors of these bytes lie in pinned memory: chunks, each of a power of two of bytes.

    Returns:
        of each chunk its bytes, and index and first byte of what lies in it.
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
