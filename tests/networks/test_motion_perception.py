"""Laws of the Motion Perception Module."""

from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from more4d.networks.motion_perception import MotionFeatureAdapter, MotionModulation, TokenSpan

ALL = TokenSpan(0, 12)


def opened(feature_dim: int = 6, dim: int = 8) -> MotionModulation:
    """A module whose gate is open."""
    guidance = MotionModulation(feature_dim, dim)
    with torch.no_grad():
        guidance.gate.normal_()
        guidance.linear.bias.normal_()
    return guidance


def test_a_new_module_is_the_identity():
    torch.manual_seed(0)
    tokens = torch.randn(2, 12, 8)
    assert torch.equal(MotionModulation(6, 8)(tokens, torch.randn(2, 4, 6), ALL), tokens)


def test_a_new_module_can_learn():
    """Only one of gate and linear layer is zero: were both, neither would ever have a gradient."""
    torch.manual_seed(0)
    guidance, tokens, features = MotionModulation(6, 8), torch.randn(2, 12, 8), torch.randn(2, 4, 6)
    optimiser = torch.optim.SGD(guidance.parameters(), lr=0.1)
    guidance(tokens, features, ALL).square().sum().backward()
    assert guidance.gate.grad is not None and guidance.gate.grad.abs().min() > 0
    optimiser.step()
    optimiser.zero_grad()
    guidance(tokens, features, ALL).square().sum().backward()
    assert guidance.linear.weight.grad is not None and guidance.linear.weight.grad.abs().max() > 0


def test_guidance_equals_the_formula_with_features_repeated_per_token():
    """The slow twin: features repeated over frames, zero scale and shift for the tokens in front."""
    torch.manual_seed(0)
    guidance, frames, cells, in_front = opened(), 3, 4, 4
    tokens, features = torch.randn(2, in_front + frames * cells, 8), torch.randn(2, cells, 6)
    scale, shift = guidance.linear(functional.silu(features.repeat(1, frames, 1))).chunk(2, dim=-1)
    scale, shift = (functional.pad(part, (0, 0, in_front, 0)) for part in (scale, shift))
    expected = tokens * (1 + scale * guidance.gate) + shift * guidance.gate
    assert torch.allclose(
        guidance(tokens, features, TokenSpan(in_front, tokens.shape[1])), expected, atol=1e-6
    )


def test_a_cell_guides_its_own_token_in_every_frame_and_no_other():
    torch.manual_seed(0)
    guidance, cells = opened(), 5
    tokens, features = torch.randn(1, 4 * cells, 8), torch.randn(1, cells, 6)
    changed = features.clone()
    changed[:, 2] += 1
    video = TokenSpan(cells, 4 * cells)
    difference = (guidance(tokens, changed, video) - guidance(tokens, features, video)).abs().sum(dim=-1)[0]
    assert set(difference.nonzero().flatten().tolist()) == {cells + 2, 2 * cells + 2, 3 * cells + 2}


def test_one_cell_guides_all_tokens_alike():
    torch.manual_seed(0)
    guidance, tokens, feature = opened(), torch.randn(2, 9, 8), torch.randn(2, 1, 6)
    video = TokenSpan(3, 9)
    alike = guidance(tokens, feature.expand(-1, 3, -1), video)
    assert torch.allclose(guidance(tokens, feature, video), alike, atol=1e-6)


@pytest.mark.parametrize("guided", [TokenSpan(5, 20), TokenSpan(0, 15)], ids=["front", "published"])
@pytest.mark.parametrize("cells", [1, 5])
def test_guidance_of_pieces_is_pieces_of_the_guidance(guided, cells):
    """Wherever the tokens are cut: within a frame, at its end, within what is not guided."""
    torch.manual_seed(0)
    guidance, tokens, features = opened(), torch.randn(2, 20, 8), torch.randn(2, cells, 6)
    whole = guidance(tokens, features, guided)
    assert (whole - tokens).abs().amax(dim=(0, 2)).gt(0.01).sum() == guided.stop - guided.start
    for cuts in ([7, 13], [5, 10, 15], [1, 2, 19], [17], [4]):
        pieces = [
            guidance(tokens[:, start:stop], features, guided.within(start, stop, cells))
            for start, stop in pairwise([0, *cuts, 20])
        ]
        assert torch.allclose(torch.cat(pieces, dim=1), whole, atol=1e-6)


def test_the_adapter_brings_features_to_the_token_grid_row_by_row():
    torch.manual_seed(0)
    adapter, features = MotionFeatureAdapter(6), torch.randn(2, 6, 7, 7)
    cells = adapter(features, (3, 5))
    adapted = adapter.second(functional.silu(adapter.first(features)))
    expected = functional.interpolate(adapted, size=(3, 5), mode="bilinear", align_corners=False)
    assert cells.shape == (2, 15, 6)
    assert torch.allclose(cells[:, 5 + 3], expected[:, :, 1, 3], atol=1e-6)
