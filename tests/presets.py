"""Whole sets of small random networks, in folders that a pipeline opens like any other."""

from pathlib import Path

import torch
import yaml

from more4d.depth.small import ARCHITECTURE
from more4d.networks.conditioners import TextEncoderConfig, UMT5TextEncoder
from more4d.networks.depth_net import SmallDepth, SmallDepthConfig
from more4d.networks.motion_perception import OmniMAEConfig, OmniMAETrunk, TinyFeatures, TinyFeaturesConfig
from more4d.networks.strag import STraG, STraGConfig, TextGroundingConfig
from more4d.networks.tiny_trajectory import TinyTrajectoryCodec, TinyTrajectoryConfig
from more4d.networks.tiny_video import TinyVideoCodec, TinyVideoConfig
from more4d.networks.trajectory_vae import WanTrajectoryVae, WanTrajectoryVaeConfig
from more4d.networks.video_vae import WanVideoVae, WanVideoVaeConfig
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.networks.wan_config import WanConfig
from more4d.weights.state import save_network


def write_random_preset(folder: Path, codecs: str) -> None:
    """A complete preset of random networks: 5 frames of about 32 x 48 pixels, output at twice that."""

    small = {
        "dim": 24,
        "ffn_dim": 48,
        "heads": 2,
        "layers": 2,
        "freq_dim": 16,
        "text_dim": 16,
        "text_length": 24,
    }
    tiny = codecs == "tiny"
    text = TextEncoderConfig(dim=16, layers=1, heads=2, head_dim=8, ff=32, length=24)
    if tiny:
        sizes = TinyFeaturesConfig(dim=16, widths=(8, 8, 8), blocks=(0, 1, 0, 1), attention=1, heads=2)
        features = (TinyFeatures(sizes), "tiny-features", sizes)
        image_channels, reader = (
            24,
            TextGroundingConfig(feature_dim=16, text_dim=16, dim=16, heads=2),
        )
    else:
        omnimae = OmniMAEConfig(image_size=32, patch=16, dim=16, depth=1, heads=2)
        features = (OmniMAETrunk(omnimae), "omnimae", omnimae)
        image_channels, reader = 16, None
    wan = WanConfig(
        in_channels=32 + image_channels + (reader.channels if reader else 0),
        reference_tokens=not tiny,
        motion_feature_dim=16,
        **small,
    )
    strag = STraGConfig(wan=wan, image_channels=image_channels, start_channels=0, text_grounding=reader)
    vae = WanVideoVaeConfig(base_dim=4, dim_mult=(1, 1, 1, 1), residual_blocks=1)
    depth = SmallDepthConfig(widths=(8, 8, 8, 8), blocks=(1, 1, 1, 1), global_blocks=1, heads=2)
    stems = {"width": 32, "guide_width": 8, "stem_width": 32}
    trajectory = TinyTrajectoryConfig(image_channels=image_channels, **stems)
    torch.manual_seed(0)
    networks = {
        "depth": (SmallDepth(depth), ARCHITECTURE, depth),
        "text": (UMT5TextEncoder(text), "umt5-text-encoder", text),
        "motion_features": features,
        "strag": (STraG(strag), "strag", strag),
        "vism": (vism := ViSM(ViSMConfig(wan=WanConfig(in_channels=36, **small))), "vism", vism.config),
    }
    if tiny:
        video = TinyVideoConfig(width=16, fine_width=8, blocks=1)
        networks["trajectory_codec"] = (TinyTrajectoryCodec(trajectory), "tiny-trajectory-codec", trajectory)
        networks["video_codec"] = (TinyVideoCodec(video), "tiny-video-codec", video)
    else:
        wan = WanTrajectoryVaeConfig(video=vae, adapter_width=32)
        networks["trajectory_codec"] = (WanTrajectoryVae(wan), "wan-trajectory-vae", wan)
        networks["video_codec"] = (WanVideoVae(vae), "wan-video-vae", vae)
    for part, (network, architecture, config) in networks.items():
        save_network(folder / f"{part}.safetensors", network, architecture=architecture, config=config)
    preset = {
        "name": f"random-{codecs}",
        "frames": 5,
        "pixels": 32 * 48,
        "tracks": {"steps": 1, "guidance": 1.5},
        "views": {"steps": 1},
        "components": {part: f"{part}.safetensors" for part in networks},
    }
    (folder / "preset.yaml").write_text(yaml.safe_dump(preset))
