"""Sparse files as large as published ones that take no disk space: headers without tensor data."""

import json
import struct
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from more4d.networks.vism import ViSMConfig
from more4d.networks.wan_config import PUBLISHED, WanConfig
from more4d.weights.published_keys import wan_names
from more4d.weights.registry import init_empty


def inp_shapes() -> dict[str, Tensor]:
    """Tensors of Wan2.1-Fun-14B-InP, as `shapes_of` has them."""
    return shapes_of(PUBLISHED["inp-14b"])


def shapes_of(wan: WanConfig) -> dict[str, Tensor]:
    """Tensors of an InP transformer by their published names, without memory, in bfloat16."""
    tensors = init_empty("vism", ViSMConfig(wan=wan)).bfloat16().state_dict()
    return {published: tensors[f"transformer.{ours}"] for published, ours in wan_names(wan).items()}


def write_sparse_safetensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """A safetensors file of bfloat16 tensors with a hole for the tensor data."""
    header, end = {}, 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": "BF16",
            "shape": list(tensor.shape),
            "data_offsets": [end, end + tensor.nbytes],
        }
        end += tensor.nbytes
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


def write_sparse_torch(path: Path, tensors: dict[str, Tensor]) -> None:
    """A file of torch.save with holes for the tensor data."""
    with FakeTensorMode():
        fakes = {name: torch.empty(tensor.shape, dtype=tensor.dtype) for name, tensor in tensors.items()}
    with torch.serialization.skip_data(materialize_fake_tensors=True):
        torch.save(fakes, path)
