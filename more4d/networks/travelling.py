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


def arrive(tensor: Tensor, device: torch.device) -> None:
    """Let `tensor` be a copy of itself on the device."""
    tensor.data = tensor.data.to(device, non_blocking=True)


def leave(tensor: Tensor, home: Tensor) -> None:
    """Let `tensor` be what it was at home: it has not changed, so nothing is copied back."""
    tensor.data = home


def tensors_of(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers, each once."""
    return [*module.parameters(), *module.buffers()]


class TravellingForward:
    """In place of a module's `forward`: has its weights fetched, then computes.

    Attributes:
        inside: what computes; None for the forward of the module's class.
    """

    def __init__(self, module: nn.Module, fetch: Callable[[], None]) -> None:
        # Weakly: a cycle would keep the weights of dropped networks until garbage is collected.
        self._module, self._fetch = weakref.ref(module), fetch
        self.inside: Callable[..., Any] | None = vars(module).get("forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._fetch()
        return self.computing(*args, **kwargs)

    @property
    def computing(self) -> Callable[..., Any]:
        """What computes once the weights are there."""
        if self.inside is not None:
            return self.inside
        module = self._module()
        return type(module).forward.__get__(module)


class Travellers:
    """The units of a stack, computed in any order, mostly in the same; two are on the device at most."""

    def __init__(self, units: Sequence[nn.Module], device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._tensors = [tensors_of(unit) for unit in units]
        self._after: dict[int, int] = {}
        self._last: int | None = None
        self._homes: dict[int, list[Tensor]] = {}
        self._arrived: dict[int, torch.cuda.Event] = {}
        for index, unit in enumerate(units):
            unit.forward = TravellingForward(unit, _asking(self, index))

    def ask(self, index: int) -> None:
        """Let a unit be there for what is computed from now on, and the next one come."""
        if self._last is not None:
            self._after.setdefault(self._last, index)
        self._last = index
        wanted = [index, *([self._after[index]] if index in self._after else [])]
        for other in [other for other in self._homes if other not in wanted]:
            self._send_home(other)
        for unit in dict.fromkeys(wanted):
            self._fetch(unit)
        if self._stream is not None:
            torch.cuda.current_stream(self._device).wait_event(self._arrived[index])

    def go_home(self) -> None:
        """Nobody stays on the device, whether it computed, failed, or came and was not needed."""
        for index in list(self._homes):
            self._send_home(index)
        self._last = None

    def _fetch(self, index: int) -> None:
        if index in self._homes:
            return
        self._homes[index] = [tensor.data for tensor in self._tensors[index]]
        beside = contextlib.nullcontext() if self._stream is None else torch.cuda.stream(self._stream)
        with beside:
            for tensor in self._tensors[index]:
                arrive(tensor, self._device)
        if self._stream is not None:
            self._arrived[index] = self._stream.record_event()

    def _send_home(self, index: int) -> None:
        if self._stream is not None:
            # Its memory goes to what arrives next on this stream, which must not begin before it was used.
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
        for tensor, home in zip(self._tensors[index], self._homes.pop(index), strict=True):
            leave(tensor, home)


def _asking(travellers: Travellers, index: int) -> Callable[[], None]:
    return lambda: travellers.ask(index)


def travels(module: nn.Module) -> bool:
    """Whether this module's weights come when it is called."""
    return isinstance(vars(module).get("forward"), TravellingForward)


def pin(tensors: Sequence[Tensor]) -> None:
    """Move tensors from ordinary host memory to pinned memory, from which a GPU fetches while it computes.

    Chunk by chunk, so that host memory never holds much twice.
    """
    for size, places in pinned_chunks([tensor.nbytes for tensor in tensors]):
        chunk = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        for index, start in places:
            move_into(chunk, start, tensors[index])


def move_into(chunk: Tensor, start: int, tensor: Tensor) -> None:
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
