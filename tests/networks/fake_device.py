"""A fake device on a machine with a CPU only: offloaded weights are NaN and take no memory.

Results of a memory mode must not change when all offloaded weights are unusable, and what remains on the
device can be counted. Only the copies of single tensors are replaced; the order of copies is that of a GPU.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from more4d.performance import offload
from more4d.performance.config import Memory
from more4d.performance.offload import OffloadedModule, module_tensors


class FakeDevice:
    """Replaces the moves of `performance.offload` by moves that leave nothing behind.

    Attributes:
        peak_bytes: the most weight bytes that were there at once.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._resident: dict[int, int] = {}
        self._host_copies: dict[int, Tensor] = {}

    def offload(self, tensor: Tensor) -> None:
        if tensor.is_floating_point() and not is_offloaded(tensor):
            self._host_copies[id(tensor)] = tensor.data.clone()
            tensor.data = torch.tensor(float("nan")).to(tensor.dtype).expand(tensor.shape)
            self._resident.pop(id(tensor), None)

    def onload(self, tensor: Tensor) -> None:
        if is_offloaded(tensor):
            tensor.data = self._host_copies[id(tensor)].clone()
            self.count(tensor)

    def count(self, tensor: Tensor) -> None:
        if id(tensor) not in self._resident:
            self._resident[id(tensor)] = tensor.nbytes
            self.peak_bytes = max(self.peak_bytes, sum(self._resident.values()))

    def reset_peak(self) -> None:
        """Count again from nothing, for other networks."""
        self.peak_bytes = 0
        self._resident.clear()


def is_offloaded(tensor: Tensor) -> bool:
    return tensor.numel() > 0 and tensor.untyped_storage().nbytes() < tensor.numel() * tensor.itemsize


@pytest.fixture
def fake_device(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    fake = FakeDevice()

    place = OffloadedModule.__init__

    def place_on_fake(self: OffloadedModule, network: nn.Module, memory: Memory, **where: Any) -> None:
        place(self, network, memory, **where)
        for tensor in () if memory == "full" else module_tensors(network):
            fake.offload(tensor)
        for tensor in module_tensors(network) if memory == "full" else ():
            fake.count(tensor)

    monkeypatch.setattr(OffloadedModule, "__init__", place_on_fake)
    monkeypatch.setattr(offload, "onload_", lambda tensor, device: fake.onload(tensor))
    monkeypatch.setattr(offload, "offload_", lambda tensor, cpu_data: fake.offload(tensor))
    return fake
