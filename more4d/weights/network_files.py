"""Networks to and from files: ours with their configuration inside, published ones by tables of names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from more4d.files.checkpoint_headers import problem_sentence, read_headers
from more4d.files.network_file import read_network_file, write_network_file
from more4d.foundation.config import to_mapping
from more4d.foundation.errors import ConfigError, WeightsError

Build = Callable[[dict[str, Any]], nn.Module]


@dataclass(frozen=True, kw_only=True)
class NetworkHeader:
    """What a network file says about itself: its class, its configuration, how it was made."""

    architecture: str
    config: dict[str, Any]
    notes: dict[str, str] = field(default_factory=dict)


def save_network(
    path: Path,
    network: nn.Module,
    *,
    architecture: str,
    config: Any,
    notes: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write every parameter and persistent buffer of `network`, its configuration and notes to one file.

    The write is atomic. A tensor that has several names (tied weights) is stored once.

    Args:
        architecture: name of the class, the key by which `load_network` finds its constructor.
        config: the dataclass (or mapping) that rebuilds the network.
        notes: what else a reader should know: command, seed, step.
        dtype: precision in which floating-point parameters are stored; buffers, such as latent statistics,
            keep theirs.
    """
    parameters = {name for name, _ in network.named_parameters()}
    state = {
        name: tensor.detach().to(dtype)
        if dtype is not None and name in parameters and tensor.is_floating_point()
        else tensor.detach()
        for name, tensor in named_tensors(network).items()
    }
    mapping = to_mapping(config) if is_dataclass(config) else config
    write_network_file(path, state, architecture=architecture, config=mapping, notes=notes)


def read_network_header(path: Path) -> NetworkHeader:
    """Kind, configuration and notes of a network file, without its tensors.

    Raises:
        WeightsError: the file is missing, truncated, foreign or written by a newer version.
    """
    stored = read_network_file(path)  # tensors are only mapped into memory, not read
    return NetworkHeader(architecture=stored.architecture, config=stored.config, notes=stored.notes)


def load_network(
    path: Path,
    kinds: Mapping[str, Build],
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """Rebuild the network of a file and fill it, strictly; whatever precision is stored, `dtype` comes out.

    Args:
        kinds: constructor by architecture; each is called with the stored configuration.

    Returns:
        The network in evaluation mode.

    Raises:
        WeightsError: the file cannot be used, is of another architecture, or does not fit its own configuration.
    """
    stored = read_network_file(path)
    if stored.architecture not in kinds:
        raise WeightsError(
            f"{path} holds a '{stored.architecture}', not a {' or '.join(sorted(kinds))}; give the path of one"
        )
    try:
        with torch.device(device):
            network = kinds[stored.architecture](stored.config)
    except ConfigError as error:
        raise WeightsError(
            f"{path}: its configuration does not fit this version of more4d ({error}); fetch the file again"
        ) from error
    fill_network(network.to(device=device, dtype=dtype), stored.tensors, where=str(path))
    return network.eval()


def fill_network(network: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Copy `tensors` into the parameters and persistent buffers of the same names, all of them, exactly.

    Raises:
        WeightsError: a tensor is missing, unexpected or of another shape; nothing has been copied then.
    """
    expected = named_tensors(network)
    remedy = "fetch the file again, or use the configuration it was made with"
    missing = [name for name in expected if name not in tensors]
    if missing:
        raise WeightsError(f"{where}: tensor '{missing[0]}' is missing{_more(missing)}; {remedy}")
    names = network.state_dict().keys()  # with every name of a tied tensor
    unexpected = [name for name in tensors if name not in names]
    if unexpected:
        raise WeightsError(f"{where}: tensor '{unexpected[0]}' is not expected{_more(unexpected)}; {remedy}")
    for name, target in expected.items():
        if tensors[name].shape != target.shape:
            stored, needed = list(tensors[name].shape), list(target.shape)
            raise WeightsError(
                f"{where}: tensor '{name}' has shape {stored}, the network needs {needed}; {remedy}"
            )
    with torch.no_grad():
        for name, target in expected.items():
            target.copy_(tensors[name])


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file, on the CPU: safetensors, a sharded index or its folder, or a PyTorch file.

    PyTorch files (`.pth`, `.pt`, `.bin`, `.torch`) are read with PyTorch's restricted unpickler.

    Raises:
        WeightsError: the file is missing, truncated, or holds something else than tensors.
    """
    headers = read_headers(path)
    if headers.problems:
        raise WeightsError(problem_sentence(path, headers.problems[0]))
    with headers.open() as read:
        return {name: read(name) for name in headers.locations}


def named_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name, each once even if it has several names."""
    seen: set[int] = set()
    unique = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            unique[name] = tensor
    return unique


def _more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
