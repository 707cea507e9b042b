"""Counts the peak bytes of live tensors and the floating-point operations of a piece of code.

Watching works on any tensors. On the meta device, where tensors have sizes and no content, it shows what a
network of any size would need without its weights and in about a second.

Counted are the tensors made while watching; weights and inputs from before are not, nor what a kernel uses
inside. On the meta device attention and root-mean-square norms count as the fused kernels of GPUs, which keep
no table of all pairs of tokens and no copy in higher precision.
"""

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

aten = torch.ops.aten


class OpCounter(TorchDispatchMode):
    """Adds the storage that operations allocate, and subtracts it when it is freed; see `count_ops`.

    Attributes:
        flops: operations: products of matrices, convolutions, attention; a multiply-add is two.
        live_bytes: of tensors made since and alive now.
        peak_bytes: the most of `live_bytes` so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.live_bytes = self.peak_bytes = 0
        self._seen: weakref.WeakSet = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        # In inference mode, composite operations arrive whole; they are decomposed to see their allocations.
        if func.namespace == "aten":
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        given = set(map(id, _storages((args, kwargs))))
        result = func(*args, **kwargs)
        self.flops += _flops(func._overloadpacket, args, kwargs, result)
        for storage in _storages(result):
            if id(storage) not in given and storage not in self._seen:
                self._seen.add(storage)
                self.live_bytes += storage.nbytes()
                self.peak_bytes = max(self.peak_bytes, self.live_bytes)
                weakref.finalize(storage, self._release, storage.nbytes()).atexit = False
        return result

    def _release(self, size: int) -> None:
        self.live_bytes -= size


@contextmanager
def count_ops() -> Iterator[OpCounter]:
    """Count inside the context, in this thread and in the backward passes it starts."""
    with _fused_kernels(), OpCounter() as counter:
        yield counter


def tensor_bytes(*values: Any) -> int:
    """Bytes of all tensors in nested values; a shared storage counts once."""
    return sum({id(storage): storage.nbytes() for storage in _storages(values)}.values())


def _storages(nested: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(nested) if isinstance(leaf, Tensor)]


def _flops(operation: Any, args: tuple, kwargs: Mapping[str, Any], result: Any) -> int:
    if operation is aten._scaled_dot_product_flash_attention_for_cpu:  # missing in PyTorch's table
        return sdpa_flop_count(*(tensor.shape for tensor in args[:3]))
    count = flop_registry.get(operation)
    return count(*args, **kwargs, out_val=result) if count else 0


@contextmanager
def _fused_kernels() -> Iterator[None]:
    """Operations that are one kernel on GPUs, but would be decomposed on the meta device.

    The functions themselves are exchanged: a mode for functions is not active where blocks are computed again
    on the way back.
    """
    attention, rms_norm = functional.scaled_dot_product_attention, functional.rms_norm

    def fused_attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Tensor:
        plain = not args and not any(options.get(name) for name in ("dropout_p", "is_causal"))
        if query.is_meta and plain and options.get("attn_mask") is None:
            return aten._scaled_dot_product_flash_attention(query, key, value)[0]
        return attention(query, key, value, *args, **options)

    def fused_rms_norm(x: Tensor, shape: Any, weight: Any = None, eps: float | None = None) -> Tensor:
        if x.is_meta:
            return aten._fused_rms_norm(x, list(shape), weight, eps)[0]
        return rms_norm(x, shape, weight, eps)

    functional.scaled_dot_product_attention, functional.rms_norm = fused_attention, fused_rms_norm
    try:
        yield
    finally:
        functional.scaled_dot_product_attention, functional.rms_norm = attention, rms_norm
