"""Two units at a time are on the device, in any order of calls, and no copy overwrites one in use."""

import contextlib
import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn

from more4d.performance import offload
from more4d.performance.offload import (
    CHUNK_BYTES,
    OffloadGroup,
    is_group_offloaded,
    module_tensors,
    move_to_chunk,
    pinned_chunks,
)

CPU = torch.device("cpu")
MIB = 2**20


class Log:
    """Onloads and offloads, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, units: list[nn.Module]) -> None:
        self.events: list[Any] = []
        self.there: set[int] = set()
        self.most = 0
        number = {id(unit.weight): index for index, unit in enumerate(units)}

        def onload_(tensor: torch.Tensor, device: torch.device) -> None:
            self.events.append(("onload_", number[id(tensor)]))
            self.there.add(number[id(tensor)])
            self.most = max(self.most, len(self.there))

        def offload_(tensor: torch.Tensor, cpu_data: torch.Tensor) -> None:
            self.events.append(("offload_", number[id(tensor)]))
            self.there.remove(number[id(tensor)])

        monkeypatch.setattr(offload, "onload_", onload_)
        monkeypatch.setattr(offload, "offload_", offload_)


def layers(count: int = 5) -> list[nn.Module]:
    return [nn.Linear(3, 3, bias=False) for _ in range(count)]


@pytest.mark.parametrize("later", [[0, 1, 2, 3, 4], [0], [4, 3, 2, 1, 0], [0, 2, 2, 4]])
def test_at_most_two_units_are_on_the_device_and_the_current_one_is(later, monkeypatch):
    units = layers()
    log, group = Log(monkeypatch, units), OffloadGroup(units, CPU)
    for index in [*range(5), *later, *later]:
        group.onload(index)
        assert index in log.there
    assert log.most == 2
    group.offload_all()
    assert not log.there


def test_the_next_unit_comes_while_one_computes_and_none_comes_twice_in_a_pass(monkeypatch):
    units = layers()
    log, group = Log(monkeypatch, units), OffloadGroup(units, CPU)
    for index in [*range(5), *range(5)]:
        group.onload(index)
    log.events.clear()
    for index in range(5):
        group.onload(index)
        assert (index + 1) % 5 in log.there
    assert sorted(unit for move, unit in log.events if move == "onload_") == list(range(5))


def test_a_stream_fetches_into_memory_only_after_what_used_it_has_computed(monkeypatch):
    """With CUDA streams and events that only record their calls."""
    units = layers(4)
    log = Log(monkeypatch, units)

    class Stream:
        def __init__(self, device: torch.device) -> None:
            pass

        def record_event(self) -> tuple[str, int]:
            return ("arrived", log.events[-1][1])

        def wait_stream(self, other: Any) -> None:
            log.events.append("fetching waits for computing")

    class Current:
        def wait_event(self, event: tuple[str, int]) -> None:
            log.events.append(event)

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Current())
    group = OffloadGroup(units, torch.device("cuda"))
    for index in [0, 1, 2, 3, 0, 1, 2]:
        group.onload(index)
        assert log.events[-1] == ("arrived", index)
    for place, event in enumerate(log.events):
        if event[0] == "offload_":
            assert log.events[place - 1] == "fetching waits for computing"


def test_what_computes_is_inside_and_a_dropped_unit_is_freed_at_once():
    (unit,) = layers(1)
    plain = unit(torch.ones(3))
    group = OffloadGroup([unit], CPU)
    assert is_group_offloaded(unit) and torch.equal(unit(torch.ones(3)), plain)
    unit.forward.inner = lambda tokens: tokens * 2
    assert torch.equal(unit(torch.ones(3)), torch.full((3,), 2.0))
    gone = weakref.ref(unit)
    gc.disable()
    try:
        del unit, group
        assert gone() is None
    finally:
        gc.enable()


def test_pinned_chunks_hold_everything_once_and_waste_little():
    sizes = [5120 * 5120 * 2] * 40 + [5120 * 13824 * 2] * 9 + [10240, 2, 0] * 50 + [256384 * 4096 * 2]
    chunks = pinned_chunks(sizes)
    lying = sorted(index for _, places in chunks for index, _ in places)
    assert lying == sorted({index for index, size in enumerate(sizes) if size} | set(lying))
    for size, places in chunks:
        assert size.bit_count() == 1 and size <= max(CHUNK_BYTES, 2 * max(sizes))
        ends = [0]
        for index, start in sorted(places, key=lambda place: (place[1], sizes[place[0]])):
            assert start >= ends[-1] and start % 512 == 0
            ends.append(start + sizes[index])
        assert ends[-1] <= size
    one_by_one = sum(1 << (size - 1).bit_length() for size in sizes if size)
    assert sum(size for size, _ in chunks) < 1.2 * sum(sizes) < one_by_one


def test_tensors_keep_their_values_in_a_chunk():
    module = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5)).to(torch.bfloat16)
    before = [tensor.clone() for tensor in module_tensors(module)]
    for size, places in pinned_chunks([tensor.nbytes for tensor in module_tensors(module)]):
        chunk = torch.empty(size, dtype=torch.uint8)
        for index, start in places:
            move_to_chunk(chunk, start, module_tensors(module)[index])
    assert all(torch.equal(*pair) for pair in zip(module_tensors(module), before, strict=True))
    assert module[0].weight.untyped_storage().data_ptr() == module[1].bias.untyped_storage().data_ptr()
