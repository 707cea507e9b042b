"""Network weights on disk: safetensors with what they are, the configuration that built them, and notes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from more4d.files.atomic import atomic_write, sort_metadata
from more4d.foundation.errors import WeightsError

FORMAT = "more4d-network"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class NetworkFile:
    """What a network file holds.

    Attributes:
        architecture: which network it is, for example "depth-small".
        config: the plain mapping its configuration dataclass is built from.
        notes: how it was made, for people.
        tensors: state by name, in the precision stored on disk.
    """

    architecture: str
    config: dict[str, Any]
    notes: dict[str, str]
    tensors: dict[str, Tensor]


def write_network_file(
    path: Path,
    state: Mapping[str, Tensor],
    *,
    architecture: str,
    config: Mapping[str, Any],
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write `state` with its configuration, atomically.

    Raises:
        ValueError: a tensor is not finite: such a network must never be kept.
        InputError: the folder cannot be written to.
    """
    broken = [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise ValueError(f"'{broken[0]}' is not finite in a {architecture} network to be written to {path}")
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "kind": architecture,
        "config": json.dumps(dict(config), sort_keys=True),
        "notes": json.dumps(dict(notes or {}), sort_keys=True),
    }
    # Tied parameters are stored once each under their own name: clones share no memory.
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
    with atomic_write(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata=metadata)
        sort_metadata(temporary)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
    """Write tensors by name, atomically, in a layout that is not ours: notes are all that is added.

    Raises:
        ValueError: a tensor is not finite.
        InputError: the folder cannot be written to.
    """
    broken = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise ValueError(f"'{broken[0]}' is not finite and will not be written to {path}")
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        safetensors.torch.save_file(whole, temporary, metadata=dict(notes))
        sort_metadata(temporary)


def read_network_file(path: Path, *, architecture: str | None = None) -> NetworkFile:
    """The inverse of `write_network_file`; `architecture`, if given, must be what the file says it is.

    Raises:
        WeightsError: the file is missing, truncated, foreign, of a newer version or of another kind.
    """
    if not path.is_file():
        raise WeightsError(f"no weights at {path}; give the path of a {architecture or 'network'} file")
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise WeightsError(
                    f"{path} is a safetensors file, but not one of this project's networks; give one"
                )
            if int(metadata["version"]) > VERSION:
                raise WeightsError(
                    f"{path} has version {metadata['version']}, newer than {VERSION}; update more4d"
                )
            if architecture is not None and metadata["kind"] != architecture:
                raise WeightsError(
                    f"{path} holds a '{metadata['kind']}' network where '{architecture}' is needed"
                )
            return NetworkFile(
                architecture=metadata["kind"],
                config=json.loads(metadata["config"]),
                notes=json.loads(metadata["notes"]),
                tensors={name: file.get_tensor(name) for name in file.keys()},  # noqa: SIM118 - not a mapping
            )
    except (safetensors.SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(
            f"{path} is truncated or no safetensors file ({reason}); fetch it again"
        ) from error


def half_precision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with its floating-point tensors as float16, for files half the size."""
    return {n: t.half() if t.is_floating_point() else t for n, t in state.items()}


def load_state(network: nn.Module, tensors: Mapping[str, Tensor], *, source: str | Path) -> None:
    """Copy `tensors` into `network`, strictly: every name and every shape must match.

    Precision is the network's: float16 tensors load into a float32 network.

    Raises:
        WeightsError: names what is missing, unexpected or of another shape, and `source`.
    """
    wanted = network.state_dict()
    missing, unexpected = wanted.keys() - tensors.keys(), tensors.keys() - wanted.keys()
    if missing or unexpected:
        listed = [f"{len(missing)} missing ({min(missing)} ...)"] if missing else []
        listed += [f"{len(unexpected)} unexpected ({min(unexpected)} ...)"] if unexpected else []
        raise WeightsError(f"{source} does not fit {type(network).__name__}: {', '.join(listed)}")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise WeightsError(
                f"{source} does not fit {type(network).__name__}: {name} has shape {tuple(tensor.shape)},"
                f" the network wants {tuple(wanted[name].shape)}"
            )
    network.load_state_dict(dict(tensors), strict=True)
