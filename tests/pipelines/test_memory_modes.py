"""The pipelines in every memory mode: the same tracks and videos, with fewer weights on the device."""

import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from more4d import distributed
from more4d.distributed import ParallelGroup
from more4d.networks.interface import ViSMConditions
from more4d.performance.config import MEMORY_MODES, Memory
from more4d.performance.offload import TILE_PX, weight_bytes
from more4d.pipelines.components import Components
from more4d.pipelines.motion_filters import Guide
from more4d.pipelines.preset import load_preset
from more4d.pipelines.sampling import SamplingRequest
from more4d.pipelines.tracks import generate_motion
from more4d.pipelines.views import fill_holes
from more4d.raster.interface import Rendering
from tests.networks.fake_device import FakeDevice, fake_device

__all__ = ["fake_device"]

EXACT: tuple[Memory, ...] = ("model", "group", "sequential")
CONDITIONS = ViSMConditions(
    known_latents=torch.zeros(1, 16, 1, 2, 2),
    known_mask=torch.zeros(1, 4, 1, 2, 2),
    text=torch.zeros(1, 2, 16),
)


class Awake(Components):
    """Random generators whose heads, which begin at zero, say something."""

    def _open(self, part: str) -> Any:
        network = super()._open(part)
        if part in ("strag", "vism"):
            head = network.transformer.proj_out.weight
            with torch.no_grad():
                head.copy_(0.1 * torch.randn(head.shape, generator=torch.Generator().manual_seed(0)))
        return network


def opened(folder: Path, memory: Memory = "full", *, keep_loaded: bool = True) -> Components:
    preset = replace(load_preset(folder), memory=memory, keep_loaded=keep_loaded)
    return Awake(folder, preset)


def motion(models: Components) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    scene = Guide(
        colours=torch.rand(32, 48, 3, generator=generator),
        depth_m=1 + torch.rand(32, 48, generator=generator),
    )
    return generate_motion(models, scene, "it rolls", seed=1)


def video(models: Components, frames: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    known = torch.rand(frames, 32, 48, 3, generator=generator)
    coverage = (torch.rand(frames, 32, 48, generator=generator) > 0.3).float()
    rendering = Rendering(colour=known, depth_m=torch.ones(frames, 32, 48), coverage=coverage)
    return fill_holes(models, rendering, known[0], "it rolls", seed=1)


def made(models: Components) -> tuple[Tensor, Tensor]:
    """Motion and a video in two windows."""
    return motion(models), video(models, 9)


@pytest.fixture(scope="module")
def expected(random_wan_preset) -> tuple[Tensor, Tensor]:
    return made(opened(random_wan_preset))


def test_fp8_changes_results_by_little(random_wan_preset, expected):
    for exact, found in zip(expected, made(opened(random_wan_preset, "fp8")), strict=True):
        assert 0 < (found - exact).norm() < 0.08 * exact.norm()  # measured: 0.047 and 0.003


def test_other_modes_change_no_result_and_need_ever_less_on_the_device(
    random_wan_preset,
    expected,
    fake_device: FakeDevice,
):
    peaks = {}
    for memory in ("full", *EXACT):
        models = opened(random_wan_preset, memory, keep_loaded=memory != "group")
        found = made(models)
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True)), memory
        peaks[memory] = fake_device.peak_bytes
        fake_device.reset_peak()
    assert peaks["full"] > peaks["model"] >= peaks["group"] >= peaks["sequential"]
    blocks = (["text"], ["trajectory_codec", "motion_features"], ["strag"], ["video_codec"], ["vism"])
    assert peaks["model"] == max(
        sum(weight_bytes(models.network(part), "model", torch.float32).device_peak for part in together)
        for together in blocks
    )


def watched(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """For each part, when it is last loaded, the parts whose networks are in memory, whoever holds them."""
    alive: dict[str, weakref.ref] = {}
    beside: dict[str, set[str]] = {}
    load = Components._open

    def noted(self: Components, part: str) -> Any:
        beside[part] = {other for other, network in alive.items() if network() is not None}
        network = load(self, part)
        alive[part] = weakref.ref(network)
        return network

    monkeypatch.setattr(Components, "_open", noted)
    return beside


@pytest.mark.parametrize("memory", ["full", "group"])
def test_encoders_are_gone_before_the_generator_is_loaded(random_preset, monkeypatch, memory):
    models, beside = opened(random_preset, memory, keep_loaded=False), watched(monkeypatch)
    motion(models)
    assert beside["motion_features"] == {"trajectory_codec"}
    assert beside["strag"] == {"trajectory_codec"}
    video(models, 5)
    assert beside["vism"] == {"video_codec"}
    assert not models._loaded


class ReplayedGroup(ParallelGroup):
    """Stands in for `ParallelGroup` where this process is the only one: receives what it was given."""

    def __init__(self, *messages: Any) -> None:
        self.control_group, self.tensor_group = list(messages), None

    def receive(self) -> Any:
        return self.control_group.pop(0)


def test_a_sampling_worker_holds_one_generator_at_a_time(random_preset, monkeypatch):
    models, beside = opened(random_preset, keep_loaded=False), watched(monkeypatch)
    sampled: list[Any] = []
    monkeypatch.setattr(distributed, "sample_latents", lambda network, *_: sampled.append(type(network)))
    monkeypatch.setattr(distributed, "ContextParallel", lambda tensors: None)
    request = SamplingRequest(
        settings=models.preset.tracks, noise=torch.zeros(1, 16, 1, 2, 2), cond=CONDITIONS
    )
    group = ReplayedGroup(*((part, request) for part in ("strag", "strag", "vism")), 7)
    assert distributed.run_sampling_worker(models, group) == 7
    assert [kind.__name__ for kind in sampled] == ["STraG", "STraG", "ViSM"]
    assert beside == {"strag": set(), "vism": set()}


def test_a_prompt_is_encoded_once(random_preset, monkeypatch):
    models = opened(random_preset, keep_loaded=False)
    opened_parts = []
    load = Components._open
    monkeypatch.setattr(Components, "_open", lambda self, part: opened_parts.append(part) or load(self, part))
    assert torch.equal(motion(models), motion(models))
    assert opened_parts.count("text") == 1 and opened_parts.count("strag") == 2


def test_what_guidance_compares_with_is_encoded_only_where_it_is_needed(random_preset):
    models = opened(random_preset)
    assert models.preset.tracks.guidance != 1 and models.preset.views.guidance == 1
    video(models, 5)
    assert set(models._prompts) == {"it rolls"}
    motion(models)
    assert set(models._prompts) == {"it rolls", ""}


def test_modes_that_save_memory_decode_in_tiles(random_wan_preset):
    for memory in MEMORY_MODES:
        models = opened(random_wan_preset, memory)
        assert models.network("video_codec").tile_px == TILE_PX[memory]
        assert models.network("trajectory_codec").video.tile_px == TILE_PX[memory]


def test_only_fp8_makes_other_weights_of_a_generator(random_preset):
    names = {memory: opened(random_preset, memory).fingerprint("strag") for memory in MEMORY_MODES}
    assert len(set(names.values())) == 2 and names["fp8"] != names["full"]
    codecs = {opened(random_preset, memory).fingerprint("video_codec", "text") for memory in MEMORY_MODES}
    assert len(codecs) == 1
