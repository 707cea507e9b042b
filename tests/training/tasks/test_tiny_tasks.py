"""Laws of the tasks that train the tiny preset: every network learns from every batch, and exports load
again.
"""

import math

import pytest
import torch

from more4d.datasets import captions
from more4d.datasets.batch import ClipBatch, ViewBatch
from more4d.datasets.holes import HoleOptions
from more4d.datasets.procedural import ProceduralOptions
from more4d.foundation.errors import ConfigError
from more4d.networks.conditioners import TextEncoderConfig
from more4d.networks.omnimae import OmniMAEConfig
from more4d.networks.registry import BUILDERS
from more4d.networks.strag import STraGConfig
from more4d.networks.tiny_trajectory import TinyTrajectoryConfig
from more4d.networks.tiny_video import TinyVideoConfig
from more4d.networks.vism import ViSMConfig
from more4d.networks.wan import WanConfig
from more4d.networks.weights import load_network
from more4d.training.run import task_type
from more4d.training.tasks.strag import STraGOptions, STraGTask
from more4d.training.tasks.text import TextOptions, TextTask
from more4d.training.tasks.tiny_trajectory import TinyTrajectoryOptions, TinyTrajectoryTask
from more4d.training.tasks.tiny_video import TinyVideoOptions, TinyVideoTask
from more4d.training.tasks.vism import ViSMOptions, ViSMTask

CLIPS = ProceduralOptions(shapes=((32, 48),), group=2, frames=5)
VIEWS = HoleOptions(shapes=((32, 48),), group=2, frames=5, pairs=2)
TEXT = TextEncoderConfig(dim=16, layers=1, heads=2, head_dim=8, ff=16, length=96)
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


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Exported codecs and text encoder, each after a step of training."""
    monkeypatch.setattr(captions, "SURVEY", 40)
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
    return tmp_path


def test_strag_trains_all_but_the_motion_codec(folder):
    options = STraGOptions(
        network=STraGConfig(
            wan=WanConfig(in_channels=48, reference_tokens=True, motion_feature_dim=16, **WAN),
            start_channels=0,
        ),
        motion_features=OmniMAEConfig(image_size=32, patch=16, dim=16, depth=1, heads=2),
        codec=folder / "trajectory_codec.safetensors",
        text=folder / "text_encoder.safetensors",
        train_text=True,
        data=CLIPS,
        decoded_clips=1,
    )
    task = STraGTask(options)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    losses(task, 3)
    changed = {name for name, value in task.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith(("codec.encoder", "codec.decoder")) for name in changed)
    for part in ("codec.image_stem", "codec.depth_stem", "text_encoder", "motion_features", "strag"):
        assert any(name.startswith(part) for name in changed), part
    for path in task.export(folder / "out", {}):
        load_network(path, BUILDERS)


def test_a_still_clip_weighs_every_cell_alike(folder):
    options = STraGOptions(
        network=STraGConfig(wan=WanConfig(in_channels=48, **WAN), start_channels=0),
        motion_features=OmniMAEConfig(image_size=32, patch=16, dim=16, depth=1, heads=2),
        codec=folder / "trajectory_codec.safetensors",
        text=folder / "text_encoder.safetensors",
        data=CLIPS,
    )
    task = STraGTask(options)
    clip = task.dataset()[0]
    still = ClipBatch(**{**vars(clip), "motion": torch.zeros_like(clip.motion)})
    weight = task._cell_weight(still, task.codec.moving_mask(still.motion))
    assert weight.shape == (1, 1, 2, 4, 6)
    assert (weight == 1).all()


def test_vism_trains_itself_only(folder):
    options = ViSMOptions(
        network=ViSMConfig(wan=WanConfig(in_channels=36, **WAN)),
        codec=folder / "video_codec.safetensors",
        text=folder / "text_encoder.safetensors",
        data=VIEWS,
    )
    task = ViSMTask(options)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    losses(task)
    changed = {name for name, value in task.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("vism.") for name in changed)
    for path in task.export(folder / "out", {}):
        load_network(path, BUILDERS)


def test_batches_of_views_are_joined_in_order():
    views = TinyVideoTask(TinyVideoOptions(data=VIEWS)).dataset()
    joined = ViewBatch.collate([views[0], views[1]])
    assert torch.equal(joined.truth[1:], views[1].truth)


def test_an_unknown_task_lists_those_there_are():
    with pytest.raises(ConfigError, match="strag"):
        task_type("poetry")
