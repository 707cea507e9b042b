"""Every kind of network file, and what builds its network."""

from dataclasses import is_dataclass
from typing import Any

from torch import nn

from more4d.foundation.config import from_mapping
from more4d.networks.conditioners import ClipVision, ClipVisionConfig, TextEncoderConfig, UMT5TextEncoder
from more4d.networks.omnimae import OmniMAEConfig, OmniMAETrunk
from more4d.networks.strag import STraG, STraGConfig
from more4d.networks.tiny_trajectory import TinyTrajectoryCodec, TinyTrajectoryConfig
from more4d.networks.tiny_video import TinyVideoCodec, TinyVideoConfig
from more4d.networks.trajectory_vae import WanTrajectoryVae, WanTrajectoryVaeConfig
from more4d.networks.video_vae import WanVideoVae, WanVideoVaeConfig
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.networks.weights import Build


def _builder(network: type[nn.Module], config: type) -> Build:
    if not is_dataclass(config):
        raise TypeError(f"{config.__name__} must be a dataclass")

    def build(values: dict[str, Any]) -> nn.Module:
        return network(from_mapping(config, values))

    return build


BUILDERS: dict[str, Build] = {
    "strag": _builder(STraG, STraGConfig),
    "vism": _builder(ViSM, ViSMConfig),
    "umt5-text-encoder": _builder(UMT5TextEncoder, TextEncoderConfig),
    "clip-vision": _builder(ClipVision, ClipVisionConfig),
    "omnimae": _builder(OmniMAETrunk, OmniMAEConfig),
    "tiny-trajectory-codec": _builder(TinyTrajectoryCodec, TinyTrajectoryConfig),
    "tiny-video-codec": _builder(TinyVideoCodec, TinyVideoConfig),
    "wan-video-vae": _builder(WanVideoVae, WanVideoVaeConfig),
    "wan-trajectory-vae": _builder(WanTrajectoryVae, WanTrajectoryVaeConfig),
}
