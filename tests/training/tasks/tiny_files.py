"""Small networks of the tiny preset, each after a step of training, for tests of tasks that build on them."""

import math

import torch

from more4d.datasets import procedural
from more4d.datasets.labelled_images import LabelledImageOptions
from more4d.datasets.procedural import ProceduralOptions
from more4d.datasets.view_pairs import HoleOptions
from more4d.networks.conditioners import TextEncoderConfig
from more4d.networks.motion_perception import TinyFeaturesConfig
from more4d.networks.strag import STraGConfig
from more4d.networks.text_grounding import TextGroundingConfig
from more4d.networks.tiny_trajectory import TinyTrajectoryConfig
from more4d.networks.tiny_video import TinyVideoConfig
from more4d.networks.wan_config import WanConfig
from more4d.training.generator import StartOptions
from more4d.training.tasks.tiny_encoders import TextOptions, TextTask, TinyFeaturesOptions, TinyFeaturesTask
from more4d.training.tasks.tiny_strag import TinySTraGOptions
from more4d.training.tasks.tiny_trajectory import TinyTrajectoryOptions, TinyTrajectoryTask
from more4d.training.tasks.tiny_video import TinyVideoOptions, TinyVideoTask

CLIPS = ProceduralOptions(shapes=((32, 48),), group=2, frames=5)
VIEWS = HoleOptions(shapes=((32, 48),), group=2, frames=5, pairs=2)
TEXT = TextEncoderConfig(dim=16, layers=1, heads=2, head_dim=8, ff=16, length=96)
READER = TextGroundingConfig(feature_dim=16, text_dim=16, dim=16, heads=2)
WAN = {"dim": 32, "ffn_dim": 32, "heads": 2, "layers": 1, "freq_dim": 16, "text_dim": 16, "text_length": 96}


def losses(task, steps=2):
    """Loss of each of a few steps of plain gradient descent, on batches of two."""
    optimiser = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=1e-3)
    data, values = task.dataset(), []
    for step in range(steps):
        batch = task.collate([data[2 * step], data[2 * step + 1]])
        metrics = task(batch, torch.Generator().manual_seed(step))
        metrics["loss"].backward()
        optimiser.step()
        values.append(float(metrics["loss"].detach()))
    assert all(math.isfinite(value) for value in values)
    return values


def features_options(folder):
    return TinyFeaturesOptions(
        text=folder / "text_encoder.safetensors",
        network=TinyFeaturesConfig(dim=16, widths=(8, 8, 8), blocks=(0, 1, 0, 1), attention=1, heads=2),
        text_grounding=READER,
        data=LabelledImageOptions(shapes=((32, 48),), group=2, captions_per_scene=2),
    )


def tiny_strag_options(folder):
    """Options of a small task that trains everything around the generator, too."""
    return TinySTraGOptions(
        network=STraGConfig(
            wan=WanConfig(in_channels=76, reference_tokens=True, motion_feature_dim=16, **WAN),
            start_channels=0,
            text_grounding=READER,
        ),
        motion_features_weights=folder / "motion_features.safetensors",
        codec=folder / "trajectory_codec.safetensors",
        text=folder / "text_encoder.safetensors",
        train_text=True,
        start=StartOptions(text_grounding=folder / "prompt_reader.safetensors"),
        train_text_grounding=True,
        data=CLIPS,
        decoded_clips=1,
    )


def write_tiny_files(tmp_path, monkeypatch):
    """Exported codecs and text encoder, each after a step of training."""
    monkeypatch.setattr(procedural, "VOCABULARY_SCENES", 40)
    torch.manual_seed(0)
    small = TinyTrajectoryConfig(width=32, guide_width=16, stem_width=32)
    trajectory = TinyTrajectoryTask(TinyTrajectoryOptions(network=small, data=CLIPS, statistics_clips=3))
    video = TinyVideoTask(
        TinyVideoOptions(
            network=TinyVideoConfig(width=16, fine_width=16, blocks=1), data=VIEWS, statistics_clips=2
        )
    )
    text = TextTask(TextOptions(network=TEXT, heads=2))
    for task in (trajectory, video, text):
        losses(task, 1)
        task.export(tmp_path, {"made": "by a test"})
    features = TinyFeaturesTask(features_options(tmp_path))
    losses(features, 1)
    features.export(tmp_path, {})
    return tmp_path
