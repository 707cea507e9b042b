"""Video VAEs and trajectory codecs: Wan2.1_VAE.pth, MoGe4D's folder, and diffusers' AutoencoderKLWan."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from more4d.files.checkpoint_headers import CheckpointHeaders, read_headers
from more4d.files.problems import Problem, ProblemCode
from more4d.foundation.errors import ConfigError
from more4d.networks.trajectory_vae import (
    PUBLISHED_TRAJECTORY_MEAN,
    PUBLISHED_TRAJECTORY_STD,
    WanTrajectoryVaeConfig,
)
from more4d.networks.video_vae import LATENT_CHANNELS, WanVideoVaeConfig, vae_names
from more4d.weights.layouts import axis_length, build_config, count_numbered, side
from more4d.weights.registry import CheckpointSource, LayoutMatch, LoadPlan, register_layout

WAN_FUN = {"Wan2.1-Fun-": "alibaba-pai/{name} on Hugging Face, PAI/{name} on ModelScope"}
CODEC_FOLDERS = ("encoder_prompt", "decoder_prompt", "vae")
STATISTICS = "trajectory_statistics"
"""Option of a trajectory codec's folder: "released" or "none", of what its generator works in."""
_ADAPTERS = {"encoder_prompt": "encoder_adapter", "decoder_prompt": "decoder_adapter"}
_DOWN = "encoder.down_blocks."


def codec_headers(folder: Path) -> CheckpointHeaders | None:
    """The tensors of MoGe4D's three files, each under its folder's name; None if this is no such folder."""
    if not any((folder / name).is_dir() for name in CODEC_FOLDERS[:2]):
        return None
    joined = CheckpointHeaders()
    for name in CODEC_FOLDERS:
        joined = joined.merge(read_headers(folder / name).member(name, prefix=f"{name}/"))
    return joined


@register_layout("wan-vae", repositories=WAN_FUN)
def published_vae(source: CheckpointSource) -> LayoutMatch | None:
    """The names of `Wan2.1_VAE.pth`, or of MoRe4D's saved VAE (they begin with `model.`)."""
    plain = {name.removeprefix("model.") for name in source.shapes}
    if not {"encoder.conv1.weight", "decoder.conv1.weight", "conv1.weight", "conv2.weight"} <= plain:
        return None
    return _vae(source, "wan-vae", vae_names(source.shapes))


@register_layout("diffusers-vae", needs="config.json for latents_mean and latents_std")
def diffusers_vae(source: CheckpointSource) -> LayoutMatch | None:
    """The names of diffusers' AutoencoderKLWan."""
    if not {"encoder.conv_in.weight", "quant_conv.weight", "post_quant_conv.weight"} <= source.shapes.keys():
        return None
    constants = {}
    for ours, theirs in (("mean", "latents_mean"), ("std", "latents_std")):
        values = source.sibling_config.get(theirs)
        if isinstance(values, list) and len(values) == LATENT_CHANNELS:
            constants[f"statistics.{ours}"] = torch.tensor(values)
    return _vae(source, "diffusers-vae", {name: name for name in source.shapes}, constants)


@register_layout(
    "moge4d-codec",
    repositories={"MoGe4D": "Yanran21/MoGe4D on Hugging Face, YanranZhang/MoGe4D on ModelScope"},
    needs="its three folders: encoder_prompt, decoder_prompt, vae",
    read_folder=codec_headers,
)
def published_codec(source: CheckpointSource) -> LayoutMatch | None:
    """MoGe4D's folder: two adapters and a VAE, in the latent space that its generator works in."""
    inner = {name.partition("/")[2]: name for name in source.shapes if name.startswith("vae/")}
    if not any(name.startswith(f"{CODEC_FOLDERS[0]}/") for name in source.shapes):
        return None
    options = dict(source.options)
    statistics = options.pop(STATISTICS, "released")
    if statistics not in ("released", "none"):
        raise ConfigError(f"option {STATISTICS} must be released or none, got {statistics!r}")
    names = {ours: inner[name] for ours, name in vae_names(inner).items()}
    sources = {f"video.vae.{ours}": name for ours, name in names.items()}
    for folder, ours in _ADAPTERS.items():
        start = f"{folder}/"
        sources |= {
            f"{ours}.{name.removeprefix(start)}": name for name in source.shapes if name.startswith(start)
        }
    width = side(source.shapes, f"{CODEC_FOLDERS[0]}/conv_in.weight", 0)
    values = {"video": _values({ours: source.shapes[name] for ours, name in names.items()})}
    values |= {} if width is None else {"adapter_width": width}
    constants = {
        "trajectory_statistics.mean": torch.tensor(PUBLISHED_TRAJECTORY_MEAN),
        "trajectory_statistics.std": torch.tensor(PUBLISHED_TRAJECTORY_STD),
    }
    return LayoutMatch(
        layout="moge4d-codec",
        architecture="wan-trajectory-vae",
        config=build_config(WanTrajectoryVaeConfig, values, options, "video"),
        about="MoGe4D trajectory codec, "
        + ("with" if statistics == "released" else "without")
        + " the released statistics of trajectory latents",
        plan=LoadPlan(sources=sources, constants=constants if statistics == "released" else {}),
    )


def _vae(
    source: CheckpointSource,
    layout: str,
    names: Mapping[str, str],
    constants: Mapping[str, Tensor] | None = None,
) -> LayoutMatch:
    """`names`: name in `WanVideoVae.vae` -> name in the file."""
    shapes = {ours: source.shapes[name] for ours, name in names.items()}
    values = _values(shapes)
    base, usual = values["base_dim"], WanVideoVaeConfig.base_dim
    about = "Wan2.1 video VAE" if base == usual else f"Wan video VAE of base width {base}"
    channels = axis_length(shapes["post_quant_conv.weight"], 0)
    if channels != LATENT_CHANNELS:
        text = f"holds a video VAE of {channels} latent channels; give Wan2.1's, of {LATENT_CHANNELS}"
        problem = Problem(ProblemCode.UNSUPPORTED, text)
        return LayoutMatch(layout=layout, architecture="wan-video-vae", about=about, problems=(problem,))
    config: Any
    if source.role == "trajectory_codec":
        config = build_config(
            WanTrajectoryVaeConfig, {"video": values, "adapters": "closed"}, source.options, "video"
        )
        about += ", with motion as a picture in closed form"
        architecture, prefix = "wan-trajectory-vae", "video."
    else:
        config = build_config(WanVideoVaeConfig, values, source.options)
        architecture, prefix = "wan-video-vae", ""
    plan = LoadPlan(
        sources={f"{prefix}vae.{ours}": name for ours, name in names.items()},
        constants={prefix + name: tensor for name, tensor in (constants or {}).items()},
    )
    return LayoutMatch(layout=layout, architecture=architecture, config=config, about=about, plan=plan)


def _values(shapes: Mapping[str, Tensor]) -> dict[str, Any]:
    """Fields of `WanVideoVaeConfig`, from shapes by diffusers' names."""
    base = side(shapes, "encoder.conv_in.weight", 0, WanVideoVaeConfig.base_dim)
    blocks = range(count_numbered(shapes, _DOWN))
    residual = next((n for n in blocks if f"{_DOWN}{n}.resample.1.weight" in shapes), 2)
    firsts = [f"{_DOWN}{stage * (residual + 1)}.conv1.weight" for stage in range(4)]
    widths = [axis_length(shapes[name], 0) for name in firsts if name in shapes]
    multiples = tuple(width // base for width in widths) if len(widths) == 4 else (1, 2, 4, 4)
    return {"base_dim": base, "dim_mult": multiples, "residual_blocks": residual}
