"""What conditions the transformers: umT5, CLIP's vision tower and OmniMAE, published or from transformers."""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from more4d.files.problems import Problem, ProblemCode
from more4d.networks.conditioners import (
    PUBLISHED_TEXT,
    ClipVisionConfig,
    TextEncoderConfig,
    published_clip_names,
    published_text_names,
)
from more4d.networks.motion_perception import UNUSED, OmniMAEConfig, published_trunk_names, sinusoid
from more4d.weights.layouts import (
    axis_length,
    build_config,
    count_numbered,
    missing_num_heads,
    side,
    unexpected_num_layers,
)
from more4d.weights.published_keys import OMNIMAE_PREFIX
from more4d.weights.registry import CheckpointSource, LayoutMatch, LoadPlan, register_layout

TOKENIZER_FOLDERS = ("google/umt5-xxl", "tokenizer", "../tokenizer")
SENTENCEPIECE = "spiece_model"
"""Under this name ComfyUI's files carry the bytes of the tokenizer, which is read from its folder here."""
CLIP_HEAD_DIM, VIT_HEAD_DIM = 80, 64
FRAMES_OF_POSITIONS = 8
TEXT_DEPTHS = {PUBLISHED_TEXT.dim: PUBLISHED_TEXT.layers}
CLIP_DEPTHS = {ClipVisionConfig.dim: ClipVisionConfig.layers}
CLIP_UNUSED = ("log_scale", "textual.", "visual.head", "visual.post_norm.")
TRUNK_DEPTHS = {OmniMAEConfig.dim: OmniMAEConfig.depth}


@register_layout("umt5", needs="a folder of tokenizer files")
def published_text(source: CheckpointSource) -> LayoutMatch | None:
    """The names of `models_t5_umt5-xxl-enc-bf16.pth`."""
    if not {"token_embedding.weight", "blocks.0.ffn.gate.0.weight"} <= source.shapes.keys():
        return None
    layers = count_numbered(source.shapes, "blocks.")
    names = {f"encoder.{ours}": name for name, ours in published_text_names(layers).items()}
    return _text(source, "umt5", names, layers)


@register_layout("transformers-umt5", needs="a folder of tokenizer files")
def transformers_text(source: CheckpointSource) -> LayoutMatch | None:
    """The names of transformers' UMT5EncoderModel."""
    tables = {"shared.weight", "encoder.embed_tokens.weight"}  # the same table under two names
    first = "encoder.block.0.layer.0.SelfAttention.q.weight"
    if first not in source.shapes or not tables & source.shapes.keys():
        return None
    left_out = {*tables, SENTENCEPIECE}
    names = {f"encoder.{name}": name for name in source.shapes if name not in left_out}
    shared = "shared.weight" if "shared.weight" in source.shapes else "encoder.embed_tokens.weight"
    names["encoder.shared.weight"] = shared
    layers = count_numbered(source.shapes, "encoder.block.")
    return _text(source, "transformers-umt5", names, layers)


def _text(source: CheckpointSource, layout: str, names: Mapping[str, str], layers: int) -> LayoutMatch:
    """`names`: name in `UMT5TextEncoder` -> name in the file."""
    shapes = {ours: source.shapes[name] for ours, name in names.items() if name in source.shapes}
    block, usual = "encoder.encoder.block.0.layer", PUBLISHED_TEXT
    heads = side(shapes, f"{block}.0.SelfAttention.relative_attention_bias.weight", 1) or usual.heads
    inner = side(shapes, f"{block}.0.SelfAttention.q.weight", 0, heads * usual.head_dim)
    dim = side(shapes, "encoder.shared.weight", 1, usual.dim)
    values = {
        "vocab": side(shapes, "encoder.shared.weight", 0, usual.vocab),
        "dim": dim,
        "layers": layers,
        "heads": heads,
        "head_dim": inner // heads,
        "ff": side(shapes, f"{block}.1.DenseReluDense.wi_0.weight", 0, usual.ff),
        "length": usual.length,
        "tokenizer": _tokenizer(source),
    }
    options = {name: value for name, value in source.options.items() if name != "tokenizer"}
    expected = source.sibling_config.get("num_layers") if layout == "transformers-umt5" else None
    expected = expected or TEXT_DEPTHS.get(dim)
    return LayoutMatch(
        layout=layout,
        architecture="umt5-text-encoder",
        config=build_config(TextEncoderConfig, values, options),
        about=f"umT5{'-xxl' * (dim == usual.dim)} text encoder of width {dim} and {layers} layers",
        plan=LoadPlan(sources=names, ignored=("encoder.embed_tokens.weight", SENTENCEPIECE)),
        problems=unexpected_num_layers(layers, expected, source.options.get("layers")),
    )


def _tokenizer(source: CheckpointSource) -> str:
    """The folder of tokenizer files: as the user sets it, or where published folders have it."""
    folder = source.path if source.path.is_dir() else source.path.parent
    given = source.options.get("tokenizer")
    if given is not None:
        sibling = folder / str(given)
        return str(sibling) if not Path(given).is_dir() and sibling.is_dir() else str(given)
    for name in TOKENIZER_FOLDERS:
        if (folder / name).is_dir():
            return str(folder / name)
    return PUBLISHED_TEXT.tokenizer


@register_layout("clip-vision")
def published_clip(source: CheckpointSource) -> LayoutMatch | None:
    """The names of `models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth`."""
    shapes = source.shapes
    if not {"visual.patch_embedding.weight", "visual.pos_embedding"} <= shapes.keys():
        return None
    layers = count_numbered(shapes, "visual.transformer.")
    values = _clip_values(
        shapes["visual.patch_embedding.weight"],
        axis_length(shapes["visual.pos_embedding"], -2),
        layers,
        side(shapes, "visual.transformer.0.mlp.0.weight", 0),
    )
    sources, transforms = {}, {}
    for published, ours in published_clip_names(layers - 1).items():
        sources[f"vision.{ours}"] = published
        for place, letter in enumerate("qkv"):
            if f".attn.to_{letter}." in published:
                sources[f"vision.{ours}"] = published.replace(f"to_{letter}", "to_qkv")
                # Queries, keys or values out of one tensor.
                transforms[f"vision.{ours}"] = partial(lambda place, joined: joined.chunk(3)[place], place)
    transforms["vision.embeddings.class_embedding"] = torch.flatten
    transforms["vision.embeddings.position_embedding.weight"] = lambda table: table.squeeze(0)
    plan = LoadPlan(
        sources=sources, transforms=transforms, ignored=(*CLIP_UNUSED, f"visual.transformer.{layers - 1}.")
    )
    return _clip(source, "clip-vision", values, plan)


@register_layout("transformers-clip-vision")
def transformers_clip(source: CheckpointSource) -> LayoutMatch | None:
    """The names of transformers' CLIPVisionModel, alone or inside a CLIPModel."""
    prefix = "vision_model." if any(name.startswith("vision_model.") for name in source.shapes) else ""
    shapes = {
        name.removeprefix(prefix): tensor for name, tensor in source.shapes.items() if name.startswith(prefix)
    }
    table = shapes.get("embeddings.position_embedding.weight")
    patches = shapes.get("embeddings.patch_embedding.weight")
    if "embeddings.class_embedding" not in shapes or table is None or patches is None:
        return None
    layers = count_numbered(shapes, "encoder.layers.")
    ff = side(shapes, "encoder.layers.0.mlp.fc1.weight", 0)
    values = _clip_values(patches, axis_length(table, 0), layers, ff)
    if "num_attention_heads" in source.sibling_config:
        values["heads"] = source.sibling_config["num_attention_heads"]
    unused = ("post_layernorm.", f"encoder.layers.{layers - 1}.", "embeddings.position_ids")
    sources = {f"vision.{name}": prefix + name for name in shapes if not name.startswith(unused)}
    outside = ("text_model.", "visual_projection.", "text_projection.", "logit_scale")
    plan = LoadPlan(sources=sources, ignored=(*(prefix + name for name in unused), *outside))
    problems: tuple[Problem, ...] = ()
    if source.sibling_config.get("hidden_act", "gelu") != "gelu":
        act = source.sibling_config["hidden_act"]
        text = f"holds a vision tower with the activation {act}; give Wan2.1's, which has gelu"
        problems = (Problem(ProblemCode.UNSUPPORTED, text),)
    return _clip(source, "transformers-clip-vision", values, plan, problems)


def _clip(
    source: CheckpointSource,
    layout: str,
    values: dict[str, Any],
    plan: LoadPlan,
    problems: tuple[Problem, ...] = (),
) -> LayoutMatch:
    undetermined = missing_num_heads(values, source, "vision tower")
    stored = source.sibling_config.get("num_hidden_layers") if layout == "transformers-clip-vision" else None
    expected = stored or CLIP_DEPTHS.get(values["dim"])
    problems += unexpected_num_layers(values["layers"], expected, source.options.get("layers"))
    about = f"CLIP vision tower of width {values['dim']} and {values['layers']} layers"
    if (values["dim"], values["layers"]) == (ClipVisionConfig.dim, ClipVisionConfig.layers):
        about = "CLIP ViT-H/14 vision tower"
    return LayoutMatch(
        layout=layout,
        architecture="clip-vision",
        config=build_config(ClipVisionConfig, values, source.options),
        about=about,
        plan=plan,
        problems=problems,
        undetermined=undetermined,
    )


def _clip_values(patches: Tensor, positions: int, layers: int, ff: int | None) -> dict[str, Any]:
    dim, patch = axis_length(patches, 0), axis_length(patches, -1)
    image_size = patch * math.isqrt(max(positions - 1, 0))
    values = {"dim": dim, "layers": layers, "patch": patch, "image_size": image_size}
    values |= {} if ff is None else {"ff": ff}
    return values | ({"heads": dim // CLIP_HEAD_DIM} if dim % CLIP_HEAD_DIM == 0 else {})


@register_layout(
    "omnimae", repositories={"OmniMAE": "the OmniMAE page of Meta's omnivore repository on GitHub"}
)
def omnimae(source: CheckpointSource) -> LayoutMatch | None:
    """The names of `vitb_pretrain.torch`, or the copy inside a 4D-STraG file."""
    inside = any(name.startswith(OMNIMAE_PREFIX) for name in source.shapes)
    if inside and source.role != "motion_features":
        return None
    start = OMNIMAE_PREFIX if inside else ""
    shapes = {
        name.removeprefix(start): tensor for name, tensor in source.shapes.items() if name.startswith(start)
    }
    patches, positions = shapes.get("trunk.patch_embed.proj.1.weight"), shapes.get("trunk.pos_embed")
    if patches is None or patches.ndim != 5:
        return None
    dim, patch = axis_length(patches, 0), axis_length(patches, -1)
    hidden = side(shapes, "trunk.blocks.0.mlp.fc1.weight", 0)
    values: dict[str, Any] = {"dim": dim, "depth": count_numbered(shapes, "trunk.blocks."), "patch": patch}
    values |= {} if hidden is None else {"mlp_ratio": hidden // dim}
    if positions is not None:
        values["image_size"] = patch * math.isqrt(axis_length(positions, 1) // FRAMES_OF_POSITIONS)
    if dim % VIT_HEAD_DIM == 0:
        values["heads"] = dim // VIT_HEAD_DIM
    layout = "moge4d-strag" if inside else "omnimae"
    about = f"OmniMAE trunk of width {dim} and {values['depth']} layers" + (" inside 4D-STraG" * inside)
    undetermined = missing_num_heads(values, source, "trunk", convertible=False)
    problems = unexpected_num_layers(
        values["depth"], TRUNK_DEPTHS.get(dim), source.options.get("depth"), "depth"
    )
    config = build_config(OmniMAEConfig, values, source.options)
    others = {name.partition(".")[0] + "." for name in source.shapes if not name.startswith(start)}
    plan = LoadPlan(
        sources={ours: start + name for name, ours in published_trunk_names(config).items()},
        checks={start + "trunk.pos_embed": _not_sinusoid},
        ignored=(*(start + name for name in (*UNUSED, "trunk.pos_embed")), *others),
    )
    return LayoutMatch(
        layout=layout,
        architecture="omnimae",
        config=config,
        about=about,
        plan=plan,
        problems=problems,
        undetermined=undetermined,
    )


def _not_sinusoid(stored: Tensor) -> str | None:
    expected = sinusoid(stored.shape[1], stored.shape[2])
    if torch.allclose(stored[0].float(), expected, atol=1e-3):
        return None
    return "has positions that are not the fixed sinusoid, as another network has; give the published one"
