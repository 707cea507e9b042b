"""Training how far things go: what is trained, what is exported, and the loss on magnitudes."""

import json
import math

import pytest
import torch

from more4d.datasets.batch import ClipBatch
from more4d.datasets.procedural import ProceduralOptions
from more4d.foundation.errors import ConfigError
from more4d.geometry.rigid_motion import quantiles_text
from more4d.networks.motion_reach import MotionReach
from more4d.training.generator import FlowOptions, FlowSample, StartOptions
from more4d.training.motion_reach import ReachOptions, magnitude_loss
from more4d.training.tasks.strag import STraGOptions, STraGTask, clip_reaches
from more4d.weights.load import inspect, load
from more4d.weights.lora.merge import LoraOptions
from tests.presets import write_random_preset

QUANTILES = (0.01, 0.1, 1.0)


def task_in(folder, lora=None, **reach):
    write_random_preset(folder, "tiny")
    return STraGTask(
        STraGOptions(
            codec=folder / "trajectory_codec.safetensors",
            text=folder / "text.safetensors",
            motion_features_weights=folder / "motion_features.safetensors",
            start=StartOptions(weights=folder / "strag.safetensors", lora=lora),
            data=ProceduralOptions(shapes=((32, 48),), group=2, frames=5),
            flow=FlowOptions(shift=1.0),
            motion_reach=ReachOptions(quantiles=QUANTILES, magnitude_weight=0.1, **reach),
        )
    )


def clips():
    """Two clips in which a square goes to the right."""
    numbers, motion = torch.Generator().manual_seed(0), torch.zeros(2, 3, 5, 32, 48)
    motion[:, 0, :, 8:24, 8:24] = torch.linspace(0, 0.2, 5)[:, None, None]
    return ClipBatch(
        image=torch.rand(2, 3, 32, 48, generator=numbers) * 2 - 1,
        depth_m=torch.full((2, 1, 32, 48), 3.0),
        motion=motion,
        weight=torch.ones(2, 1, 5, 32, 48),
        objects=torch.zeros(2, 1, 32, 48),
        captions=("the box slides to the right",) * 2,
    )


def test_the_reach_of_a_clip_is_that_of_what_moves():
    expected = (torch.linspace(0, 0.2, 5).square().mean().sqrt(),) * 2
    assert clip_reaches(clips()).tolist() == pytest.approx([float(each) for each in expected])


def test_alone_the_condition_is_all_that_is_trained_and_exported(tmp_path):
    task = task_in(tmp_path, alone=True, unknown=0.0)
    # a network whose velocity is zero whatever it is told has no gradient
    torch.nn.init.normal_(task.strag.transformer.proj_out.weight, std=0.1)
    metrics = task(task.encode(clips()), torch.Generator().manual_seed(0))
    metrics["loss"].backward()
    assert {"flow", "magnitude"} <= metrics.keys()
    trained = {name for name, each in task.named_parameters() if each.requires_grad}
    assert trained == {
        f"motion_reach.motion_reach.{layer}" for layer in ("0.weight", "0.bias", "2.weight", "2.bias")
    }
    assert task.motion_reach.motion_reach[2].weight.grad.any()
    (path,) = task.export(tmp_path, {})
    found = load(inspect(path, role="motion_reach"))
    assert isinstance(found, MotionReach)
    assert found.motion_quantiles.tolist() == pytest.approx(QUANTILES)


def test_beside_a_lora_the_condition_is_trained_whole(tmp_path):
    task = task_in(tmp_path, lora=LoraOptions(rank=2, alpha=2.0))
    trained = {name for name, each in task.named_parameters() if each.requires_grad}
    assert {f"motion_reach.{name}" for name, _ in task.motion_reach.named_parameters()} < trained
    assert all("lora" in name for name in trained if name.startswith("strag."))
    assert [path.stem for path in task.export(tmp_path, {})] == ["motion_reach", "strag_lora"]


def test_alone_goes_without_a_lora():
    with pytest.raises(ConfigError, match=r"motion_reach.alone .* options.start.lora"):
        STraGOptions(
            start=StartOptions(lora=LoraOptions(rank=2)),
            motion_reach=ReachOptions(quantiles=QUANTILES, alone=True),
        )


def test_the_loss_compares_magnitudes_below_half_noise_only():
    clean = torch.randn(2, 16, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    moving = torch.ones(2, 1, 4, 4)

    def loss(sigma, size):
        start = FlowSample(noisy=clean, sigma=torch.tensor(sigma), target=clean)
        # the estimate is noisy - sigma v
        velocity = (1 - size) * clean / torch.tensor(sigma).view(2, 1, 1, 1, 1)
        return float(magnitude_loss(start, velocity, clean, moving))

    assert loss([0.2, 0.4], 1.0) == pytest.approx(0, abs=1e-9)
    assert loss([0.2, 0.4], 0.5) == pytest.approx(math.log(4) ** 2, rel=0.05)
    assert loss([0.6, 0.9], 0.5) == 0
    assert loss([0.2, 0.9], 0.5) == pytest.approx(loss([0.2, 0.4], 0.5), rel=0.05)


def test_quantiles_are_of_what_moves():
    assert quantiles_text([0.0, 1.0, 3.0, 2.0], count=3) == "[1, 2, 3]"
    assert quantiles_text([0.0, 1.0]) == quantiles_text([1.0, 1.0]) == ""
    # Equal neighbours are no ranks: fewer quantiles, which training takes.
    assert quantiles_text([0.1, 0.1, 0.1, 0.2]) == "[0.1, 0.2]"
    text = quantiles_text([0.1, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert len(ReachOptions(quantiles=tuple(json.loads(text))).quantiles) < 21


@pytest.mark.parametrize("values", [(), (0.1,), (0.2, 0.1)])
def test_impossible_quantiles_are_refused(values):
    with pytest.raises(ConfigError, match="more4d data cache"):
        ReachOptions(quantiles=values)
