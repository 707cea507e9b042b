"""Video transformers: Wan2.1-Fun Control and InP, MoGe4D's 4D-STraG, and the same in diffusers' names."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.nn import functional

from more4d.files.problems import Problem, ProblemCode
from more4d.foundation.errors import ConfigError
from more4d.networks.motion_perception import MotionFeatureAdapter, MotionModulation
from more4d.networks.strag import STraGConfig
from more4d.networks.vism import ViSMConfig
from more4d.networks.wan_config import CLIP_DIM, WanConfig
from more4d.weights.layouts import (
    axis_length,
    build_config,
    count_numbered,
    missing_num_heads,
    side,
    unexpected_num_layers,
)
from more4d.weights.lora.io import judge_lora, lora_style
from more4d.weights.lora.keys import FULL_CONFIG
from more4d.weights.lora.merge import ENTRY, TEXT_TO_VIDEO_CHANNELS
from more4d.weights.published_keys import OMNIMAE_PREFIX, generator_names
from more4d.weights.registry import CheckpointSource, LayoutMatch, LoadPlan, register_layout

HEAD_DIM = 128
MOTION_FEATURES = 768
CONTROL, INPAINTING, STRAG, TEXT_ONLY, CAMERA = 48, 36, 64, 16, 32
SIZES = {(1536, 30): "1.3B", (5120, 40): "14B"}
DEPTHS = dict(SIZES.keys())
PATCHES = "patch_embedding.weight"
FETCH = "fetch it again, with the config.json that belongs to it"
# By the number of input channels: layout, architecture and what it is.
KINDS = {
    CONTROL: ("wan-fun-control", "strag", "Wan2.1-Fun Control transformer"),
    INPAINTING: ("wan-fun-inp", "vism", "Wan2.1-Fun InP transformer"),
    STRAG: ("moge4d-strag", "strag", "4D-STraG transformer"),
    TEXT_ONLY: ("wan-t2v", "", "Wan2.1 text-to-video transformer"),
    CAMERA: ("wan-fun-camera", "", "Wan2.1-Fun Control-Camera transformer"),
}
# Key of `config.json` -> field of `WanConfig`.
CONFIG_NAMES = {name: name for name in ("dim", "ffn_dim", "freq_dim", "text_dim", "image_dim", "patch_size")}
CONFIG_NAMES |= {"num_layers": "layers", "guidance_dim": "motion_feature_dim", "out_dim": "out_channels"}
PREFIXES = ("", "model.diffusion_model.", "diffusion_model.")
"""In front of every name in ComfyUI's files of transformers."""
_DOWN_FACTORS = ("lora_down", "lora.down", "lora_A")


@register_layout(
    *("wan-fun-control", "wan-fun-inp", "moge4d-strag", "wan-t2v", "wan-fun-camera", "wan-transformer"),
    repositories={
        "Wan2.1-Fun-": "alibaba-pai/{name} on Hugging Face, PAI/{name} on ModelScope",
        "MoGe4D": "Yanran21/MoGe4D on Hugging Face, YanranZhang/MoGe4D on ModelScope",
    },
    needs="config.json, where its width is not that of 1.3B or 14B",
    untrained=("wan-fun-control",),
)
def published_transformer(source: CheckpointSource) -> LayoutMatch | None:
    """A file with the names of the original Wan2.1 code; None if this is none."""
    prefix = _prefix(source, PATCHES, "blocks.0.self_attn.q.weight", "head.head.weight")
    if prefix is None:
        return None
    return _transformer_match(source, _stripped(source, prefix), prefix, diffusers=False)


@register_layout("diffusers-transformer", needs="config.json")
def diffusers_transformer(source: CheckpointSource) -> LayoutMatch | None:
    """A folder with diffusers' names (WanTransformer3DModel), perhaps ours beside; None if none."""
    prefix = _prefix(source, PATCHES, "blocks.0.attn1.to_q.weight", "proj_out.weight")
    if prefix is None:
        return None
    everything = replace(FULL_CONFIG, layers=count_numbered(source.shapes, f"{prefix}blocks."))
    published = {ours: name for name, ours in generator_names(everything).items()}
    places = {}
    for name, stored in _stripped(source, prefix).items():
        ours = name if name.startswith("motion_adapter.") else f"transformer.{name}"
        places[published.get(ours, name)] = stored
    return _transformer_match(source, places, prefix, diffusers=True)


def _prefix(source: CheckpointSource, *names: str) -> str | None:
    """The prefix with which a file has all these names; None if it has not."""
    return next((each for each in PREFIXES if {each + name for name in names} <= source.shapes.keys()), None)


def _stripped(source: CheckpointSource, prefix: str) -> dict[str, str]:
    """Name without the prefix -> name in the file; what is without it belongs to no transformer."""
    return {name.removeprefix(prefix): name for name in source.shapes if name.startswith(prefix)}


def _transformer_match(
    source: CheckpointSource, places: Mapping[str, str], prefix: str, *, diffusers: bool
) -> LayoutMatch:
    """`places`: published name -> name in the file, which begins with `prefix`."""
    shapes = {published: source.shapes[name] for published, name in places.items()}
    channels = axis_length(shapes[PATCHES], 1)
    layout, architecture, _ = KINDS.get(channels, ("wan-transformer", "", ""))
    if _motion_features(shapes) is not None:
        layout = "moge4d-strag"
    found = LayoutMatch(
        layout="diffusers-transformer" if diffusers else layout,
        architecture=architecture,
        about=_about(channels, shapes),
    )
    if not architecture:
        text = (
            f"holds a transformer of {channels} input channels; give Control, which has 48, InP (36) or "
            "4D-STraG (64)"
        )
        return replace(found, problems=(Problem(ProblemCode.UNSUPPORTED, text),))
    try:
        wan = wan_values(source.sibling_config, shapes, needs_motion=channels == STRAG)
        conflicts = _config_conflicts(source.sibling_config, wan)
        undetermined = missing_num_heads(wan, source, "transformer", has_config=True)
        config = _build_config(source, architecture, wan, shapes)
    except ConfigError as error:
        if source.options:
            raise
        return replace(found, problems=(Problem(ProblemCode.CONFIG, f"{error}; {FETCH}"),))
    layers, usual = wan["layers"], DEPTHS.get(wan["dim"])
    plan = _plan(config.wan, places, prefix, shapes)
    about = found.about
    if architecture == "strag" and channels < config.wan.in_channels:
        about += f", widened to {config.wan.in_channels} channels (new ones are zero)"
    if plan.new:
        about += ", Motion Perception new"
    return replace(
        found,
        config=config,
        about=about,
        plan=plan,
        problems=(
            *conflicts,
            *unexpected_num_layers(layers, usual, source.options.get("layers")),
        ),
        undetermined=undetermined,
    )


@register_layout("kohya-lora", "peft-lora", "diffusers-lora", "original-lora")
def lora(source: CheckpointSource) -> LayoutMatch | None:
    """A LoRA in any style; None if this is none."""
    style = lora_style(source.shapes)
    if style is None:
        return None
    downs = [
        name
        for name in source.shapes
        if name.endswith(".weight") and any(f".{down}" in name for down in _DOWN_FACTORS)
    ]
    ranks = sorted({source.shapes[name].shape[0] for name in downs if source.shapes[name].ndim})
    size = f"rank {' and '.join(map(str, ranks[:3]))}" if ranks else "whole differences"
    about = f"LoRA in {style} names, {size}, for {len(downs)} modules"
    updates, problems = judge_lora(source.path, source.shapes)
    entry = None if updates is None else updates.by_parameter.get(f"{ENTRY}.weight")
    if entry is not None and entry.shape[1:2] == (TEXT_TO_VIDEO_CHANNELS,):
        about += ", for text-to-video (elsewhere its patch embedding is left out)"
    return LayoutMatch(
        layout=f"{style}-lora",
        architecture="lora",
        config={"ranks": ranks},
        about=about,
        problems=problems,
    )


def wan_values(
    sibling_config: Mapping[str, Any], shapes: Mapping[str, Tensor], *, needs_motion: bool = False
) -> dict[str, Any]:
    """Fields of `WanConfig`, from shapes by published names, and from `config.json`.

    What the one or the other has is expected, so that what is lost from the tensors is missed, not left out.

    Args:
        needs_motion: whether it is a network that cannot do without Motion Perception.
    """
    patches, given = shapes[PATCHES], sibling_config.get
    dim, patch = patches.shape[0], list(patches.shape[2:])
    cells, flat = math.prod(patch), side(shapes, "head.head.weight", 0)
    values: dict[str, Any] = {
        "in_channels": patches.shape[1],
        "dim": dim,
        "ffn_dim": side(shapes, "blocks.0.ffn.0.weight", 0, given("ffn_dim", 4 * dim)),
        "layers": count_numbered(shapes, "blocks."),
        "out_channels": given("out_dim", 16) if flat is None else flat // cells,
        "patch_size": patch,
        "freq_dim": side(shapes, "time_embedding.0.weight", 1, given("freq_dim", 256)),
        "text_dim": side(shapes, "text_embedding.0.weight", 1, given("text_dim", 4096)),
        "image_dim": side(shapes, "img_emb.proj.0.weight", 0) or _image_dim_from_config(sibling_config, dim),
        "reference_tokens": "ref_conv.weight" in shapes or bool(given("add_ref_conv")),
        "motion_feature_dim": _motion_features(shapes),
        "cross_attn_norm": "blocks.0.norm3.weight" in shapes or bool(given("cross_attn_norm", True)),
        "text_length": given("text_len", 512),
        "eps": given("eps", 1e-6),
    }
    if needs_motion and values["motion_feature_dim"] is None:
        width = side(shapes, "feature_adapter.0.weight", 0, MOTION_FEATURES)
        values["motion_feature_dim"] = given("guidance_dim") or width
    heads = given("num_heads") or given("num_attention_heads")
    if heads is None and dim % HEAD_DIM == 0:
        heads = dim // HEAD_DIM
    return values if heads is None else values | {"heads": heads}


def _image_dim_from_config(sibling_config: Mapping[str, Any], dim: int) -> int | None:
    """Width of CLIP's features where no tensor gives it: all published transformers here see photos."""
    if "image_dim" in sibling_config:
        return sibling_config["image_dim"]
    kind = sibling_config.get("model_type", "i2v" if dim in DEPTHS else None)
    return CLIP_DIM if kind == "i2v" else None


def _motion_features(shapes: Mapping[str, Tensor]) -> int | None:
    return side(shapes, "blocks.0.spatial_guidance_self.spatial_guide.1.weight", 1)


def _build_config(
    source: CheckpointSource, architecture: str, wan: dict[str, Any], shapes: Mapping[str, Tensor]
) -> STraGConfig | ViSMConfig:
    if architecture == "vism":
        return build_config(ViSMConfig, {"wan": wan}, source.options, "wan")
    if wan["in_channels"] == CONTROL:
        wan["in_channels"] = STRAG
        if wan["motion_feature_dim"] is None and source.role == "strag":
            wan["motion_feature_dim"] = MOTION_FEATURES
    return build_config(STraGConfig, {"wan": wan}, source.options, "wan")


def _plan(wan: WanConfig, places: Mapping[str, str], prefix: str, shapes: Mapping[str, Tensor]) -> LoadPlan:
    names = generator_names(wan)
    new: dict[str, Any] = {}
    width, channels = wan.motion_feature_dim, shapes[PATCHES].shape[1]
    if width is not None and channels == CONTROL and _motion_features(shapes) is None:
        new["motion_adapter"] = lambda: MotionFeatureAdapter(width)
        for block in range(wan.layers):
            for guide in ("guide_attention", "guide_ffn"):
                new[f"transformer.blocks.{block}.{guide}"] = lambda: MotionModulation(width, wan.dim)
    sources = {
        ours: places.get(published, prefix + published)
        for published, ours in names.items()
        if not any(ours.startswith(f"{module}.") for module in new)
    }
    transforms = {}
    more_channels = wan.in_channels - channels
    if more_channels > 0:  # weights [out, in, t, h, w]: new input channels, of zeros, after the stored ones
        transforms[f"transformer.{PATCHES}"] = lambda weight: functional.pad(
            weight, (0, 0, 0, 0, 0, 0, 0, more_channels)
        )
    ignored = (OMNIMAE_PREFIX,) if channels == STRAG else ()
    return LoadPlan(sources=sources, transforms=transforms, new=new, ignored=ignored)


def _config_conflicts(sibling_config: Mapping[str, Any], wan: Mapping[str, Any]) -> list[Problem]:
    """Where the `config.json` is that of another network. Its channels are not asked: 4D-STraG's are old."""
    values = {theirs: wan[ours] for theirs, ours in CONFIG_NAMES.items()}
    if wan["dim"] in DEPTHS:
        values |= dict.fromkeys(("num_heads", "num_attention_heads"), wan["dim"] // HEAD_DIM)
    text = "has {} {}, and the config.json beside it says {}; give the one that belongs to it"
    return [
        Problem(ProblemCode.CONFIG, text.format(name, value, sibling_config[name]))
        for name, value in values.items()
        if value is not None and sibling_config.get(name) not in (None, value)
    ]


def _about(channels: int, shapes: Mapping[str, Tensor]) -> str:
    dim, layers = shapes[PATCHES].shape[0], count_numbered(shapes, "blocks.")
    size = SIZES.get((dim, layers), f"width {dim}, {layers} layers")
    facts = [KINDS[channels][2] if channels in KINDS else "Wan transformer", size, f"{channels} channels"]
    facts += ["reference tokens"] if "ref_conv.weight" in shapes else []
    facts += ["Motion Perception"] if _motion_features(shapes) is not None else []
    facts += ["OmniMAE inside"] if any(name.startswith(OMNIMAE_PREFIX) for name in shapes) else []
    return ", ".join(facts)
