"""Networks to files: tensors, the configuration that rebuilds the network, and notes on how it was made."""

import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from more4d.files.atomic import atomic_write, sort_metadata
from more4d.files.checkpoint_headers import read_headers
from more4d.foundation.config import to_mapping
from more4d.foundation.errors import WeightsError
from more4d.weights.registry import named_tensors

FORMAT = "more4d-network"
VERSION = 1
MORE4D_KEY = "more4d"
"""Key of `config.json` under which our architecture and configuration stand."""


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
        architecture: a key of `registry.ARCHITECTURES`.
        config: the dataclass (or mapping) that rebuilds the network.
        notes: what else a reader should know: command, seed, step.
        dtype: precision in which floating-point parameters are stored; buffers, such as latent statistics,
            keep theirs.

    Raises:
        ValueError: a tensor is not finite: such a network must never be kept.
        InputError: the folder cannot be written to.
    """
    parameters = {name for name, _ in network.named_parameters()}
    state = {
        name: tensor.detach().to(dtype)
        if dtype is not None and name in parameters and tensor.is_floating_point()
        else tensor.detach()
        for name, tensor in named_tensors(network).items()
    }
    mapping = to_mapping(config) if is_dataclass(config) else config
    save_state(path, state, architecture=architecture, config=mapping, notes=notes)


def save_state(
    path: Path,
    state: Mapping[str, Tensor],
    *,
    architecture: str,
    config: Mapping[str, Any],
    notes: Mapping[str, str] | None = None,
) -> None:
    """As `save_network`, of tensors by name as they are.

    Raises:
        ValueError, InputError: as `save_network`.
    """
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "kind": architecture,
        "config": json.dumps(dict(config), sort_keys=True),
        "notes": json.dumps(dict(notes or {}), sort_keys=True),
    }
    # Clones share no memory: parts of one tensor are stored whole, each under its own name.
    write_tensors(path, {name: tensor.detach().cpu().clone() for name, tensor in state.items()}, metadata)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors by name to a safetensors file, atomically; equal contents are equal files.

    Raises:
        ValueError: a tensor is not finite.
        InputError: the folder cannot be written to.
    """
    broken = [name for name, tensor in tensors.items() if not is_finite(tensor)]
    if broken:
        raise ValueError(f"'{broken[0]}' is not finite and will not be written to {path}")
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        safetensors.torch.save_file(whole, temporary, metadata=dict(metadata))
        sort_metadata(temporary)


def is_finite(tensor: Tensor) -> bool:
    """Whether it holds neither NaN nor infinity."""
    # torch.isfinite has no float8.
    whole = tensor.float() if tensor.is_floating_point() and tensor.element_size() == 1 else tensor
    return bool(torch.isfinite(whole).all())


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file, on the CPU: safetensors, a sharded index or its folder, or a PyTorch file.

    PyTorch files (`.pth`, `.pt`, `.bin`, `.torch`) are read with PyTorch's restricted unpickler.

    Raises:
        WeightsError: the file is missing, truncated, or holds something else than tensors.
    """
    headers = read_headers(path)
    if headers.problems:
        raise WeightsError(headers.problems[0].line(path))
    with headers.open() as read:
        return {name: read(name) for name in headers.locations}
