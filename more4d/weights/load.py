"""Networks built without memory and filled tensor by tensor: there is never more than one copy of them.

A plan says of every tensor of a network where it comes from: a name in a file (perhaps reshaped), a constant,
or a new module that no file knows. It is checked against shapes before anything is read.
"""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from more4d.foundation.config import to_mapping
from more4d.foundation.seeding import derive_seed
from more4d.networks.precision import fp32_parameters, parameter_dtype
from more4d.weights.network_files import named_tensors
from more4d.weights.registry import BUILDERS

MAX_NAMES_SHOWN = 3
_init_lock = threading.RLock()


class NotFiniteError(ValueError):
    """A tensor holds numbers with which a network computes nothing."""


@dataclass(frozen=True, kw_only=True)
class TensorSource:
    """A tensor of a file, and what has to be done to its shape."""

    name: str
    transform: Callable[[Tensor], Tensor] | None = None

    def apply(self, tensor: Tensor) -> Tensor:
        """The tensor in the network's shape."""
        return tensor if self.transform is None else self.transform(tensor)


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """Where all tensors of a network come from.

    Attributes:
        sources: by name in the network.
        constants: by name in the network, of what is not in the file.
        new: by the name of a module in the network, what makes a new one; its values are always the same.
        checks: by name in the file, what tells why a tensor's values cannot be right, or None. The file must
            hold these tensors, whether the network has them or not.
        ignored: names in the file, or prefixes ending in a dot, that are left out on purpose.
    """

    sources: Mapping[str, TensorSource]
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    new: Mapping[str, Callable[[], nn.Module]] = field(default_factory=dict)
    checks: Mapping[str, Callable[[Tensor], str | None]] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def is_new(self, name: str) -> bool:
        """Whether a tensor of the network belongs to a new module."""
        return any(name.startswith(f"{module}.") for module in self.new)


def init_empty(architecture: str, config: Any) -> nn.Module:
    """The network of a kind and configuration, its parameters on the meta device, its buffers real.

    Raises:
        ConfigError: the configuration is impossible.
    """
    with _parameters_on_meta():
        return BUILDERS[architecture](to_mapping(config))


def mismatches(network: nn.Module, plan: LoadPlan, shapes: Mapping[str, Tensor]) -> tuple[str, ...]:
    """What a file lacks, has too much or has in another shape, each in one line; () if it fits.

    Args:
        network: as `init_empty` builds it.
        shapes: tensors of the file by name; their values are not looked at.
    """
    targets, problems = named_tensors(network), []
    known = {source.name for name, source in plan.sources.items() if name in targets}
    prefixes = tuple(name for name in plan.ignored if name.endswith("."))
    needed_names = dict.fromkeys([*(source.name for source in plan.sources.values()), *plan.checks])
    missing = [name for name in needed_names if name not in shapes]
    missing += _unmapped(network, targets, plan)
    unexpected = [
        name
        for name in shapes
        if name not in known and name not in plan.ignored and not (prefixes and name.startswith(prefixes))
    ]
    if missing:
        problems.append(f"{list_names('tensor', missing)} missing")
    if unexpected:
        problems.append(f"{list_names('tensor', unexpected)} not expected")
    problems += _wrong_dtypes(targets, plan, shapes)
    misshapen = {}
    for name, source in plan.sources.items():
        if name in targets and source.name in shapes:
            needed, stored = targets[name].shape, shapes[source.name]
            if _transformed_shape(source, stored) != needed:
                misshapen[source.name] = f"has shape {list(stored.shape)}, the network needs {list(needed)}"
    if misshapen:
        first = next(iter(misshapen))
        rest = f"; so have {len(misshapen) - 1} more" if len(misshapen) > 1 else ""
        problems.append(f"tensor '{first}' {misshapen[first]}{rest}")
    return tuple(problems)


@torch.no_grad()
def load_into(
    network: nn.Module,
    plan: LoadPlan,
    read: Callable[[str], Tensor],
    *,
    device: str | torch.device,
    dtype: torch.dtype | None,
) -> nn.Module:
    """Give a network without memory its tensors, one after the other.

    Args:
        network: as `init_empty` builds it; it must fit, see `mismatches`.
        read: tensors of the file by name, on the CPU.
        dtype: precision of floating-point parameters, but of those that are kept exact; None keeps what is
            stored.

    Returns:
        The same network, on `device`, in evaluation mode.

    Raises:
        NotFiniteError: a tensor holds numbers that are not finite, or are too large for `dtype`.
    """
    shared, targets = _names_by_id(network), named_tensors(network)
    fp32_ids = fp32_parameters(network)
    for name, value in tensor_readers(network, plan, read).items():
        stored = plan.sources[name].name if name in plan.sources else name
        wanted = dtype and parameter_dtype(dtype, keep_fp32=id(targets[name]) in fp32_ids)
        _assign(
            network, stored, shared[id(targets[name])], value(), targets[name], device=device, dtype=wanted
        )
    if dtype is not None:
        _cast_buffers(network, dtype)
    return network.to(device).eval()


def tensor_readers(
    network: nn.Module, plan: LoadPlan, read: Callable[[str], Tensor]
) -> dict[str, Callable[[], Tensor]]:
    """What makes or reads every tensor of a network, by name in the network's order, each when it is called.

    For the arguments see `load_into`.
    """
    made: dict[str, Callable[[], Tensor]] = {}
    for name, target in named_tensors(network).items():
        if name in plan.sources:
            made[name] = partial(_read, plan.sources[name], read)
        elif name in plan.constants:
            made[name] = partial(plan.constants.__getitem__, name)
        elif plan.is_new(name):
            module = next(module for module in plan.new if name.startswith(f"{module}."))
            made[name] = partial(_new_tensor, plan.new[module], module, name.removeprefix(f"{module}."))
        else:
            made[name] = target.detach  # a buffer that the file does not have
    return made


def _read(source: TensorSource, read: Callable[[str], Tensor]) -> Tensor:
    return source.apply(read(source.name))


def _new_tensor(make: Callable[[], nn.Module], module: str, name: str) -> Tensor:
    """A tensor of a new module, which is the same module whenever and for whichever tensor it is made."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("new module", module))
        return make().state_dict()[name]


def list_names(what: str, names: Sequence[str]) -> str:
    """The first names and how many come after, with the verb: "tensors 'a', 'b', 'c' and 4 more are"."""
    quoted = [f"'{name}'" for name in names[:MAX_NAMES_SHOWN]]
    if len(names) == 1:
        return f"{what} {quoted[0]} is"
    if len(names) > MAX_NAMES_SHOWN:
        quoted.append(f"{len(names) - MAX_NAMES_SHOWN} more")
    return f"{what}s {', '.join(quoted[:-1])} and {quoted[-1]} are"


def _wrong_dtypes(
    targets: Mapping[str, Tensor], plan: LoadPlan, shapes: Mapping[str, Tensor]
) -> tuple[str, ...]:
    """Whole numbers, truth values or complex numbers in place of floating-point ones."""
    wrong = {
        source.name: shapes[source.name].dtype
        for name, source in plan.sources.items()
        if name in targets and source.name in shapes
        if targets[name].is_floating_point() and not shapes[source.name].is_floating_point()
    }
    if not wrong:
        return ()
    kind = str(next(iter(wrong.values()))).removeprefix("torch.")
    return (f"{list_names('tensor', list(wrong))} of type {kind}, the network needs floating-point numbers",)


def _transformed_shape(source: TensorSource, stored: Tensor) -> torch.Size | None:
    try:
        return source.apply(stored.to("meta")).shape
    except (RuntimeError, IndexError, ValueError):
        return None


def _unmapped(network: nn.Module, targets: Mapping[str, Tensor], plan: LoadPlan) -> list[str]:
    """Parameters that a file should hold and does not even name, where its names are made into ours."""
    parameters = {name for name, _ in network.named_parameters()}
    return [
        name
        for name in targets
        if name in parameters
        and name not in plan.sources
        and name not in plan.constants
        and not plan.is_new(name)
    ]


def _names_by_id(network: nn.Module) -> dict[int, list[str]]:
    """Names by identity of the tensor: a tied one has several."""
    places: dict[int, list[str]] = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        places.setdefault(id(tensor), []).append(name)
    return places


def _assign(
    network: nn.Module,
    stored: str,
    names: Sequence[str],
    value: Tensor,
    target: Tensor,
    *,
    device: str | torch.device,
    dtype: torch.dtype | None,
) -> None:
    if not isinstance(target, nn.Parameter):
        _check_finite(stored, value)
        target.copy_(value)
        return
    wanted = dtype if dtype is not None and value.is_floating_point() else value.dtype
    kept = value.to(device=device, dtype=wanted)
    _check_finite(stored, kept)
    if kept.untyped_storage().nbytes() != kept.nbytes:
        kept = kept.clone()  # a part of a larger tensor would keep all of it
    filled = nn.Parameter(kept, requires_grad=target.requires_grad)
    for name in names:
        module, _, leaf = name.rpartition(".")
        network.get_submodule(module)._parameters[leaf] = filled


def _cast_buffers(network: nn.Module, dtype: torch.dtype) -> None:
    """Lower the buffers, as each module lets its own be lowered; parameters are as they should be."""
    parameters = {id(parameter) for parameter in network.parameters()}
    network._apply(
        lambda tensor: (
            tensor if id(tensor) in parameters or not tensor.is_floating_point() else tensor.to(dtype)
        )
    )


def _check_finite(name: str, value: Tensor) -> None:
    if not value.is_floating_point() or not value.numel():
        return
    whole = value if value.element_size() > 1 else value.float()  # torch knows no extremes of eight bits
    if not all(math.isfinite(extreme.item()) for extreme in torch.aminmax(whole)):
        kind = str(value.dtype).removeprefix("torch.")
        raise NotFiniteError(f"tensor '{name}' holds numbers that are not finite in {kind}")


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Modules built inside have parameters without memory; what initialises them does nothing."""
    register, here = nn.Module.register_parameter, threading.get_ident()

    def register_on_meta(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None and not param.is_meta and threading.get_ident() == here:
            param = nn.Parameter(param.detach().to("meta"), requires_grad=param.requires_grad)
        register(self, name, param)

    with _init_lock:
        nn.Module.register_parameter = register_on_meta  # type: ignore[method-assign]
        try:
            yield
        finally:
            nn.Module.register_parameter = register  # type: ignore[method-assign]
