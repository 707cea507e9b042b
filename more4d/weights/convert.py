"""Networks in the layout of diffusers and transformers: a folder with `config.json` and safetensors.

Names are those of WanTransformer3DModel, AutoencoderKLWan, UMT5EncoderModel and CLIPVisionModel. What these
do not have (motion perception, adapters, statistics of trajectories) keeps our names beside them, and
`config.json` has under "more4d" which network it is, so that it comes back bit for bit.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from more4d.files.atomic import write_bytes
from more4d.files.checkpoint_headers import INDEX_SUFFIX
from more4d.foundation.config import to_mapping
from more4d.foundation.errors import WeightsError
from more4d.networks.wan_config import WanConfig
from more4d.weights.layouts.more4d_format import LIBRARY_LAYOUTS
from more4d.weights.load import inspect, tensor_of
from more4d.weights.registry import init_empty, named_tensors
from more4d.weights.state import MORE4D_KEY, write_tensors

SHARD_BYTES = 5_000_000_000
CONFIG = "config.json"


def convert(
    source: Path,
    folder: Path,
    *,
    role: str | None = None,
    options: Mapping[str, Any] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> list[Path]:
    """Write what `source` holds, in any layout that is known, in the precision it has.

    Float8 weights with scales are multiplied out in float32. One shard is in memory at a time. For the
    arguments see `load.inspect`.

    Returns:
        The files that were written.

    Raises:
        WeightsError: the source is missing, damaged, incomplete or not finite, or has no such layout.
        ConfigError: an option names no field of the network's configuration, or its value is impossible.
        InputError: the folder cannot be written to.
    """
    checkpoint = inspect(source, role=role, options=options)
    architecture, plan, headers = checkpoint.architecture, checkpoint.plan, checkpoint.headers
    if checkpoint.problems or plan is None:
        raise checkpoint.error()
    if architecture not in LIBRARY_LAYOUTS:
        raise WeightsError(
            f"{source} holds a network of kind {architecture}, for which no library has a layout "
            f"(there is one for {', '.join(LIBRARY_LAYOUTS)}); it is used as it is"
        )
    network, library = init_empty(architecture, checkpoint.config), LIBRARY_LAYOUTS[architecture]
    targets = named_tensors(network)
    # Scaled weights are multiplied out in float32, as targets are.
    sizes = {
        name: headers.shapes[plan.sources[name]].element_size() * target.numel()
        if name in plan.sources and plan.sources[name] not in plan.scales
        else target.nbytes
        for name, target in targets.items()
    }
    described = {
        **DESCRIPTIONS[architecture](network),
        MORE4D_KEY: {"kind": architecture, "config": to_mapping(network.config)},
    }
    stored = [name for name in targets if name not in library.config_tensors]
    shards = list(_shards(stored, sizes, shard_bytes))
    files, weight_map = [], {}
    with headers.open() as read:
        for name, key in library.config_tensors.items():
            described[key] = tensor_of(name, targets[name], plan, read).tolist()
        for number, names in enumerate(shards, start=1):
            suffix = f"-{number:05d}-of-{len(shards):05d}" if len(shards) > 1 else ""
            path = folder / f"{library.stem}{suffix}.safetensors"
            shard = {library.library_name(name): tensor_of(name, targets[name], plan, read) for name in names}
            try:
                write_tensors(path, shard, {"format": "pt"})
            except ValueError as error:
                raise WeightsError(f"{source} cannot be converted: {error}") from error
            weight_map |= dict.fromkeys(shard, path.name)
            files.append(path)
    if len(shards) > 1:
        total = sum(sizes[name] for name in stored)
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        files.append(_write_json(folder / f"{library.stem}{INDEX_SUFFIX}", index))
    files.append(_write_json(folder / CONFIG, described))
    for path in folder.glob(f"{library.stem}*.safetensors*"):  # of an earlier network in other shards
        if path not in files:
            path.unlink()
    return files


def _shards(names: list[str], sizes: Mapping[str, int], limit: int) -> Iterator[list[str]]:
    """Names in their order, in groups of at most `limit` bytes; a larger tensor has a group of its own."""
    group: list[str] = []
    filled = 0
    for name in names:
        if group and filled + sizes[name] > limit:
            yield group
            group, filled = [], 0
        group.append(name)
        filled += sizes[name]
    yield group


def _write_json(path: Path, content: Mapping[str, Any]) -> Path:
    write_bytes(path, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())
    return path


def _transformer(network: nn.Module) -> dict[str, Any]:
    wan: WanConfig = network.config.wan
    return {
        "_class_name": "WanTransformer3DModel",
        "patch_size": list(wan.patch_size),
        "num_attention_heads": wan.heads,
        "attention_head_dim": wan.dim // wan.heads,
        "in_channels": wan.in_channels,
        "out_channels": wan.out_channels,
        "text_dim": wan.text_dim,
        "freq_dim": wan.freq_dim,
        "ffn_dim": wan.ffn_dim,
        "num_layers": wan.layers,
        "cross_attn_norm": wan.cross_attn_norm,
        "qk_norm": "rms_norm_across_heads",
        "eps": wan.eps,
        "image_dim": wan.image_dim,
        "added_kv_proj_dim": None if wan.image_dim is None else wan.dim,
        "rope_max_seq_len": 1024,
        "pos_embed_seq_len": None,
    }


def _vae(video: nn.Module) -> dict[str, Any]:
    return {
        "_class_name": "AutoencoderKLWan",
        "base_dim": video.config.base_dim,
        "z_dim": video.vae.config.z_dim,
        "dim_mult": list(video.config.dim_mult),
        "num_res_blocks": video.config.residual_blocks,
        "attn_scales": [],
        "temperal_downsample": [False, True, True],
        "dropout": 0.0,
    }


DESCRIPTIONS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "strag": _transformer,
    "vism": _transformer,
    "wan-video-vae": _vae,
    "wan-trajectory-vae": lambda network: _vae(network.video),
    "umt5-text-encoder": lambda network: _transformers(network.encoder, "UMT5EncoderModel"),
    "clip-vision": lambda network: _transformers(network.vision, "CLIPVisionModel"),
}
"""Content of `config.json`, by architecture."""


def _transformers(model: nn.Module, name: str) -> dict[str, Any]:
    described = model.config.to_dict().items()
    plain = {key: value for key, value in described if not isinstance(value, torch.dtype)}
    return {**plain, "architectures": [name]}
