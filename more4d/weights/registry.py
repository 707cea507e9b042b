"""Every kind of network file, and what builds its network."""

from dataclasses import is_dataclass
from typing import Any

from torch import nn

from more4d.foundation.config import from_mapping
from more4d.networks.conditioners import ClipVision, ClipVisionConfig, TextEncoderConfig, UMT5TextEncoder
from more4d.networks.motion_perception import OmniMAEConfig, OmniMAETrunk, TinyFeatures, TinyFeaturesConfig
from more4d.networks.strag import STraG, STraGConfig
from more4d.networks.text_grounding import TextGrounding, TextGroundingConfig
from more4d.networks.tiny_trajectory import TinyTrajectoryCodec, TinyTrajectoryConfig
from more4d.networks.tiny_video import TinyVideoCodec, TinyVideoConfig
from more4d.networks.trajectory_vae import WanTrajectoryVae, WanTrajectoryVaeConfig
from more4d.networks.video_vae import WanVideoVae, WanVideoVaeConfig
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.weights.network_files import Build


def _builder(network: type[nn.Module], config: type) -> Build:
    if not is_dataclass(config):
        raise TypeError(f"{config.__name__} must be a dataclass")

    def build(values: dict[str, Any]) -> nn.Module:
        return network(from_mapping(config, values))

    return build


NETWORKS: dict[str, tuple[type[nn.Module], type]] = {
    "strag": (STraG, STraGConfig),
    "vism": (ViSM, ViSMConfig),
    "umt5-text-encoder": (UMT5TextEncoder, TextEncoderConfig),
    "clip-vision": (ClipVision, ClipVisionConfig),
    "omnimae": (OmniMAETrunk, OmniMAEConfig),
    "tiny-features": (TinyFeatures, TinyFeaturesConfig),
    "prompt-reader": (TextGrounding, TextGroundingConfig),
    "tiny-trajectory-codec": (TinyTrajectoryCodec, TinyTrajectoryConfig),
    "tiny-video-codec": (TinyVideoCodec, TinyVideoConfig),
    "wan-video-vae": (WanVideoVae, WanVideoVaeConfig),
    "wan-trajectory-vae": (WanTrajectoryVae, WanTrajectoryVaeConfig),
}
"""Class and configuration by kind."""

BUILDERS: dict[str, Build] = {kind: _builder(*classes) for kind, classes in NETWORKS.items()}
"""What builds a network from its plain configuration, by kind."""

ROLES: dict[str, tuple[str, ...]] = {
    "trajectory_codec": ("tiny-trajectory-codec", "wan-trajectory-vae"),
    "strag": ("strag",),
    "text": ("umt5-text-encoder",),
    "video_codec": ("tiny-video-codec", "wan-video-vae", "wan-trajectory-vae"),
    "vism": ("vism",),
    "motion_features": ("omnimae", "tiny-features"),
    "clip": ("clip-vision",),
}
"""Which kinds of network can play which part of a preset."""
