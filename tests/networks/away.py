"""A device apart, on a machine that has only a CPU: weights that are not there are NaN and take no memory.

What a memory mode computes must not change when everything that it has sent home is gone; and what is left
can be counted. Only the moves of single tensors are replaced: who moves when is what runs on a GPU, too.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from more4d.networks import travelling
from more4d.networks.offload import Memory, Placed
from more4d.networks.travelling import tensors_of


class FarDevice:
    """Replaces the moves of `networks.travelling` by such that leave nothing behind.

    Attributes:
        peak_bytes: the most weight bytes that were there at once.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._there: dict[int, int] = {}
        self._homes: dict[int, Tensor] = {}

    def send_home(self, tensor: Tensor) -> None:
        if tensor.is_floating_point() and not is_away(tensor):
            self._homes[id(tensor)] = tensor.data.clone()
            tensor.data = torch.tensor(float("nan")).to(tensor.dtype).expand(tensor.shape)
            self._there.pop(id(tensor), None)

    def fetch(self, tensor: Tensor) -> None:
        if is_away(tensor):
            tensor.data = self._homes[id(tensor)].clone()
            self.count(tensor)

    def count(self, tensor: Tensor) -> None:
        if id(tensor) not in self._there:
            self._there[id(tensor)] = tensor.nbytes
            self.peak_bytes = max(self.peak_bytes, sum(self._there.values()))

    def forget(self) -> None:
        """Count again from nothing, for other networks."""
        self.peak_bytes = 0
        self._there.clear()


def is_away(tensor: Tensor) -> bool:
    return tensor.numel() > 0 and tensor.untyped_storage().nbytes() < tensor.numel() * tensor.itemsize


@pytest.fixture
def far_device(monkeypatch: pytest.MonkeyPatch) -> FarDevice:
    far = FarDevice()

    place = Placed.__init__

    def place_far(self: Placed, network: nn.Module, memory: Memory, **where: Any) -> None:
        place(self, network, memory, **where)
        for tensor in () if memory == "full" else tensors_of(network):
            far.send_home(tensor)
        for tensor in tensors_of(network) if memory == "full" else ():
            far.count(tensor)

    monkeypatch.setattr(Placed, "__init__", place_far)
    monkeypatch.setattr(travelling, "arrive", lambda tensor, device: far.fetch(tensor))
    monkeypatch.setattr(travelling, "leave", lambda tensor, home: far.send_home(tensor))
    return far
