"""What conditions the transformers: umT5, CLIP's vision tower and OmniMAE, published or from transformers."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from more4d.networks.conditioners import (
    PUBLISHED_TEXT,
    ClipVisionConfig,
    TextEncoderConfig,
    published_clip_names,
    published_text_names,
    unused_clip_names,
)
from more4d.networks.materialise import Plan, Source
from more4d.networks.omnimae import UNUSED, OmniMAEConfig, published_trunk_names, sinusoid
from more4d.networks.published.becoming import (
    Becoming,
    Found,
    configured,
    numbered,
    untold_heads,
    wrong_depth,
)
from more4d.networks.published_keys import OMNIMAE_PREFIX

TOKENIZER_FOLDERS = ("google/umt5-xxl", "tokenizer", "../tokenizer")
CLIP_HEAD_DIM, VIT_HEAD_DIM = 80, 64
FRAMES_OF_POSITIONS = 8
TEXT_DEPTHS = {PUBLISHED_TEXT.dim: PUBLISHED_TEXT.layers}
CLIP_DEPTHS = {ClipVisionConfig.dim: ClipVisionConfig.layers}
TRUNK_DEPTHS = {OmniMAEConfig.dim: OmniMAEConfig.depth}


def published_text(found: Found) -> Becoming | None:
    """The names of `models_t5_umt5-xxl-enc-bf16.pth`."""
    if not {"token_embedding.weight", "blocks.0.ffn.gate.0.weight"} <= found.shapes.keys():
        return None
    layers = numbered(found.shapes, "blocks.")
    names = {f"encoder.{ours}": name for name, ours in published_text_names(layers).items()}
    return _text(found, "umt5", names, layers)


def transformers_text(found: Found) -> Becoming | None:
    """The names of transformers' UMT5EncoderModel."""
    first = "encoder.block.0.layer.0.SelfAttention.q.weight"
    tables = {"shared.weight", "encoder.embed_tokens.weight"} & found.shapes.keys()
    if first not in found.shapes or not tables:
        return None
    names = {f"encoder.{name}": name for name in found.shapes}
    doubled = names.pop("encoder.encoder.embed_tokens.weight", None)  # the same table under a second name
    names.setdefault("encoder.shared.weight", doubled or "shared.weight")
    ignored = ("encoder.embed_tokens.weight",) if "shared.weight" in found.shapes else ()
    return _text(found, "transformers-umt5", names, numbered(found.shapes, "encoder.block."), ignored=ignored)


def _text(
    found: Found, layout: str, names: Mapping[str, str], layers: int, ignored: tuple[str, ...] = ()
) -> Becoming:
    """`names`: name in `UMT5TextEncoder` -> name in the file."""

    def side(ours: str, axis: int) -> int:
        tensor = (
            found.shapes.get(names[f"encoder.{ours}.weight"]) if f"encoder.{ours}.weight" in names else None
        )
        return tensor.shape[axis] if tensor is not None and tensor.ndim == 2 else 0

    block = "encoder.block.0.layer"
    heads = side(f"{block}.0.SelfAttention.relative_attention_bias", 1)
    values: dict[str, Any] = {
        "vocab": side("shared", 0),
        "dim": side("shared", 1),
        "layers": layers,
        "heads": heads,
        "head_dim": side(f"{block}.0.SelfAttention.q", 0) // heads if heads else 0,
        "ff": side(f"{block}.1.DenseReluDense.wi_0", 0),
        "length": PUBLISHED_TEXT.length,
        "tokenizer": _tokenizer(found),
    }
    about = "umT5-xxl text encoder" if values["dim"] == PUBLISHED_TEXT.dim else "umT5 text encoder"
    about += f" of width {values['dim']} and {layers} layers"
    if not all(values[name] for name in ("vocab", "dim", "heads", "head_dim", "ff")):
        problem = "has tensors of a umT5 text encoder, but not all that tell its sizes; fetch it again"
        return Becoming(layout=layout, kind="umt5-text-encoder", about=about, problems=(problem,))
    options = {name: value for name, value in found.options.items() if name != "tokenizer"}
    expected = found.described.get("num_layers") if layout == "transformers-umt5" else None
    expected = expected or TEXT_DEPTHS.get(values["dim"])
    return Becoming(
        layout=layout,
        kind="umt5-text-encoder",
        config=configured(TextEncoderConfig, values, options),
        about=about,
        plan=Plan(sources={ours: Source(name=name) for ours, name in names.items()}, ignored=ignored),
        problems=wrong_depth(layers, expected, found.options.get("layers")),
    )


def _tokenizer(found: Found) -> str:
    """The folder of tokenizer files: as told, or where published folders have it."""
    folder = found.path if found.path.is_dir() else found.path.parent
    told = found.options.get("tokenizer")
    if told is not None:
        beside = folder / str(told)
        return str(beside) if not Path(told).is_dir() and beside.is_dir() else str(told)
    for name in TOKENIZER_FOLDERS:
        if (folder / name).is_dir():
            return str(folder / name)
    return PUBLISHED_TEXT.tokenizer


def published_clip(found: Found) -> Becoming | None:
    """The names of `models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth`."""
    shapes = found.shapes
    if not {"visual.patch_embedding.weight", "visual.pos_embedding"} <= shapes.keys():
        return None
    layers = numbered(shapes, "visual.transformer.")
    values = _clip_values(
        shapes["visual.patch_embedding.weight"], shapes["visual.pos_embedding"].shape[-2], layers
    )
    if "visual.transformer.0.mlp.0.weight" in shapes:
        values["ff"] = shapes["visual.transformer.0.mlp.0.weight"].shape[0]
    sources = {}
    for published, ours in published_clip_names(layers - 1).items():
        sources[f"vision.{ours}"] = Source(name=published)
        for place, letter in enumerate("qkv"):
            if f".attn.to_{letter}." in published:
                sources[f"vision.{ours}"] = Source(
                    name=published.replace(f"to_{letter}", "to_qkv"), change=_Third(place)
                )
    sources["vision.embeddings.class_embedding"] = Source(name="visual.cls_embedding", change=torch.flatten)
    sources["vision.embeddings.position_embedding.weight"] = Source(
        name="visual.pos_embedding", change=lambda table: table.squeeze(0)
    )
    plan = Plan(sources=sources, ignored=unused_clip_names(layers - 1))
    return _clip(found, "clip-vision", values, plan)


def transformers_clip(found: Found) -> Becoming | None:
    """The names of transformers' CLIPVisionModel, alone or inside a CLIPModel."""
    prefix = "vision_model." if any(name.startswith("vision_model.") for name in found.shapes) else ""
    shapes = {
        name.removeprefix(prefix): tensor for name, tensor in found.shapes.items() if name.startswith(prefix)
    }
    table = shapes.get("embeddings.position_embedding.weight")
    patches = shapes.get("embeddings.patch_embedding.weight")
    if "embeddings.class_embedding" not in shapes or table is None or patches is None:
        return None
    layers = numbered(shapes, "encoder.layers.")
    values = _clip_values(patches, table.shape[0], layers)
    if "encoder.layers.0.mlp.fc1.weight" in shapes:
        values["ff"] = shapes["encoder.layers.0.mlp.fc1.weight"].shape[0]
    if "num_attention_heads" in found.described:
        values["heads"] = found.described["num_attention_heads"]
    unused = ("post_layernorm.", f"encoder.layers.{layers - 1}.", "embeddings.position_ids")
    sources = {f"vision.{name}": Source(name=prefix + name) for name in shapes if not name.startswith(unused)}
    outside = ("text_model.", "visual_projection.", "text_projection.", "logit_scale")
    plan = Plan(sources=sources, ignored=(*(prefix + name for name in unused), *outside))
    problems = ()
    if found.described.get("hidden_act", "gelu") != "gelu":
        act = found.described["hidden_act"]
        problems = (f"holds a vision tower with the activation {act}; give Wan2.1's, which has gelu",)
    return _clip(found, "transformers-clip-vision", values, plan, problems)


def _clip(
    found: Found, layout: str, values: dict[str, Any], plan: Plan, problems: tuple[str, ...] = ()
) -> Becoming:
    told = found.described.get("num_hidden_layers") if layout == "transformers-clip-vision" else None
    expected = told or CLIP_DEPTHS.get(values["dim"])
    problems += wrong_depth(values["layers"], expected, found.options.get("layers"))
    about = f"CLIP vision tower of width {values['dim']} and {values['layers']} layers"
    if (values["dim"], values["layers"]) == (ClipVisionConfig.dim, ClipVisionConfig.layers):
        about = "CLIP ViT-H/14 vision tower"
    told_heads = "heads" in values or "heads" in found.options
    values.setdefault("heads", 1)
    return Becoming(
        layout=layout,
        kind="clip-vision",
        config=configured(ClipVisionConfig, values, found.options),
        about=about,
        plan=plan,
        problems=problems,
        untold=None if told_heads else untold_heads("vision tower", values["dim"], found.role),
    )


def _clip_values(patches: Tensor, positions: int, layers: int) -> dict[str, Any]:
    dim, patch = patches.shape[0], patches.shape[-1]
    values = {
        "dim": dim,
        "layers": layers,
        "patch": patch,
        "image_size": patch * math.isqrt(max(positions - 1, 0)),
    }
    return values | ({"heads": dim // CLIP_HEAD_DIM} if dim % CLIP_HEAD_DIM == 0 else {})


class _Third:
    """Queries, keys or values out of one tensor."""

    def __init__(self, place: int) -> None:
        self._place = place

    def __call__(self, joined: Tensor) -> Tensor:
        return joined.chunk(3)[self._place]


def omnimae(found: Found) -> Becoming | None:
    """The names of `vitb_pretrain.torch`, or the copy inside a 4D-STraG file."""
    inside = any(name.startswith(OMNIMAE_PREFIX) for name in found.shapes)
    if inside and found.role != "motion_features":
        return None
    start = OMNIMAE_PREFIX if inside else ""
    shapes = {
        name.removeprefix(start): tensor for name, tensor in found.shapes.items() if name.startswith(start)
    }
    patches, positions = shapes.get("trunk.patch_embed.proj.1.weight"), shapes.get("trunk.pos_embed")
    if patches is None or patches.ndim != 5:
        return None
    dim, patch = patches.shape[0], patches.shape[-1]
    hidden = shapes.get("trunk.blocks.0.mlp.fc1.weight")
    values: dict[str, Any] = {"dim": dim, "depth": numbered(shapes, "trunk.blocks."), "patch": patch}
    values |= {} if hidden is None else {"mlp_ratio": hidden.shape[0] // dim}
    if positions is not None:
        values["image_size"] = patch * math.isqrt(positions.shape[1] // FRAMES_OF_POSITIONS)
    if dim % VIT_HEAD_DIM == 0:
        values["heads"] = dim // VIT_HEAD_DIM
    layout = "moge4d-strag" if inside else "omnimae"
    about = f"OmniMAE trunk of width {dim} and {values['depth']} layers" + (" inside 4D-STraG" * inside)
    told_heads = "heads" in values or "heads" in found.options
    untold = None if told_heads else untold_heads("trunk", dim, found.role, convertible=False)
    values.setdefault("heads", 1)
    problems = wrong_depth(values["depth"], TRUNK_DEPTHS.get(dim), found.options.get("depth"), "depth")
    config = configured(OmniMAEConfig, values, found.options)
    others = {name.partition(".")[0] + "." for name in found.shapes if not name.startswith(start)}
    plan = Plan(
        sources={ours: Source(name=start + name) for name, ours in published_trunk_names(config).items()},
        checks={start + "trunk.pos_embed": _not_sinusoid},
        ignored=(*(start + name for name in (*UNUSED, "trunk.pos_embed")), *others),
    )
    return Becoming(
        layout=layout,
        kind="omnimae",
        config=config,
        about=about,
        plan=plan,
        problems=problems,
        untold=untold,
    )


def _not_sinusoid(stored: Tensor) -> str | None:
    expected = sinusoid(stored.shape[1], stored.shape[2])
    if torch.allclose(stored[0].float(), expected, atol=1e-3):
        return None
    return "has positions that are not the fixed sinusoid, as another network has; give the published one"
