"""A device apart, on a machine that has only a CPU: weights that are not there are NaN and take no memory.

What a memory mode computes must not change when everything that it has sent home is gone; and what is left
can be counted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from diffusers.hooks.group_offloading import ModuleGroup
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from more4d.networks import offload
from more4d.networks.offload import Memory, Placed


class FarDevice:
    """Replaces the moves of `networks.offload` and of diffusers' groups by such that leave nothing behind.

    Attributes:
        peak_bytes: the most weight bytes that were there at any operation inside `watching`.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._homes: dict[int, Tensor] = {}

    def send_home(self, tensor: Tensor) -> None:
        if tensor.is_floating_point() and not is_away(tensor):
            self._homes[id(tensor)] = tensor.data.clone()
            tensor.data = torch.tensor(float("nan")).to(tensor.dtype).expand(tensor.shape)

    def fetch(self, tensor: Tensor) -> None:
        if is_away(tensor):
            tensor.data = self._homes[id(tensor)].clone()

    def placed(self, network: nn.Module, memory: Memory) -> Placed:
        """The network in a memory mode; nothing is there yet, but in mode full."""
        placed = Placed(network, memory, device=torch.device("cpu"), dtype=torch.float32)
        for tensor in placed._whole:
            self.send_home(tensor)
        return placed

    @contextmanager
    def watching(self, *networks: nn.Module) -> Iterator[None]:
        with _Watch(self, [tensor for network in networks for tensor in tensors_of(network)]):
            yield


class _Watch(TorchDispatchMode):
    def __init__(self, far: FarDevice, tensors: list[Tensor]) -> None:
        super().__init__()
        self.far, self.tensors = far, tensors

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        there = sum(tensor.untyped_storage().nbytes() for tensor in self.tensors if not is_away(tensor))
        self.far.peak_bytes = max(self.far.peak_bytes, there)
        return func(*args, **(kwargs or {}))


def tensors_of(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def is_away(tensor: Tensor) -> bool:
    return tensor.numel() > 0 and tensor.untyped_storage().nbytes() < tensor.numel() * tensor.itemsize


@pytest.fixture
def far_device(monkeypatch: pytest.MonkeyPatch) -> FarDevice:
    far = FarDevice()

    def of_group(group: ModuleGroup) -> list[Tensor]:
        inside = [tensor for module in group.modules for tensor in tensors_of(module)]
        return [*inside, *group.parameters, *group.buffers]

    def onload(group: ModuleGroup) -> None:
        for tensor in of_group(group):
            far.fetch(tensor)

    def go_home(group: ModuleGroup) -> None:
        for tensor in of_group(group):
            far.send_home(tensor)

    monkeypatch.setattr(ModuleGroup, "onload_", onload)
    monkeypatch.setattr(ModuleGroup, "offload_", go_home)
    monkeypatch.setattr(offload, "arrive", lambda tensor, device: far.fetch(tensor))
    monkeypatch.setattr(offload, "leave", lambda tensor, home: far.send_home(tensor))
    return far
