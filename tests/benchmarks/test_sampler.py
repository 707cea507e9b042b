"""The benchmark of the sampler counts and judges right; how long things take is not tested."""

import argparse

import pytest
import torch

from benchmarks.sampler import Subject, cases, measured, targets
from more4d.networks.strag import STraGConfig
from more4d.networks.wan_config import PUBLISHED, WanConfig

SMALL = {"dim": 48, "ffn_dim": 96, "heads": 2, "layers": 2, "freq_dim": 16, "text_dim": 16, "text_length": 8}
FULL = {"memory": "full", "case": "best attention"}


def subject(wan: WanConfig, frames: int, size: tuple[int, int], device: str = "cpu") -> Subject:
    return Subject(
        kind="strag",
        config=STraGConfig(wan=wan),
        frames=frames,
        size=size,
        device=torch.device(device),
        dtype=torch.float32,
    )


def arguments(**values: object) -> argparse.Namespace:
    usual = {"preset": "fun-14b", "layers": None, "steps": 2, "everything": False, "compile": False}
    return argparse.Namespace(**(usual | {"device": "cpu"} | values))


def test_the_tokens_of_the_published_size_are_those_of_the_method():
    full = subject(PUBLISHED["strag-14b"], 49, (368, 512))
    assert full.tokens == (9568, 736)
    assert 2 * full.flops == pytest.approx(0.7e15, rel=0.05)


def test_a_step_is_timed_and_its_arithmetic_counted():
    wan = WanConfig(in_channels=64, image_dim=32, reference_tokens=True, motion_feature_dim=8, **SMALL)
    small = subject(wan, 5, (32, 48))
    (plain,) = cases(arguments(steps=2))
    row = measured(small, plain, rate=1e9)
    assert "failed" not in row and row["blocks_computed"] == 4
    assert row["mfu"] == pytest.approx(2 * small.flops / row["seconds_per_step"] / 1e9)


def test_targets_are_judged_at_their_own_size_on_a_gpu_only():
    rows = [
        {**FULL, "mfu": 0.55, "seconds_per_step": 1.9},
        {**FULL, "case": "cached sample", "seconds_per_step": 1.0, "seconds_in_all": 24.0},
        {**FULL, "memory": "fp8", "peak_gib": 21.0, "seconds_per_step": 2.5, "mfu": 0.4},
        {**FULL, "memory": "group", "failed": "out of memory"},
    ]
    there = subject(PUBLISHED["strag-14b"], 49, (368, 512), "cuda")
    judged = {name: told["met"] for name, told in targets(there, arguments(), rows).items()}
    assert judged == {
        "mfu": True,
        "seconds_per_guided_step": False,
        "seconds_per_cached_sample": True,
        "gib_of_small_mode": True,
    }
    here = targets(subject(PUBLISHED["strag-14b"], 49, (368, 512)), arguments(), rows)
    assert all("not yet measured" in told["met"] for told in here.values())


def test_everything_has_every_memory_mode_and_a_cached_sample():
    made = list(cases(arguments(everything=True, device="cuda")))
    assert {case.memory for case in made} == {"full", "model", "group", "fp8", "sequential"}
    cached = [case for case in made if case.settings.cache is not None]
    assert cached and all(case.settings.steps == 20 for case in cached)
