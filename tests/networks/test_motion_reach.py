"""How far things go as a condition: ranks and their inverse, and what adds nothing."""

from dataclasses import replace

import pytest
import torch

from more4d.networks.interface import STraGConditions
from more4d.networks.motion_reach import MotionReach, MotionReachConfig
from more4d.networks.strag import STraG, STraGConfig
from more4d.networks.wan_config import WanConfig

SIZES = {"dim": 24, "ffn_dim": 48, "heads": 2, "layers": 1, "freq_dim": 16, "text_dim": 16, "text_length": 8}


def network() -> MotionReach:
    torch.manual_seed(0)
    made = MotionReach(MotionReachConfig(dim=24, blocks=1, freq_dim=16, quantiles=5))
    made.motion_quantiles.copy_(torch.tensor([0.01, 0.05, 0.1, 0.3, 1.0]))
    return made


def test_a_rank_is_the_place_among_the_quantiles():
    reaches = torch.tensor([0.001, 0.01, 0.03, 0.1, 0.65, 7.0])
    assert network().rank(reaches).tolist() == pytest.approx([0, 0, 0.125, 0.5, 0.875, 1], abs=1e-5)
    assert network().rank(torch.zeros(1)).isnan()  # nothing moves: unknown


def test_what_is_unknown_or_untrained_adds_nothing():
    made = network()
    assert not made(torch.tensor([0.2, 0.9])).any()
    torch.nn.init.ones_(made.motion_reach[2].weight)
    added = made(torch.tensor([0.2, torch.nan, 0.9]))
    assert added[0].any()
    assert not added[1].any()
    assert not torch.equal(added[0], added[2])


def test_a_reach_of_zeros_changes_no_bit_and_another_does():
    torch.manual_seed(1)
    strag = STraG(STraGConfig(wan=WanConfig(in_channels=64, **SIZES))).eval()
    torch.nn.init.normal_(strag.transformer.proj_out.weight)
    latents = torch.randn(4, 1, 16, 2, 4, 4)
    conditions = STraGConditions(
        image_latents=latents[0], depth_latents=latents[1], text=torch.randn(1, 8, 16)
    )
    with torch.no_grad():
        plain, zero, far = (
            strag(latents[2], torch.tensor([0.8]), replace(conditions, reach=reach))
            for reach in (None, torch.zeros(1, 7, 24), torch.ones(1, 7, 24))
        )
    assert torch.equal(plain, zero)
    assert not torch.allclose(plain, far)
